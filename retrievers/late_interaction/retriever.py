"""ColBERTv2: a vector of every token, MaxSim over all documents of a small corpus, over candidates of a large one."""

import dataclasses
import itertools
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from harness.retrievers.encoding.windows import Windows
from harness.retrievers.errors import InputError
from harness.retrievers.neural.base import CheckpointOptions, OnCheckpoint
from harness.retrievers.neural.catalog import entries
from harness.retrievers.registry import Identity, Retriever, register
from harness.retrievers.types import Corpus, Job, Query, Run

if TYPE_CHECKING:
    from harness.models.checkpoints.late_layouts import LateLayout, LateSpec
    from harness.retrievers.encoding.store import Header, Shard
    from harness.retrievers.encoding.token_vectors import TokenVectors
    from harness.retrievers.encoding.windows import Grouping
    from harness.retrievers.late_interaction.encode import TokenEncoder
    from harness.retrievers.late_interaction.first_stage import Candidates

_QUERIES_AT_ONCE = 256  # one pass over the documents each
_SAMPLE = 1_024  # documents whose tokens are counted to tell how much the vectors of all take
DEPTH = 1_000


class LateOptions(CheckpointOptions):
    """What a user may change. None: as the checkpoint says, else the default."""

    max_length: int | None = Field(None, ge=1, description="of passages, in tokens; queries have query_length")
    query_length: int | None = Field(None, ge=1, description="of queries, in tokens; shorter ones are filled up to it")
    titles: bool | Literal["space", "separator", "none"] | None = Field(
        None, description="how a passage's title comes before its text: space, separator, none"
    )
    shard_documents: int = Field(4_096, ge=1, description="documents of a shard, the unit in which encoding resumes")
    first_stage: str | None = Field(
        None,
        description="all: every document is scored; a retriever's name: its best `depth`; None: all where their "
        "vectors take at most `exhaustive_gib` and no `depth` is given, else bm25",
    )
    first_stage_options: dict[str, Any] = Field({}, description="of that retriever")
    depth: int | None = Field(None, ge=1, description=f"candidates of a query; {DEPTH:,} unless given")
    exhaustive_gib: float = Field(
        8.0,
        gt=0,
        le=1e6,
        description="GiB: a corpus whose token vectors take more is not encoded as a whole, only its candidates are",
    )

    @model_validator(mode="after")
    def _read(self) -> "LateOptions":
        """An option is never given and then ignored."""
        if self.first_stage == "all" and (self.depth is not None or self.first_stage_options):
            raise ValueError("first_stage all scores every document: depth and first_stage_options have no meaning")
        if self.first_stage is None and self.first_stage_options:
            raise ValueError("first_stage_options need a first_stage")
        if self.first_stage == "all" and "exhaustive_gib" in self.model_fields_set:
            raise ValueError("first_stage all scores every document, whatever exhaustive_gib is: give one of the two")
        return self


class _Plan(NamedTuple):
    """Which documents are scored: all, or the `depth` best of a first stage; and what the vectors of all would take."""

    first: Retriever | None
    depth: int | None
    gib: float
    whole: bool  # whether all are encoded


