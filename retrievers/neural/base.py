"""A retriever that runs a checkpoint: which one, on what device, and what the catalog says of it."""

from abc import ABC
from collections.abc import Iterable
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from harness.retrievers import devices
from harness.retrievers.encoding.text_form import Form
from harness.retrievers.encoding.windows import Grouping, Splitter, WindowedCorpus, Windows, WindowScore
from harness.retrievers.errors import InputError
from harness.retrievers.neural.catalog import Entry
from harness.retrievers.registry import About, Options, Retriever
from harness.retrievers.types import Corpus, Job

if TYPE_CHECKING:
    import torch

    from harness.retrievers.encoding.store import Header, Shard


_MANY_CUT = 0.01  # of the texts, of which the record shall say so


class CheckpointOptions(Options):
    """What a user may change of any of them."""

    checkpoint: str | None = Field(None, description="folder, hub id or a packaged model")
    titles: bool | Form | None = Field(
        None, description="how a passage's title comes before its text: space, separator, pair, typed pair, none"
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 on a GPU that has it, else fp32")
    shard_documents: int = Field(16_384, ge=1, description="documents of a shard, the unit in which encoding resumes")
    windows: str | None = Field(None, description="TOKENS/STRIDE, such as 256/128: documents are searched by windows")
    window_score: WindowScore | None = Field(
        None, description="of a document, from those of its windows: max (unless given), first, sum, top3"
    )

    @model_validator(mode="after")
    def _by_windows(self) -> "CheckpointOptions":
        if self.windows is not None:
            Windows.of(self.windows)
            if getattr(self, "max_length", None) is not None:
                raise ValueError("windows and max_length both say how long a passage is: give one")
        elif self.window_score is not None:
            raise ValueError("window_score says how windows make a score, and there are none: give windows as well")
        return self


class OnCheckpoint(Retriever, ABC):
    """What options and the catalog's entry come to; nothing is loaded unasked."""

    packages = ("tokenizers", "torch", "transformers")
    entry: ClassVar[Entry]
    prefix: ClassVar[str] = ""  # of a name such as hf:NAME, which leaves no room for --checkpoint
    # the options that do not depart from how the entry's checkpoint is used
    aside: ClassVar[tuple[str, ...]] = ("checkpoint", "device", "precision", "shard_documents")
    options: CheckpointOptions
    _windows: tuple[int, int] = 0, 0  # that were searched, and of how many documents
    _cut: int | None = None  # texts that were longer than the encoder reads

    @classmethod
    def about(cls) -> About:
        """What the catalog says."""
        entry = cls.entry
        return About(
            system=entry.system,
            paper_rows=entry.paper_rows,
            kind=entry.kind,
            width=entry.width,
            bytes_per_document=entry.bytes_per_document,
            checkpoint=entry.own,
            status=entry.status,
            verified=entry.verified,
            finetuned_on=entry.finetuned_on,
            licence=entry.licence,
        )

    @property
    def named(self) -> str | None:
        """The checkpoint: the user's, else the entry's own, else the packaged one that stands in for it."""
        return self.options.checkpoint or self.entry.own

    @property
    def notice(self) -> str:
        """That a packaged model stands in, where it does."""
        if self.options.checkpoint or self.entry.stand_in is None:
            return ""
        return (
            f"no --checkpoint is named, so {self.entry.system} runs as {self.entry.stand_in}: a small model that this "
            "project trained and packs, not the paper's, and its scores are not comparable with the paper's. "
            "--checkpoint FOLDER_OR_HUB_ID names another."
        )

    @cached_property
    def folder(self) -> Path:
        """The checkpoint's folder. Raises InputError where none is named, CheckpointError where it cannot be found."""
        from harness.models.checkpoints import hub, packaged

        name = self.named
        if self.prefix and self.options.checkpoint:
            raise InputError(
                f"{self.prefix}{self.entry.checkpoint} names the checkpoint already, and --checkpoint names {name}. "
                "Give one."
            )
        if self.options.checkpoint and self.entry.checkpoint in packaged.NAMES:
            raise InputError(
                f"{self.entry.checkpoint} is the packaged model itself, and --checkpoint names {name}. Run that as "
                f"{'retromae-finetune' if self.entry.system == 'RetroMAE' else 'dupmae'} or hf:{name}."
            )
        if name is None:
            why = self.entry.missing or f"{self.entry.unpublished} It is a row of published numbers only."
            raise InputError(f"{self.entry.system}: {why}")
        if name in packaged.NAMES and not (self.options.checkpoint or self.prefix):
            return packaged.folder(name)  # the catalog's word, which no folder that lies here can mean
        return hub.locate(name, None if self.options.checkpoint else self.entry.revision)

    @cached_property
    def checkpoint_hash(self) -> str:
        """Over the files that decide the passages' vectors."""
        from harness.models.checkpoints import hub

        return hub.content_hash(self.folder)

    @property
    def changed(self) -> list[str]:
        """The options by which a user departs from how the entry's checkpoint is used."""
        return [name for name, value in self.options if value is not None and name not in self.aside]

    @property
    def titles(self) -> "Form":
        """How a passage's title comes before its text."""
        chosen = self.options.titles
        if isinstance(chosen, str):
            return chosen
        return "none" if chosen is False else self.entry.titles

    @cached_property
    def device(self) -> "torch.device":
        """Where the encoder and the search run. Raises InputError for a GPU that is not there."""
        return devices.chosen(self.options.device, "--device cuda")

    @property
    def precision(self) -> str:
        """Of the encoder's arithmetic: fp32 or bf16."""
        if self.options.precision != "auto":
            return self.options.precision
        from harness.models.training.precision import automatic

        return automatic(self.device.type, training=False)

    def windowed(
        self, corpus: Corpus, tokenizer: Any, prefix: str, job: Job, marker: int = 0
    ) -> tuple[Corpus, Grouping | None]:
        """What is encoded: the corpus, or its windows and whose they are.

        Raises InputError where several processes would share the windows of one document, and as `Splitter`.
        """
        if self.options.windows is None:
            return corpus, None
        if job.processes > 1:
            raise InputError(
                f"windows are searched by one process, and there are {job.processes}. Run it without torchrun."
            )
        windows, score = Windows.of(self.options.windows), self.options.window_score or "max"
        splitter = Splitter(tokenizer, windows, self.titles, prefix, marker)
        key = f"{self.options.windows} {self.titles} {prefix!r} {self.checkpoint_hash}"
        found = WindowedCorpus(corpus, splitter, key, score == "first", job)
        job.note(f"{corpus.name}: {found.count:,} windows of {corpus.count:,} documents")
        self._windows = found.count, corpus.count
        return found, Grouping.of(found.counts, score)

    def tell_cut(self, shards: "Iterable[Shard[Any]]", corpus: Corpus, length: int, job: Job) -> None:
        """Say how many of the corpus's texts were cut at `length` tokens, where that is known and there were any."""
        counts = [shard.cut for shard in shards]
        known = [count for count in counts if count is not None]
        if job.processes > 1 or self._windows[0] or not known or len(known) < len(counts):
            return
        self._cut = cut = sum(known)
        if not cut:
            return
        say = job.warn if cut >= _MANY_CUT * corpus.count else job.note
        say(
            f"{corpus.name}: {cut:,} of {corpus.count:,} texts ({cut / corpus.count:.1%}) are longer than {length} "
            "tokens and were cut; --max-length reads more of them, --windows all"
        )

    @property
    def windows_per_document(self) -> float:
        """On average; 1 without windows."""
        windows, documents = self._windows
        return windows / documents if documents else 1.0

    @property
    def searched_windows(self) -> dict[str, Any]:
        """What the record says of windows and of texts that were cut, where there were any."""
        if (windows := self._windows[0]) > 0:
            return {"window_score": self.options.window_score or "max", "windows_searched": windows}
        return {} if self._cut is None else {"texts_cut": self._cut}

    def store_header(self, corpus: Corpus, spec: dict[str, Any]) -> "Header":
        """The header of a corpus's store; `spec` is what of the checkpoint's use decides its bytes, titles aside."""
        from harness.retrievers.encoding.encode import batch_rule
        from harness.retrievers.encoding.store import Header

        return Header(
            checkpoint_hash=self.checkpoint_hash,
            corpus_hash=corpus.content_hash,
            spec=spec | {"titles": self.titles, "missing_title": self.entry.missing_title},
            precision=f"{self.precision} on {self.device.type}",
            libraries={name: version(name) for name in self.packages},
            batch_rule=batch_rule(self.device.type),
            documents=corpus.count,
            shard_documents=self.options.shard_documents,
        )
