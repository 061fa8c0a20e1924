"""Every single-vector, lexical and hybrid system: one retriever, a choice of two halves, a catalog entry each."""

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from retrievers.catalog import Entry, entries
from retrievers.errors import InputError
from retrievers.registry import Identity, Options, Retriever, register, register_prefix
from retrievers.types import Corpus, Job, Query, Run

if TYPE_CHECKING:
    import torch

    from models.hybrid import HybridSpec
    from retrievers.encoding import TextEncoder
    from retrievers.search.exact import Part
    from retrievers.store import Shard

_QUERIES_AT_ONCE = 256


class NeuralOptions(Options):
    """What a user may change. None: as the checkpoint's `hybrid.json` says, else the entry, else the default."""

    checkpoint: str | None = Field(None, description="folder or hub id")
    dense: int | None = Field(None, ge=0, description="D; 0 leaves the dense half out")
    lexical: int | None = Field(None, ge=0, description="K; 0 leaves the lexical half out")
    pooling: Literal["cls", "mean"] | None = None
    similarity: Literal["dot", "cosine"] | None = None
    max_length: int | None = Field(None, ge=1, description="of passages, in tokens")
    query_length: int | None = Field(
        None, ge=1, description="of queries, in tokens; max_length where only that is given"
    )
    query_prefix: str | None = None
    passage_prefix: str | None = None
    titles: bool | None = Field(None, description="whether a passage's title comes before its text")
    engine: Literal["torch", "faiss"] = Field("torch", description="what finds candidates; final scores are the same")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 on a GPU, fp32 on a CPU")
    shard_documents: int = Field(16_384, ge=1, description="documents of a shard, the unit in which encoding resumes")