@register("colbertv2")
class LateInteraction(OnCheckpoint):
    """Encodes every token, keeps the vectors in a store, and scores by MaxSim (Santhanam et al. 2022).

    The authors search a compressed index (PLAID); here scores are exact, over all documents or over candidates.
    """

    summary = "ColBERTv2: a vector of every token, MaxSim; over all documents or --option first_stage=NAME, depth=N"
    distributed = True
    entry = entries()["colbertv2"]
    Options = LateOptions
    aside = (*OnCheckpoint.aside, "first_stage", "first_stage_options", "depth", "exhaustive_gib")
    told = frozenset({"first_stage", "depth"})
    options: LateOptions

    def __init__(self, options: LateOptions) -> None:
        super().__init__(options)
        self._plan: _Plan | None = None
        self._stored: tuple[int, int] = 0, 0  # documents and token vectors that were searched

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
        own = Windows.of(self.options.windows).size if self.options.windows else self.options.max_length
        return self.layout.spec.lengths(query, own or self.entry.passage_length)

    @cached_property
    def encoder(self) -> "TokenEncoder":
        """The checkpoint, loaded and on its device."""
        import torch

        from harness.models.checkpoints import late
        from harness.retrievers.late_interaction.encode import TokenEncoder

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
        relevant = ("passage_length", "passage_prefix", "passage_marker", "skipped", "unit")
        own = {"kind": "token vectors", "width": self.encoder.loaded.width}
        return self.store_header(corpus, {name: getattr(self.spec, name) for name in relevant} | own)

    @property
    def _first_name(self) -> str:
        return self.options.first_stage or "bm25"

    @cached_property
    def _first(self) -> Retriever | None:
        """Where candidates come from, if they are needed; None where all documents are wanted."""
        from harness.retrievers.late_interaction import first_stage

        if self._first_name == "all":
            return None
        found = first_stage.made(self._first_name, self.options.first_stage_options)
        if isinstance(found, LateInteraction):
            raise InputError(f"first_stage {self._first_name} is late interaction itself. Name another kind, or all.")
        return found

    @property
    def notice(self) -> str:
        """Its first stage's."""
        return "" if self._first is None else self._first.notice

    def check(self) -> None:
        """See to the checkpoint, the device and the first stage before anything is read."""
        self.fingerprint()
        if self._first is not None:
            self._first.check()

    def fingerprint(self) -> str:
        """The checkpoint's bytes, the resolved choices, and those of a first stage."""
        own = self.checkpoint_hash  # first: a checkpoint that is not there is an error before torch is imported
        first = None
        if self._first is not None:
            packages = {name: version(name) for name in self._first.packages}
            first = (self._first.options.model_dump(mode="json"), self._first.fingerprint(), packages)
        spec = dataclasses.asdict(self.spec)
        titles = self.titles, self.entry.missing_title
        return repr((own, spec, titles, self.precision, self.device.type, first))

    def resolved(self) -> dict[str, Any]:
        """The options as they took effect: which documents were scored, and how texts became vectors."""
        chosen = self.options.model_dump(mode="json", exclude={"max_length", "first_stage", "first_stage_options"})
        found = chosen | self.searched_windows | self.described()
        if self._plan is None:
            return found
        found |= {"first_stage": "all", "depth": None}
        found |= {"estimated_gib": round(self._plan.gib, 3), "encoded": "all" if self._plan.whole else "candidates"}
        if (first := self._plan.first) is not None:
            versions = {name: version(name) for name in first.packages}
            found |= {"first_stage": self._first_name, "depth": self._plan.depth}
            found |= {"first_stage_options": first.resolved(), "first_stage_packages": versions}
        return found

    def identity(self) -> Identity:
        """What the record says: sizes as they came out; the paper's row is that of a search of all documents."""
        loaded = self.encoder.loaded
        documents, tokens = self._stored
        everywhere = self._plan is not None and self._plan.first is None
        depth = "" if self._plan is None or self._plan.depth is None else f" {self._plan.depth:,}"
        variant = "all documents" if everywhere else f"over {self._first_name}{depth}"
        own = not (self.options.checkpoint or self.changed)
        return Identity(
            system=self.entry.system,
            stage=None if self.options.checkpoint else self.entry.stage,
            variant=variant,
            paper_rows=self.entry.paper_rows if own and everywhere else (),
            checkpoint=self.options.checkpoint or self.entry.checkpoint,
            checkpoint_hash=self.checkpoint_hash,
            bytes_per_document=self.windows_per_document * 2 * loaded.width * tokens / documents if documents else None,
            model=loaded.sizes,
        )

    def search(self, corpus: Corpus, queries: Sequence[Query], top_k: int, job: Job) -> Run:
        """Return the `top_k` documents of each query with the greatest MaxSim, of all or of a first stage's candidates.

        Raises CheckpointError or InputError for wrong input, before any document is encoded.
        """
        from harness.retrievers.torch_threads import torch_threads

        with torch_threads(job.threads):
            return self._search(corpus, queries, top_k, job)

    def _search(self, corpus: Corpus, queries: Sequence[Query], top_k: int, job: Job) -> Run:
        from harness.models.checkpoints.late_layouts import METADATA, silent
        from harness.retrievers.late_interaction import first_stage
        from harness.retrievers.search.searcher import merged

        if silent(self.layout):
            job.warn(
                f"{self.folder} has no {METADATA}, so that lengths, markers and the rest are colbert-ai's defaults"
            )
        self._plan = plan = self._planned(corpus, job)
        chosen = None
        if plan.first is not None and plan.depth is not None:
            if plan.depth < top_k:
                job.warn(f"depth: a query has {plan.depth:,} candidates, so it finds no more; {top_k:,} were asked for")
            chosen = first_stage.candidates(plan.first, corpus, queries, plan.depth, job)
            agreed = job.gather(chosen.documents.content_hash)
            if agreed and len(set(agreed)) > 1:
                raise InputError("the processes have different candidates of the first stage. Search in one process.")
            chosen = chosen.in_whole() if plan.whole else chosen
        if chosen is not None and self.options.windows is not None:
            raise InputError(
                "windows are searched over all documents, and here candidates of a first stage are scored. Give "
                "--option first_stage=all, or leave windows out."
            )
        loaded = self.encoder.loaded
        marker = len(loaded.passage_marker)
        encoded, grouping = self.windowed(corpus, loaded.tokenizer, self.spec.passage_prefix, job, marker)
        own = self._ranked(encoded, chosen, queries, top_k, job, grouping)
        found = job.gather((own.offsets, own.doc_ids, own.scores))
        return own if found is None else merged(own.query_ids, found, top_k)

    def _planned(self, corpus: Corpus, job: Job) -> _Plan:
        """Which documents to score: as the options say, else all where their vectors are few enough."""
        sample = list(itertools.islice(corpus.documents(), _SAMPLE))
        tokens = float(self.encoder.lengths(sample).mean()) * corpus.count if sample else 0.0
        gib = tokens * 2 * self.encoder.loaded.width / 2**30
        all_of_them = self._first is None
        why = ""
        if self.options.first_stage is None and self.options.depth is None:
            all_of_them = gib <= self.options.exhaustive_gib
            why = f", {'at most' if all_of_them else 'more than'} the {self.options.exhaustive_gib:g} of exhaustive_gib"
        size = f"token vectors of all take about {gib:,.2f} GiB{why}"
        if all_of_them:
            job.note(f"{corpus.name}: MaxSim over all {corpus.count:,} documents ({size})")
            return _Plan(None, None, gib, True)
        depth = min(self.options.depth or DEPTH, corpus.count)
        job.note(f"{corpus.name}: MaxSim over the {depth:,} best of {self._first_name} ({size})")
        return _Plan(self._first, depth, gib, gib <= self.options.exhaustive_gib)

    def _ranked(
        self,
        corpus: Corpus,
        chosen: "Candidates | None",
        queries: Sequence[Query],
        top_k: int,
        job: Job,
        grouping: "Grouping | None",
    ) -> Run:
        """Encode what is to be scored, and rank what of it is in this process's shards."""
        from harness.retrievers.encoding import store
        from harness.retrievers.encoding.encode import build
        from harness.retrievers.search.maxsim import Given, MaxSim, TokenPart
        from harness.retrievers.search.searcher import ranked

        query_ids = [query.query_id for query in queries]
        documents = corpus if chosen is None else chosen.documents
        header = self.header(documents)
        shards: dict[int, Shard[TokenVectors]] = {}
        if documents.count:
            shards = build(job.cache / "stores" / header.key[:20], header, self.encoder, documents, job)
        if not shards:
            return Run.from_blocks(query_ids, [])
        if chosen is None:
            self.tell_cut(shards.values(), corpus, self.spec.passage_length, job)
        # rows of what is here, without gaps where the others' shards would be
        firsts = list(itertools.accumulate((len(shard.vectors) for shard in shards.values()), initial=0))
        parts = [TokenPart(first, shard.vectors) for first, shard in zip(firsts, shards.values(), strict=False)]
        self._stored = firsts[-1], sum(len(part.vectors.tokens) for part in parts)
        names = store.Ids(dict(zip(firsts, shards.values(), strict=False)))
        path: Given | MaxSim
        if chosen is None:
            path = MaxSim(parts, self.device, job.threads)
        else:
            here = np.full(documents.count, -1, dtype=np.int64)
            for first, number in zip(firsts, shards, strict=False):
                low, high = header.span(number)
                here[low:high] = first + np.arange(high - low)
            path = Given([own[own >= 0] for own in (here[rows] for rows in chosen.rows)])
        with job.phase("search", len(queries), "queries") as meter:
            starts = range(0, len(queries), _QUERIES_AT_ONCE)
            blocks = (self.encoder.queries(queries[start : start + _QUERIES_AT_ONCE]) for start in starts)
            return ranked(query_ids, blocks, parts, path, names, top_k, job.threads, meter, grouping)
