"""Every single-vector, lexical and hybrid system: one retriever, a choice of two halves, a catalog entry each."""

import dataclasses
import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from harness.retrievers import compile_ahead
from harness.retrievers.encoding.windows import Windows
from harness.retrievers.errors import InputError
from harness.retrievers.neural.base import CheckpointOptions, OnCheckpoint
from harness.retrievers.neural.catalog import Entry, entries
from harness.retrievers.registry import Identity, Retriever, register, register_prefix
from harness.retrievers.types import Corpus, Job, Query, Run

if TYPE_CHECKING:
    import torch

    from harness.models.hybrid import HybridSpec
    from harness.retrievers.encoding.encode import TextEncoder
    from harness.retrievers.encoding.store import Header, Shard
    from harness.retrievers.encoding.vectors import HybridQueries
    from harness.retrievers.encoding.windows import Grouping

WARM = "harness.retrievers.search.warm"
QUERIES_AT_ONCE = 1_024  # one pass over the documents; [Q,V] weights take 125 MB at V = 30,522


class NeuralOptions(CheckpointOptions):
    """What a user may change. None: as the checkpoint's `hybrid.json` says, else the entry, else the default."""

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
    query_checkpoint: str | None = Field(None, description="where queries have an encoder of their own")
    lexical_pooling: Literal["max", "sum"] | None = Field(None, description="of the lexical half, over the tokens")
    activation: Literal["none", "log1p_relu"] | None = Field(None, description="of its logits; SPLADE: log1p_relu")
    lexical_tokens: Literal["ordinary", "all"] | None = Field(None, description="whether CLS and SEP count")
    lexical_scale: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="of the lexical half's scores; no passage is encoded anew"
    )
    lexical_idf: float | None = Field(
        None, ge=0, le=4, allow_inf_nan=False, description="power of a term's idf in the collection; 0: none"
    )
    engine: Literal["auto", "compiled", "torch", "faiss"] = Field(
        "auto", description="what finds candidates, final scores are the same; auto: compiled on a CPU, torch on a GPU"
    )


