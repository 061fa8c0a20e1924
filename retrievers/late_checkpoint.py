"""A retriever of one vector a token: how its checkpoint is used, its encoder, and the store of its vectors."""

import dataclasses
from abc import ABC
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from harness.retrievers.late_options import LateOptions
from harness.retrievers.on_checkpoint import OnCheckpoint
from harness.retrievers.types import Corpus

if TYPE_CHECKING:
    from harness.models.checkpoints.late_layouts import LateLayout, LateSpec
    from harness.retrievers.late_encoding import TokenEncoder
    from harness.retrievers.store import Header


class WithLateCheckpoint(OnCheckpoint, ABC):
    """What options, the checkpoint's own files and the catalog's entry come to; nothing is loaded unasked."""

    Options = LateOptions
    aside = (*OnCheckpoint.aside, "first_stage", "first_stage_options", "depth", "exhaustive_gib")
    options: LateOptions

    @cached_property
    def layout(self) -> "LateLayout":
        """What the checkpoint's files say. Raises CheckpointError for a folder of another kind or architecture.

        A folder of sentence-transformers says itself what it is made of, so it may be of any architecture.
        """
        from harness.models.checkpoints import late_layouts, layouts

        found = late_layouts.read(self.folder)
        architecture = self.entry.architecture if found.kind == "ColBERT" else None
        layouts.demand(found, architecture, self.entry.layout, self.entry.system)
        return found

    @cached_property
    def spec(self) -> "LateSpec":
        """The checkpoint's own choices, and the lengths of the options, else of the entry."""
        query = self.options.query_length or self.entry.query_length
        return self.layout.spec.lengths(query, self.options.max_length or self.entry.passage_length)

    @cached_property
    def encoder(self) -> "TokenEncoder":
        """The checkpoint, loaded and on its device."""
        import torch

        from harness.models.checkpoints import late
        from harness.retrievers.late_encoding import TokenEncoder

        loaded = late.load(self.layout, self.spec, torch.bfloat16 if self.precision == "bf16" else torch.float32)
        loaded.encoder.to(self.device)
        return TokenEncoder(loaded, self.device, self.titles, self.entry.missing_title)

    def described(self) -> dict[str, Any]:
        """How texts became vectors, for the record."""
        spec = dataclasses.asdict(self.spec) | {"skipped": " ".join(self.spec.skipped)}
        where = {"titles": self.titles, "device": str(self.device), "precision": self.precision}
        return spec | where | {"width": self.encoder.loaded.width}

    def header(self, corpus: Corpus) -> "Header":
        """What decides the bytes of the store of a corpus."""
        from harness.retrievers.store import Header

        relevant = ("passage_length", "passage_prefix", "passage_marker", "skipped", "unit")
        own = {"kind": "token vectors", "width": self.encoder.loaded.width}
        titles = {"titles": self.titles, "missing_title": self.entry.missing_title}
        return Header(
            checkpoint_hash=self.checkpoint_hash,
            corpus_hash=corpus.content_hash,
            spec={name: getattr(self.spec, name) for name in relevant} | own | titles,
            precision=f"{self.precision} on {self.device.type}",
            libraries={name: version(name) for name in self.packages},
            batch_rule=self.encoder.batch_rule,
            documents=corpus.count,
            shard_documents=self.options.shard_documents,
        )