class Neural(Retriever):
    """Encodes with a checkpoint, keeps the vectors in a store, searches them exactly."""

    Options = NeuralOptions
    packages = ("torch", "transformers")
    entry: ClassVar[Entry]
    options: NeuralOptions

    @cached_property
    def folder(self) -> Path:
        """The checkpoint's folder. Raises InputError where none is named, CheckpointError where it cannot be found."""
        from models import hub

        name = self.options.checkpoint or self.entry.checkpoint
        if name is None:
            raise InputError(f"{self.entry.system}: {self.entry.missing}")
        return hub.locate(name, None if self.options.checkpoint else self.entry.revision)

    @cached_property
    def spec(self) -> "HybridSpec":
        """The resolved choice of halves: options, then `hybrid.json`, else the entry, then defaults."""
        from models import hybrid

        chosen, entry = self.options, self.entry
        own = hybrid.read(self.folder)
        spec = own or hybrid.HybridSpec()
        if own is None:  # a checkpoint that says how it is used knows better than the name it is run under
            names = ("pooling", "similarity", "query_length", "passage_length", "query_prefix", "passage_prefix")
            spec = spec.replace(**{name: getattr(entry, name) for name in names})
        return spec.replace(
            dense=chosen.dense,
            lexical=chosen.lexical,
            pooling=chosen.pooling,
            similarity=chosen.similarity,
            passage_length=chosen.max_length,
            query_length=chosen.query_length or chosen.max_length,
            query_prefix=chosen.query_prefix,
            passage_prefix=chosen.passage_prefix,
        )

    @cached_property
    def checkpoint_hash(self) -> str:
        """Over the files that decide the vectors."""
        from models import hub

        return hub.content_hash(self.folder)

    @property
    def _joined(self) -> bool:
        return self.entry.titles if self.options.titles is None else self.options.titles

    @cached_property
    def _device(self) -> "torch.device":
        import torch

        wanted = self.options.device
        if wanted == "cuda" and not torch.cuda.is_available():
            raise InputError("--device cuda: no GPU is visible to torch. Use auto or cpu, or install a CUDA build.")
        return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")

    @property
    def _precision(self) -> str:
        if self.options.precision != "auto":
            return self.options.precision
        return "bf16" if self._device.type == "cuda" else "fp32"

    @cached_property
    def encoder(self) -> "TextEncoder":
        """The checkpoint, loaded and on its device."""
        import torch

        from models import checkpoint
        from retrievers.encoding import TextEncoder

        loaded = checkpoint.load(self.folder, self.spec, torch.bfloat16 if self._precision == "bf16" else torch.float32)
        loaded.encoder.to(self._device)
        return TextEncoder(loaded, self._device, self._joined)

    def resolved(self) -> dict[str, Any]:
        """The options, with every None replaced by what it came to."""
        spec = dataclasses.asdict(self.encoder.loaded.spec)
        chosen = self.options.model_dump(mode="json", exclude={"max_length"})
        return chosen | spec | {"titles": self._joined, "device": str(self._device), "precision": self._precision}

    def fingerprint(self) -> str:
        """The checkpoint's bytes and the resolved choices."""
        parts = (self.checkpoint_hash, dataclasses.asdict(self.spec), self._joined, self._precision, self._device.type)
        return repr(parts)

    def identity(self) -> Identity:
        """What the record says: sizes as they came out."""
        from retrievers.vectors import bytes_per_document

        spec = self.encoder.loaded.spec
        ours, paper = bytes_per_document(spec.dense or 0, spec.lexical)
        stage = spec.trained.get("stage") or (None if self.options.checkpoint else self.entry.stage)
        return Identity(
            system=self.entry.system,
            stage=None if stage is None else str(stage),
            variant=f"CLS:{spec.dense}, OT:{spec.lexical}" if spec.lexical else f"{spec.pooling.upper()}:{spec.dense}",
            paper_rows=self.entry.paper_rows,
            checkpoint=self.options.checkpoint or self.entry.checkpoint,
            checkpoint_hash=self.checkpoint_hash,
            bytes_per_document=ours,
            bytes_per_document_paper=paper,
        )

    def search(self, corpus: Corpus, queries: Sequence[Query], top_k: int, job: Job) -> Run:
        """Return the `top_k` documents of each query with the greatest inner product, exactly.

        Raises CheckpointError or InputError for whatever the user can mend, before any document is encoded.
        """
        import torch

        from retrievers.encoding import build

        torch.set_num_threads(job.threads)
        if self.options.engine == "faiss" and self.spec.lexical:
            raise InputError(
                "--engine faiss searches a dense half alone; this checkpoint has a lexical half. Use torch."
            )
        header = self._header(corpus)
        shards = build(job.cache / "stores" / header.key[:20], header, self.encoder, corpus, job)
        return self._search(shards, queries, top_k, job)

    def _header(self, corpus: Corpus) -> Any:
        from retrievers.store import Header

        spec = self.encoder.loaded.spec
        relevant = ("dense", "lexical", "pooling", "similarity", "passage_length", "passage_prefix")
        return Header(
            checkpoint_hash=self.checkpoint_hash,
            corpus_hash=corpus.content_hash,
            spec={name: getattr(spec, name) for name in relevant} | {"titles": self._joined},
            precision=f"{self._precision} on {self._device.type}",
            batch_rule=self.encoder.batch_rule,
            documents=corpus.count,
            shard_documents=self.options.shard_documents,
        )

    def _search(self, shards: Sequence["Shard"], queries: Sequence[Query], top_k: int, job: Job) -> Run:
        from retrievers import store
        from retrievers.search import exact

        parts = _parts(shards)
        names = store.Ids(shards)
        path = self._candidates(parts, job)
        corpus = exact.norms(parts)
        blocks = []
        with job.phase("search", len(queries), "queries") as meter:
            for start in range(0, len(queries), _QUERIES_AT_ONCE):
                block = queries[start : start + _QUERIES_AT_ONCE]
                vectors = self.encoder.queries(block)
                found = exact.top_k(vectors, parts, top_k, path, names, corpus)
                for number, (ids, scores) in enumerate(found, start):
                    blocks.append((np.full(len(ids), number), ids, scores))
                meter.advance(len(block))
        return Run.from_blocks([query.query_id for query in queries], blocks)

    def _candidates(self, parts: Sequence["Part"], job: Job) -> Any:
        from retrievers.search import exact

        if self.options.engine == "torch":
            return exact.torch_candidates(parts, self._device)
        try:
            return exact.faiss_candidates(parts, job.threads)
        except ImportError as error:
            raise InputError(
                "--engine faiss needs Faiss. Run `pip install faiss-cpu` (or faiss-gpu), or use --engine torch."
            ) from error


def _parts(shards: Sequence["Shard"]) -> list["Part"]:
    from retrievers.search.exact import Part

    parts, first = [], 0
    for shard in shards:
        parts.append(Part(first, shard.vectors))
        first += len(shard.vectors)
    return parts


def _class_for(entry: Entry, label: str) -> type[Neural]:
    return type(f"Neural[{label}]", (Neural,), {"entry": entry, "summary": entry.summary, "__module__": __name__})


for _name, _entry in entries().items():
    register(_name)(_class_for(_entry, _name))


@register_prefix(
    "hf:", "hf:PATH_OR_ID", "any BERT-like checkpoint; --pooling, --similarity, --max-length, --dense, --lexical"
)
def _from_hub(name: str) -> type[Retriever]:
    if not name:
        raise InputError("hf: needs a folder or hub id behind it, such as hf:./my-model.")
    entry = Entry(system=name, summary=f"the checkpoint {name}", source="the command line", checkpoint=name)
    return _class_for(entry, f"hf:{name}")