class Neural(OnCheckpoint):
    """Encodes with a checkpoint, keeps the vectors in a store, searches them exactly.

    How the checkpoint is used is what options, its own files and the catalog's entry come to; nothing is loaded
    unasked.
    """

    Options = NeuralOptions
    aside = (*OnCheckpoint.aside, "engine")
    told = frozenset({"dense", "lexical"})
    options: NeuralOptions
    distributed = True
    _terms: float | None = None  # of a document, on average, where it is not K

    @property
    def notice(self) -> str:
        """That a packaged model stands in, or that a folder's prompt is not used, where that is so."""
        from harness.models.checkpoints.modules_json import unused_prompt

        return super().notice or ("" if self.options.passage_prefix is not None else unused_prompt(self.folder))

    @cached_property
    def spec(self) -> "HybridSpec":
        """The resolved choice of halves: options, `hybrid.json`, else the entry, the folder's other files, defaults.

        Raises CheckpointError for a checkpoint of another architecture or layout than the entry's.
        """
        from harness.models.checkpoints import layouts

        chosen, entry = self.options, self.entry
        layout = layouts.read(self.folder)
        layouts.demand(layout, entry.architecture, entry.layout, entry.system)
        spec = layout.spec()
        if layout.kind != "ours":  # which knows better than the name it is run under
            spec = spec.replace(**entry.spec(layout.vocabulary))
        return spec.replace(
            dense=chosen.dense,
            lexical=chosen.lexical,
            pooling=chosen.pooling,
            similarity=chosen.similarity,
            passage_length=chosen.max_length or (Windows.of(chosen.windows).size if chosen.windows else None),
            query_length=chosen.query_length or chosen.max_length,
            query_prefix=chosen.query_prefix,
            passage_prefix=chosen.passage_prefix,
            lexical_pooling=chosen.lexical_pooling,
            activation=chosen.activation,
            lexical_tokens=chosen.lexical_tokens,
            lexical_scale=chosen.lexical_scale,
            lexical_idf=chosen.lexical_idf,
        )

    @cached_property
    def query_folder(self) -> Path:
        """The folder of the queries' encoder: that of the passages, unless there are two. Raises as `folder`."""
        from harness.models.checkpoints import hub

        name = self.options.query_checkpoint
        if name is None and self.options.checkpoint is None:
            name = self.entry.query_checkpoint
        if name is None:
            return self.folder
        return hub.locate(name, None if self.options.query_checkpoint else self.entry.query_revision)

    @cached_property
    def hashes(self) -> str:
        """Of the checkpoint; of both, where queries have one of their own."""
        from harness.models.checkpoints import hub

        if self.query_folder == self.folder:
            return self.checkpoint_hash
        both = f"{self.checkpoint_hash} {hub.content_hash(self.query_folder)}"
        return hashlib.sha256(both.encode()).hexdigest()

    @cached_property
    def encoder(self) -> "TextEncoder":
        """The checkpoint, loaded and on its device."""
        return self._load(self.folder, self.spec)

    @cached_property
    def query_encoder(self) -> "TextEncoder":
        """The one for queries: the same, unless there are two. Raises InputError where their vectors do not meet."""
        from harness.models.checkpoints import layouts

        if self.query_folder == self.folder:
            return self.encoder
        layouts.demand(layouts.read(self.query_folder), self.entry.architecture, self.entry.layout, self.entry.system)
        spec = self.encoder.loaded.spec
        found = self._load(self.query_folder, spec)
        if spec.lexical and found.loaded.vocabulary != self.encoder.loaded.vocabulary:
            raise InputError(
                f"queries of {self.query_folder} have {found.loaded.vocabulary:,} terms, passages of {self.folder} "
                f"{self.encoder.loaded.vocabulary:,}: the two do not belong together."
            )
        return found

    def _load(self, folder: Path, spec: "HybridSpec") -> "TextEncoder":
        import torch

        from harness.models.checkpoints import checkpoint
        from harness.retrievers.encoding.encode import TextEncoder

        loaded = checkpoint.load(folder, spec, torch.bfloat16 if self.precision == "bf16" else torch.float32)
        loaded.encoder.to(self.device)
        return TextEncoder(loaded, self.device, self.titles, self.entry.missing_title)

    def resolved(self) -> dict[str, Any]:
        """The options, with every None replaced by what it came to."""
        spec = dataclasses.asdict(self.encoder.loaded.spec)
        chosen = self.options.model_dump(mode="json", exclude={"max_length"}) | self.searched_windows
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

    def prepare(self) -> None:
        """Load the checkpoint."""
        _ = self.encoder, self.query_encoder

    def fingerprint(self) -> str:
        """The checkpoint's bytes and the resolved choices."""
        hashes = self.hashes  # first: a checkpoint that is not there is an error before torch is imported
        spec, titles = dataclasses.asdict(self.spec), (self.titles, self.entry.missing_title)
        return repr((hashes, spec, titles, self.precision, self.device.type))

    def identity(self) -> Identity:
        """What the record says: sizes as they came out."""
        from harness.retrievers.encoding.vectors import bytes_per_document

        loaded = self.encoder.loaded
        spec = loaded.spec
        ours, paper = bytes_per_document(spec.dense or 0, self._terms or spec.lexical, loaded.vocabulary)
        stage = spec.trained.get("stage") or (None if self.options.checkpoint else self.entry.stage)
        halves = (("CLS" if spec.lexical else spec.pooling.upper(), spec.dense), ("OT", spec.lexical))
        variant = ", ".join(f"{name}:{width}" for name, width in halves if width)
        # a checkpoint of the user's claims a row only if it says how it was trained, and is of the row's widths and
        # pre-training; a published one, if it is used as its entry says
        known = bool(spec.trained) or not (self.options.checkpoint or self.changed)
        pretraining = spec.trained.get("pretraining", self.entry.pretraining)
        of_row = self.entry.variant in (None, variant) and self.entry.pretraining in (None, pretraining)
        claims = known and of_row and not spec.lexical_idf
        return Identity(
            system=self.entry.system,
            stage=None if stage is None else str(stage),
            variant=variant,
            paper_rows=self.entry.paper_rows if claims else (),
            checkpoint=self.named,
            checkpoint_hash=self.hashes,
            bytes_per_document=ours * self.windows_per_document,
            bytes_per_document_paper=paper * self.windows_per_document,
            trained=spec.trained,
            model=loaded.sizes,
        )

    def search(self, corpus: Corpus, queries: Sequence[Query], top_k: int, job: Job) -> Run:
        """Return the `top_k` documents of each query with the greatest inner product, exactly.

        Raises CheckpointError or InputError for wrong input, before any document is encoded.
        """
        from harness.retrievers.torch_threads import torch_threads

        with torch_threads(job.threads):
            return self._search(corpus, queries, top_k, job)

    def _search(self, corpus: Corpus, queries: Sequence[Query], top_k: int, job: Job) -> Run:
        from harness.retrievers.search.exact import engine_for

        if job.rank == 0 and engine_for(self.options.engine, self.device, corpus.count) == "compiled":
            halves = {"dense": self.spec.dense != 0, "lexical": bool(self.spec.lexical)}
            compile_ahead.start(WARM, *(half for half, wanted in halves.items() if wanted))
        trained = self.spec.trained
        meant = self.options.lexical == 0 or trained.get("lexical") == 0 or trained.get("finetuned_as", [1])[-1] == 0
        if self.entry.variant and not self.spec.lexical and not meant:
            job.warn(f"{self.folder} has no lexical half (no hybrid.json, or lexical 0): its dense half runs alone")
        kinds = [one.loaded.model.config.model_type for one in (self.encoder, self.query_encoder)]
        sizes = [one.loaded.vocabulary for one in (self.encoder, self.query_encoder)]
        if len({*kinds}) > 1 or len({*sizes}) > 1:
            job.warn(
                f"the encoder of queries, {self.query_folder}, is a {kinds[1]!r} model of {sizes[1]:,} tokens, that of "
                f"passages a {kinds[0]!r} model of {sizes[0]:,}: do the two belong together?"
            )
        encoded, grouping = self.windowed(corpus, self.encoder.loaded.tokenizer, self.spec.passage_prefix, job)
        shards = self.shards(encoded, job)
        self.tell_cut(shards, corpus, self.spec.passage_length, job)
        encode = self.asking(shards, encoded.count, job)
        return search_store(shards, encode, queries, top_k, self.options.engine, self.device, job, grouping)

    def asking(
        self, shards: Sequence["Shard"], documents: int, job: Job
    ) -> "Callable[[Sequence[Query]], HybridQueries]":
        """What encodes queries for a collection's shards: with `lexical_idf` a term weighs by its rarity in there."""
        from harness.retrievers.encoding import rarity

        encode, power = self.query_encoder.queries, self.spec.lexical_idf
        if not (power and self.spec.lexical):
            return encode
        own = rarity.frequencies((shard.vectors for shard in shards), self.query_encoder.loaded.vocabulary)
        counts = job.gather(own)
        every = job.agreed(None if counts is None else sum(counts[1:], counts[0]))
        return rarity.weighed(encode, rarity.weights(every, documents, power))

    def shards(self, corpus: Corpus, job: Job) -> list["Shard"]:
        """The corpus as vectors: this process's shards of its store, in order, encoded where they are not there yet."""
        from harness.retrievers.encoding.encode import build

        header = self.header(corpus)
        shards = list(build(job.cache / "stores" / header.key[:20], header, self.encoder, corpus, job).values())
        if self.spec.activation != "none" and shards:  # only then is there less than K
            terms = sum(int((shard.vectors.term_weights != 0).sum()) for shard in shards)
            self._terms = terms / sum(len(shard.vectors) for shard in shards)
        return shards

    def header(self, corpus: Corpus) -> "Header":
        """What decides the bytes of the store of a corpus."""
        spec = self.encoder.loaded.spec
        relevant = (
            *("dense", "lexical", "pooling", "similarity", "passage_length", "passage_prefix"),
            *("lexical_pooling", "activation", "lexical_tokens"),
        )
        return self.store_header(corpus, {name: getattr(spec, name) for name in relevant})


def search_store(
    shards: Sequence["Shard"],
    encode: Callable[[Sequence[Query]], "HybridQueries"],
    queries: Sequence[Query],
    top_k: int,
    engine: str,
    device: "torch.device",
    job: Job,
    grouping: "Grouping | None" = None,
) -> Run:
    """The `top_k` documents of each query, exactly; `encode` is asked for a block of queries at a time.

    With a `grouping` the store holds windows of documents.
    Where several processes work together, each searches its own shards, and rank 0 returns the best of all.
    """
    from harness.retrievers.search.searcher import Searcher, merged

    compile_ahead.wait(WARM)
    searcher = Searcher(shards, device, engine, job.threads)
    starts = range(0, len(queries), QUERIES_AT_ONCE)
    with job.phase("search", len(queries), "queries") as meter:
        blocks = (encode(queries[start : start + QUERIES_AT_ONCE]) for start in starts)
        own = searcher.run([query.query_id for query in queries], blocks, top_k, meter, grouping)
    found = job.gather((own.offsets, own.doc_ids, own.scores))
    return own if found is None else merged(own.query_ids, found, top_k)


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
