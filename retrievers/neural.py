"""Every single-vector, lexical and hybrid system: one retriever, a choice of two halves, a catalog entry each."""

import dataclasses
import importlib.util
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from harness.retrievers.catalog import Entry, entries
from harness.retrievers.errors import InputError
from harness.retrievers.registry import Identity, Retriever, register, register_prefix
from harness.retrievers.types import Corpus, Job, Query, Run
from harness.retrievers.with_checkpoint import WithCheckpoint

if TYPE_CHECKING:
    from harness.retrievers.store import Shard

QUERIES_AT_ONCE = 1_024  # one pass over the documents; [Q,V] weights take 125 MB at V = 30,522


class Neural(WithCheckpoint):
    """Encodes with a checkpoint, keeps the vectors in a store, searches them exactly."""

    distributed = True
    _terms: float | None = None  # of a document, on average, where it is not K

    def resolved(self) -> dict[str, Any]:
        """The options, with every None replaced by what it came to."""
        spec = dataclasses.asdict(self.encoder.loaded.spec)
        chosen = self.options.model_dump(mode="json", exclude={"max_length"})
        return chosen | spec | {"titles": self.titles, "device": str(self.device), "precision": self.precision}

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
        spec, titles = dataclasses.asdict(self.spec), (self.titles, self.entry.missing_title)
        return repr((self.hashes, spec, titles, self.precision, self.device.type))

    def identity(self) -> Identity:
        """What the record says: sizes as they came out."""
        from harness.retrievers.vectors import bytes_per_document

        loaded = self.encoder.loaded
        spec = loaded.spec
        ours, paper = bytes_per_document(spec.dense or 0, self._terms or spec.lexical)
        stage = spec.trained.get("stage") or (None if self.options.checkpoint else self.entry.stage)
        halves = (("CLS" if spec.lexical else spec.pooling.upper(), spec.dense), ("OT", spec.lexical))
        variant = ", ".join(f"{name}:{width}" for name, width in halves if width)
        # a checkpoint of the user's claims a row only if it says how it was trained, and is of the row's widths and
        # pre-training; a published one, if it is used as its entry says
        known = bool(spec.trained) or not (self.options.checkpoint or self.changed)
        pretraining = spec.trained.get("pretraining", self.entry.pretraining)
        claims = known and self.entry.variant in (None, variant) and self.entry.pretraining in (None, pretraining)
        return Identity(
            system=self.entry.system,
            stage=None if stage is None else str(stage),
            variant=variant,
            paper_rows=self.entry.paper_rows if claims else (),
            checkpoint=self.named,
            checkpoint_hash=self.hashes,
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

        from harness.retrievers.ranking import Searcher, merged

        torch.set_num_threads(job.threads)
        meant = self.options.lexical == 0 or self.spec.trained.get("lexical") == 0
        if self.entry.variant and not self.spec.lexical and not meant:
            job.warn(f"{self.folder} has no lexical half (no hybrid.json, or lexical 0): its dense half runs alone")
        kinds = [one.loaded.model.config.model_type for one in (self.encoder, self.query_encoder)]
        sizes = [one.loaded.vocabulary for one in (self.encoder, self.query_encoder)]
        if len({*kinds}) > 1 or len({*sizes}) > 1:
            job.warn(
                f"the encoder of queries, {self.query_folder}, is a {kinds[1]!r} model of {sizes[1]:,} tokens, that of "
                f"passages a {kinds[0]!r} model of {sizes[0]:,}: do the two belong together?"
            )
        searcher = Searcher(self.shards(corpus, job), self.device, self.options.engine, job.threads)
        starts = range(0, len(queries), QUERIES_AT_ONCE)
        with job.phase("search", len(queries), "queries") as meter:
            blocks = (self.query_encoder.queries(queries[start : start + QUERIES_AT_ONCE]) for start in starts)
            own = searcher.run([query.query_id for query in queries], blocks, top_k, meter)
        found = job.gather((own.offsets, own.doc_ids, own.scores))
        return own if found is None else merged(own.query_ids, found, top_k)

    def shards(self, corpus: Corpus, job: Job) -> list["Shard"]:
        """The corpus as vectors: this process's shards of its store, in order, encoded where they are not there yet."""
        from harness.retrievers.encoding import build

        header = self._header(corpus)
        shards = list(build(job.cache / "stores" / header.key[:20], header, self.encoder, corpus, job).values())
        if self.spec.activation != "none" and shards:  # only then is there less than K
            terms = sum(int((shard.vectors.term_weights != 0).sum()) for shard in shards)
            self._terms = terms / sum(len(shard.vectors) for shard in shards)
        return shards

    def _header(self, corpus: Corpus) -> Any:
        from harness.retrievers.store import Header

        spec = self.encoder.loaded.spec
        relevant = (
            *("dense", "lexical", "pooling", "similarity", "passage_length", "passage_prefix"),
            *("lexical_pooling", "activation", "lexical_tokens"),
        )
        return Header(
            checkpoint_hash=self.checkpoint_hash,
            corpus_hash=corpus.content_hash,
            spec={name: getattr(spec, name) for name in relevant}
            | {"titles": self.titles, "missing_title": self.entry.missing_title},
            precision=f"{self.precision} on {self.device.type}",
            libraries={name: version(name) for name in self.packages},
            batch_rule=self.encoder.batch_rule,
            documents=corpus.count,
            shard_documents=self.options.shard_documents,
        )


def _class_for(entry: Entry, label: str) -> type[Neural]:
    return type(f"Neural[{label}]", (Neural,), {"entry": entry, "summary": entry.summary, "__module__": __name__})


for _name, _entry in entries().items():
    if _entry.kind != "late interaction":
        register(_name)(_class_for(_entry, _name))


@register_prefix(
    "hf:", "hf:PATH_OR_ID", "any BERT-like checkpoint; --pooling, --similarity, --max-length, --dense, --lexical"
)
def _from_hub(name: str) -> type[Retriever]:
    if not name:
        raise InputError("hf: needs a folder or hub id behind it, such as hf:./my-model.")
    entry = Entry(system=name, summary=f"the checkpoint {name}", source="the command line", checkpoint=name)
    cls = _class_for(entry, f"hf:{name}")
    cls.prefix = "hf:"
    return cls
