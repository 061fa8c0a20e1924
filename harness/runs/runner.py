"""A retriever and a dataset become a run, scores and a record; a finished record is found again."""

import contextlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import numpy as np

from harness.datasets.dataset import Dataset
from harness.datasets.loader import resolve
from harness.datasets.rules import canonical, official_for, our_rules
from harness.metrics.names import parse_metrics
from harness.metrics.ranx import compiling, start_compiling
from harness.metrics.scoring import Scores
from harness.reports.records import records
from harness.reports.records.records import Record
from harness.retrievers import compile_ahead
from harness.retrievers.places import cache
from harness.retrievers.registry import Retriever
from harness.retrievers.rerank import Reranker
from harness.retrievers.run_files import trec
from harness.retrievers.run_files.exchange import aligned
from harness.retrievers.run_files.fusion import digest
from harness.retrievers.types import Run
from harness.runs import manifest
from harness.runs.config import RetrieverSpec, RunConfig, make_retriever
from harness.runs.record_store import Outcome, RecordStore, check_writable
from harness.runs.searches import Search, Searches
from harness.runtime.environment import git_commit
from harness.runtime.job import HarnessJob
from harness.runtime.processes import Processes


def run(config: RunConfig, command: Sequence[str], team: Processes | None = None) -> list[Outcome]:
    """`iterate`, to the end."""
    return list(iterate(config, command, team))


class Step(NamedTuple):
    """An outcome, and of what: a dataset as `config` names it (`whole`) or a part of one, and which stage of it."""

    name: str
    spec: RetrieverSpec
    outcome: Outcome
    whole: bool


def iterate(
    config: RunConfig,
    command: Sequence[str],
    team: Processes | None = None,
    own: Mapping[str, Retriever] = MappingProxyType({}),
) -> Iterator[Outcome]:
    """`steps`, of which the outcomes alone are yielded."""
    with contextlib.closing(steps(config, command, team, own)) as every:
        for step in every:
            yield step.outcome


def steps(
    config: RunConfig,
    command: Sequence[str],
    team: Processes | None = None,
    own: Mapping[str, Retriever] = MappingProxyType({}),
) -> Generator[Step, None, None]:
    """Run every retriever on every dataset of `config`, and yield the records in that order as they are finished.

    `own` are retrievers by name that are objects of the caller's, and are not made here.

    All names and options are checked before anything is read. A retriever that is re-ranked comes twice: first as it
    is, since its own record is what the re-ranked one is made from. `team` are the processes that do this together, of
    which rank 0 keeps and yields the records; the others help it to search, and yield nothing. Without it this process
    works alone, whoever started it.

    Raises InputError for wrong input, ProcessLost where another process ended too early.
    """
    team = team or Processes()
    specs = _once([stage for spec in config.retrievers for stage in spec.stages])
    retrievers = [(spec, own.get(spec.name) or make_retriever(spec)) for spec in specs if spec.rerank is None]
    rerankers = {number: Reranker(spec.rerank) for number, spec in enumerate(specs) if spec.rerank is not None}
    kept = cache()  # who has none is told before a compiler starts
    plan = [
        (name, resolve(name, config.titles, config.queries_with_text, config.fields)) for name in _once(config.datasets)
    ]
    if team.main:
        check_writable(config.results)
        _start_compiler(config)
    for _, retriever in retrievers:
        retriever.check()
    for reranker in rerankers.values():
        reranker.check()
    git_commit()  # forks, so it comes before any retriever may start Java
    job = HarnessJob(kept, config.threads, team)
    for _, retriever in retrievers:
        job.tell(retriever.notice)
    every = [Search(*pair, dataset) for _, datasets in plan for pair in retrievers for dataset in datasets]
    searches = Searches(config, every, job)
    if not team.main:
        searches.help()
        return
    maker = _Maker(config, command, job, searches)
    try:
        for name, datasets in plan:
            made: list[list[Outcome]] = []
            composite = bool(our_rules(canonical(name)).mean_of)
            for number, spec in enumerate(specs):
                parts: list[Outcome] = []
                made.append(parts)
                for place, dataset in enumerate(datasets):
                    if number in rerankers:
                        first = made[specs.index(spec.stages[0])][place].record
                        parts.append(maker.reranked(spec, rerankers[number], first, dataset))
                    else:
                        parts.append(maker.one(Search(spec, _of(spec, retrievers), dataset)))
                    yield Step(name, spec, parts[-1], whole=not composite)
                if composite:
                    yield Step(name, spec, maker.mean(name, spec, parts), whole=True)
    except GeneratorExit:  # the caller wants no more; after any other exception the others may not listen
        pass
    searches.over()


def _start_compiler(config: RunConfig) -> None:
    """Have ranx's functions compiled on a fresh machine: before anything else, since that takes longest."""
    if not compile_ahead.ever("metrics"):
        start_compiling(parse_metrics(config.metric_names()))


