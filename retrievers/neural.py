"""Every single-vector, lexical and hybrid system: one retriever, a choice of two halves, a catalog entry each."""

import dataclasses
import importlib.util
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from retrievers.catalog import Entry, entries
from retrievers.errors import InputError
from retrievers.neural_options import NeuralOptions
from retrievers.registry import Identity, Retriever, register, register_prefix
from retrievers.types import Corpus, Job, Query, Run

if TYPE_CHECKING:
    import torch

    from models.hybrid import HybridSpec
    from retrievers.encoding import TextEncoder
    from retrievers.store import Shard

QUERIES_AT_ONCE = 1_024  # one pass over the documents; [Q,V] weights take 125 MB at V = 30,522


class Neural(Retriever):
    """Encodes with a checkpoint, keeps the vectors in a store, searches them exactly."""

    Options = NeuralOptions
    packages = ("tokenizers", "torch", "transformers")
    distributed = True
    entry: ClassVar[Entry]
    named_by_user: ClassVar[bool] = False  # hf:NAME, which leaves no room for --checkpoint
    options: NeuralOptions

    @cached_property
    def folder(self) -> Path:
        """The checkpoint's folder. Raises InputError where none is named, CheckpointError where it cannot be found."""
        from models import hub

        name = self.options.checkpoint or self.entry.checkpoint
        if self.named_by_user and self.options.checkpoint:
            raise InputError(
                f"hf:{self.entry.checkpoint} names the checkpoint already, and --checkpoint names {name}. Give one."
            )
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
    def device(self) -> "torch.device":
        """Where the encoder and the search run. Raises InputError for a GPU that is not there."""
        import torch

        wanted = self.options.device
        if wanted == "cuda" and not torch.cuda.is_available():
            raise InputError("--device cuda: no GPU is visible to torch. Use auto or cpu, or install a CUDA build.")
        return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")

    @property
    def _precision(self) -> str:
        if self.options.precision != "auto":
            return self.options.precision
        return "bf16" if self.device.type == "cuda" else "fp32"

    @cached_property
    def encoder(self) -> "TextEncoder":
        """The checkpoint, loaded and on its device."""
        import torch

        from models import checkpoint
        from retrievers.encoding import TextEncoder

        loaded = checkpoint.load(self.folder, self.spec, torch.bfloat16 if self._precision == "bf16" else torch.float32)
        loaded.encoder.to(self.device)
        return TextEncoder(loaded, self.device, self._joined)

    def resolved(self) -> dict[str, Any]:
        """The options, with every None replaced by what it came to."""
        spec = dataclasses.asdict(self.encoder.loaded.spec)
        chosen = self.options.model_dump(mode="json", exclude={"max_length"})
        return chosen | spec | {"titles": self._joined, "device": str(self.device), "precision": self._precision}

    def check(self) -> None:
        """See to the checkpoint's folder, its choice of halves, the device and the engine before anything is read."""
        self.fingerprint()
        if self.options.engine == "faiss":
            if self.spec.lexical:
                raise InputError(
                    "--engine faiss searches a dense half alone; this one has a lexical half. Leave --engine out."
                )
            if importlib.util.find_spec("faiss") is None:
                raise InputError(
                    "--engine faiss needs Faiss. Run `pip install faiss-cpu` (or faiss-gpu), or leave --engine out."
                )

    def fingerprint(self) -> str:
        """The checkpoint's bytes and the resolved choices."""
        parts = (self.checkpoint_hash, dataclasses.asdict(self.spec), self._joined, self._precision, self.device.type)
        return repr(parts)

    def identity(self) -> Identity:
        """What the record says: sizes as they came out."""
        from retrievers.vectors import bytes_per_document

        loaded = self.encoder.loaded
        spec = loaded.spec
        ours, paper = bytes_per_document(spec.dense or 0, spec.lexical)
        stage = spec.trained.get("stage") or (None if self.options.checkpoint else self.entry.stage)
        halves = (("CLS" if spec.lexical else spec.pooling.upper(), spec.dense), ("OT", spec.lexical))
        variant = ", ".join(f"{name}:{width}" for name, width in halves if width)
        # a checkpoint of the user's claims a row only if it says how it was trained, and is of the row's widths and
        # pre-training
        known = bool(spec.trained) or not self.options.checkpoint
        pretraining = spec.trained.get("pretraining", self.entry.pretraining)
        claims = known and self.entry.variant in (None, variant) and self.entry.pretraining in (None, pretraining)
        return Identity(
            system=self.entry.system,
            stage=None if stage is None else str(stage),
            variant=variant,
            paper_rows=self.entry.paper_rows if claims else (),
            checkpoint=self.options.checkpoint or self.entry.checkpoint,
            checkpoint_hash=self.checkpoint_hash,
            bytes_per_document=ours,
            bytes_per_document_paper=paper,
            trained=spec.trained,
            model=loaded.sizes,
        )

    def search(self, corpus: Corpus, queries: Sequence[Query], top_k: int, job: Job) -> Run:
        """Return the `top_k` documents of each query with the greatest inner product, exactly.

        Raises CheckpointError or InputError for whatever the user can mend, before any document is encoded.
        """
        import torch

        from retrievers.ranking import Searcher, merged

        torch.set_num_threads(job.threads)
        if self.entry.variant and not self.spec.lexical and self.spec.trained.get("lexical") != 0:
            job.warn(f"{self.folder} has no lexical half (no hybrid.json, or lexical 0): its dense half runs alone")
        searcher = Searcher(self.shards(corpus, job), self.device, self.options.engine, job.threads)
        starts = range(0, len(queries), QUERIES_AT_ONCE)
        with job.phase("search", len(queries), "queries") as meter:
            blocks = (self.encoder.queries(queries[start : start + QUERIES_AT_ONCE]) for start in starts)
            own = searcher.run([query.query_id for query in queries], blocks, top_k, meter)
        found = job.gather((own.offsets, own.doc_ids, own.scores))
        return own if found is None else merged(own.query_ids, found, top_k)

    def shards(self, corpus: Corpus, job: Job) -> list["Shard"]:
        """The corpus as vectors: this process's shards of its store, in order, encoded where they are not there yet."""
        from retrievers.encoding import build

        header = self._header(corpus)
        return list(build(job.cache / "stores" / header.key[:20], header, self.encoder, corpus, job).values())

    def _header(self, corpus: Corpus) -> Any:
        from retrievers.store import Header

        spec = self.encoder.loaded.spec
        relevant = ("dense", "lexical", "pooling", "similarity", "passage_length", "passage_prefix")
        return Header(
            checkpoint_hash=self.checkpoint_hash,
            corpus_hash=corpus.content_hash,
            spec={name: getattr(spec, name) for name in relevant} | {"titles": self._joined},
            precision=f"{self._precision} on {self.device.type}",
            libraries={name: version(name) for name in self.packages},
            batch_rule=self.encoder.batch_rule,
            documents=corpus.count,
            shard_documents=self.options.shard_documents,
        )


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
    cls = _class_for(entry, f"hf:{name}")
    cls.named_by_user = True
    return cls
