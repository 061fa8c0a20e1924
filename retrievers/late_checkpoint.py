"""A retriever that runs a late-interaction checkpoint: which one, how it is used, on what device, and loaded."""

import dataclasses
from abc import ABC
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from retrievers.errors import InputError
from retrievers.late_options import LateOptions
from retrievers.registry import PaperRow, Retriever
from retrievers.types import Corpus

if TYPE_CHECKING:
    import torch

    from models.late_layouts import LateLayout, LateSpec
    from retrievers.late_encoding import TokenEncoder
    from retrievers.store import Header


class LateEntry(NamedTuple):
    """What the catalog says of a late-interaction checkpoint."""

    system: str
    checkpoint: str
    revision: str
    paper_rows: tuple[PaperRow, ...]
    titles: bool


class WithLateCheckpoint(Retriever, ABC):
    """What options, the checkpoint's own files and the entry come to; nothing is loaded before it is asked for."""

    Options = LateOptions
    packages = ("tokenizers", "torch", "transformers")
    entry: ClassVar[LateEntry]
    options: LateOptions

    @cached_property
    def folder(self) -> Path:
        """The checkpoint's folder. Raises CheckpointError where it cannot be found."""
        from models import hub

        if self.options.checkpoint:
            return hub.locate(self.options.checkpoint)
        return hub.locate(self.entry.checkpoint, self.entry.revision)

    @cached_property
    def layout(self) -> "LateLayout":
        """What the checkpoint's files say. Raises CheckpointError for a folder of another kind."""
        from models import late_layouts

        return late_layouts.read(self.folder)

    @cached_property
    def spec(self) -> "LateSpec":
        """The checkpoint's own choices, and the options' lengths."""
        return self.layout.spec.lengths(self.options.query_length, self.options.max_length)

    @cached_property
    def checkpoint_hash(self) -> str:
        """Over the files that decide the vectors."""
        from models import hub

        return hub.content_hash(self.folder)

    @property
    def titles(self) -> bool:
        """Whether a passage's title comes before its text."""
        return self.entry.titles if self.options.titles is None else self.options.titles

    @cached_property
    def device(self) -> "torch.device":
        """Where the encoder and the search run. Raises InputError for a GPU that is not there."""
        import torch

        wanted = self.options.device
        if wanted == "cuda" and not torch.cuda.is_available():
            raise InputError("--device cuda: no GPU is visible to torch. Use auto or cpu, or install a CUDA build.")
        return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")

    @property
    def precision(self) -> str:
        """Of the encoder's arithmetic: fp32 or bf16."""
        if self.options.precision != "auto":
            return self.options.precision
        return "bf16" if self.device.type == "cuda" else "fp32"

    @cached_property
    def encoder(self) -> "TokenEncoder":
        """The checkpoint, loaded and on its device."""
        import torch

        from models import late
        from retrievers.late_encoding import TokenEncoder

        loaded = late.load(self.layout, self.spec, torch.bfloat16 if self.precision == "bf16" else torch.float32)
        loaded.encoder.to(self.device)
        return TokenEncoder(loaded, self.device, self.titles)

    def described(self) -> dict[str, Any]:
        """How texts became vectors, for the record."""
        spec = dataclasses.asdict(self.spec) | {"skipped": "".join(self.spec.skipped)}
        where = {"titles": self.titles, "device": str(self.device), "precision": self.precision}
        return spec | where | {"width": self.encoder.loaded.width}

    def header(self, corpus: Corpus) -> "Header":
        """What decides the bytes of the store of a corpus."""
        from retrievers.store import Header

        loaded = self.encoder.loaded
        relevant = ("passage_length", "passage_prefix", "passage_marker", "skipped", "unit")
        return Header(
            checkpoint_hash=self.checkpoint_hash,
            corpus_hash=corpus.content_hash,
            spec={name: getattr(self.spec, name) for name in relevant}
            | {"kind": "token vectors", "width": loaded.width, "titles": self.titles},
            precision=f"{self.precision} on {self.device.type}",
            libraries={name: version(name) for name in self.packages},
            batch_rule=self.encoder.batch_rule,
            documents=corpus.count,
            shard_documents=self.options.shard_documents,
        )