def _of(wanted: RetrieverSpec, retrievers: Sequence[tuple[RetrieverSpec, Retriever]]) -> Retriever:
    return next(retriever for spec, retriever in retrievers if spec == wanted)


T = TypeVar("T")


def _once(items: Sequence[T]) -> list[T]:
    return [item for number, item in enumerate(items) if item not in items[:number]]


class _Maker:
    """Makes records under one configuration."""

    def __init__(self, config: RunConfig, command: Sequence[str], job: HarnessJob, searches: Searches) -> None:
        self.config, self.command, self.job, self.searches = config, list(command), job, searches
        self.store = RecordStore(config.results, config.force, job)

    def one(self, search: Search) -> Outcome:
        """Find or make the record of one retriever on one dataset."""
        spec, retriever, dataset = search
        self.job.restart()
        dataset.open(self.job)
        for message in dataset.warnings:
            self.job.warn(message)
        key = self.searches.key(search)
        searched = None if retriever.reproducible else self.searches.run(search)
        if searched is not None:
            key["results"] = digest(searched)
        folder = self.store.folder(dataset.name, spec.label, key, spec.whole)
        with self.store.lend(folder, spec.label, dataset, self.config.metric_names(dataset.official)) as place:
            if place.outcome is not None and searched is None:
                return place.outcome
            run = self.searches.run(search) if searched is None else searched
            self._prepare_others()
            scores = place.score(run)
            made = manifest.of_run(self.config, self.command, self.job, spec, retriever, dataset, run)
            return place.write(run, scores, made)

    def _prepare_others(self) -> None:
        """Let the retrievers load what they need for as long as scores would have to wait for a compiler."""
        for other in self.searches.plan:
            if compiling():
                with contextlib.suppress(Exception):  # what is wrong with it is said when its turn comes
                    other.retriever.prepare()

    def reranked(self, spec: RetrieverSpec, reranker: Reranker, first: Record, dataset: Dataset) -> Outcome:
        """Find or make the record of a first stage's record re-ranked; rank 0 does it alone."""
        self.job.restart()
        for message in first.manifest.warnings:
            self.job.warn(message)
        asked = {"first": [first.folder.name, first.manifest.files[records.RUN]], "rerank": reranker.fingerprint()}
        key = {"schema": records.SCHEMA_VERSION} | asked
        folder = self.store.folder(dataset.name, spec.label, key, spec.whole)
        with self.store.lend(folder, spec.label, dataset, self.config.metric_names(dataset.official)) as place:
            if place.outcome is not None:
                return place.outcome
            before = aligned(trec.read(first.folder / records.RUN), [query.query_id for query in dataset.queries])
            run = reranker.rerank(before, dataset, dataset.queries, self.job)
            scores = place.score(run)
            made = manifest.of_reranked(self.config, self.command, self.job, spec, reranker, first)
            return place.write(run, scores, made)

    def mean(self, name: str, spec: RetrieverSpec, parts: Sequence[Outcome]) -> Outcome:
        """Find or make the record of a composite: the mean of its parts' means; its run is theirs, one after another.

        Query ids there are `<part>:<query id>`, since parts number their queries alike.
        """
        self.job.restart()
        members = [part.record for part in parts]
        folder = self.store.folder(name, spec.label, [member.folder.name for member in members], spec.whole)
        with self.store.lock(folder):
            found = self.store.finished(folder)
            names = self.config.metric_names(lambda: official_for(canonical(name)))
            if found is not None and set(names) <= set(found.metrics):
                return Outcome(found, found=True)
            labels = [member.manifest.data.name.rsplit("/", 1)[-1] for member in members]
            runs = [part.run() for part in parts]
            tables = [member.per_query() for member in members]
            query_ids = [f"{label}:{q}" for label, table in zip(labels, tables, strict=True) for q in table]
            rows = [row for table in tables for row in table.values()]
            metrics = [m for m in members[0].metrics if all(m in member.metrics for member in members)]
            scores = Scores(tuple(query_ids), {m: np.array([row[m] for row in rows]) for m in metrics})
            mean = {m: float(np.mean([member.metrics[m] for member in members])) for m in metrics}
            made = manifest.of_mean(self.config, self.command, name, members)
            return Outcome(self.store.write(folder, spec.label, _join(labels, runs), scores, mean, made), found=False)


def _join(labels: Sequence[str], runs: Sequence[Run]) -> Run:
    query_ids = tuple(f"{label}:{q}" for label, part in zip(labels, runs, strict=True) for q in part.query_ids)
    counts = np.concatenate([np.diff(part.offsets) for part in runs])
    return Run(
        query_ids,
        np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        np.concatenate([part.doc_ids for part in runs]),
        np.concatenate([part.scores for part in runs]),
    )
