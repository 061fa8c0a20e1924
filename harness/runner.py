"""The conductor: retriever, dataset → run → scores → record; what is finished is found again."""

import contextlib
import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from harness import manifest
from harness.config import RetrieverSpec, RunConfig, make_retriever
from harness.datasets import cache, resolve
from harness.locks import held
from harness.processes import Processes
from harness.progress import Conductor
from harness.rules import canonical, rules_for
from harness.scoring import Scores, parse_metrics, score
from harness.searches import Search, Searches
from reports import records
from reports.errors import NewerRecordError, RecordError
from reports.records import Record
from retrievers import trec
from retrievers.errors import InputError
from retrievers.types import Run


@dataclass(frozen=True)
class Outcome:
    """A record, and whether this call made it or found it."""

    record: Record
    found: bool


def run(config: RunConfig, command: Sequence[str]) -> list[Outcome]:
    """`iterate`, to the end."""
    return list(iterate(config, command))


def iterate(
    config: RunConfig, command: Sequence[str], searched: Callable[[Search, Run], None] | None = None
) -> Iterator[Outcome]:
    """Run every retriever on every dataset of `config`, and yield the records in that order as they are finished.

    All names and options are checked before anything is read. Where a launcher started several processes, rank 0 keeps
    and yields the records; the others help it to search, and yield nothing. `searched` is told of each run that is
    made, before it is scored.

    Raises InputError for whatever the user can mend, ProcessLost where another process ended before its time.
    """
    team = Processes.launched()  # before a retriever looks for its device
    retrievers = [(spec, make_retriever(spec)) for spec in _once(config.retrievers)]
    plan = [(name, resolve(name, config.titles)) for name in _once(config.datasets)]
    if team.main:
        _check_writable(config.results)
    for _, retriever in retrievers:
        retriever.check()
    manifest.git_commit()  # forks, so it comes before any retriever may start Java
    job = Conductor(cache(), config.threads, team)
    every = [Search(*pair, dataset) for _, datasets in plan for pair in retrievers for dataset in datasets]
    searches = Searches(config, every, job)
    if not team.main:
        searches.help()
        return
    maker = _Maker(config, command, job, searches, searched)
    try:
        for name, datasets in plan:
            for spec, retriever in retrievers:
                parts = []
                for dataset in datasets:
                    parts.append(maker.one(Search(spec, retriever, dataset)))
                    yield parts[-1]
                if rules_for(canonical(name)).mean_of:
                    yield maker.mean(name, spec, parts)
    except GeneratorExit:  # the caller wants no more; after any other exception the others may not listen
        pass
    searches.over()


T = TypeVar("T")


def _once(items: Sequence[T]) -> list[T]:
    return [item for number, item in enumerate(items) if item not in items[:number]]


def _check_writable(results: Path) -> None:
    try:
        results.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=results, prefix=".space-") as probe:
            probe.write(b"\0" * 65536)
            probe.flush()
    except OSError as error:
        raise InputError(
            f"cannot write results into {results.absolute()}: {error.strerror}. Make room or permission there, or "
            "name another folder with --results."
        ) from error


class _Maker:
    """Makes records under one configuration."""

    def __init__(
        self,
        config: RunConfig,
        command: Sequence[str],
        job: Conductor,
        searches: Searches,
        searched: Callable[[Search, Run], None] | None,
    ) -> None:
        self.config, self.command, self.job, self.searches = config, list(command), job, searches
        self.searched = searched

    def one(self, search: Search) -> Outcome:
        """Find or make the record of one retriever on one dataset."""
        spec, retriever, dataset = search
        self.job.restart()
        dataset.open(self.job)
        for message in dataset.warnings:
            self.job.warn(message)
        folder = self._folder(dataset.name, spec.name, self.searches.key(search))
        with self._lock(folder):
            found = self._finished(folder)
            names = self.config.metric_names()
            if found is not None and set(names) <= set(found.metrics):
                return Outcome(found, found=True)
            if found is not None:  # the run is there, only a metric is wanted that was not asked for then
                result, names = trec.read(found.folder / records.RUN), [*found.metrics, *names]
            else:
                result = self.searches.run(search)
                if self.searched is not None:
                    self.searched(search, result)
            with self.job.phase("score", len(dataset.qrels), "queries"):
                scores = score(result, dataset.qrels, parse_metrics(names), dataset.rules.binary_level)
            made = (
                found.manifest
                if found is not None
                else manifest.of_run(self.config, self.command, self.job, spec, retriever, dataset, result)
            )
            return Outcome(self._write(folder, spec.name, result, scores, scores.mean(), made), found=False)

    def mean(self, name: str, spec: RetrieverSpec, parts: Sequence[Outcome]) -> Outcome:
        """Find or make the record of a composite: the mean of its parts' means; its run is theirs, one after another.

        Query ids there are `<part>:<query id>`, since parts number their queries alike.
        """
        self.job.restart()
        members = [part.record for part in parts]
        folder = self._folder(name, spec.name, [member.folder.name for member in members])
        with self._lock(folder):
            found = self._finished(folder)
            if found is not None and set(self.config.metric_names()) <= set(found.metrics):
                return Outcome(found, found=True)
            labels = [member.manifest.data.name.rsplit("/", 1)[-1] for member in members]
            runs = [trec.read(member.folder / records.RUN) for member in members]
            tables = [member.per_query() for member in members]
            query_ids = [f"{label}:{q}" for label, table in zip(labels, tables, strict=True) for q in table]
            rows = [row for table in tables for row in table.values()]
            metrics = [m for m in members[0].metrics if all(m in member.metrics for member in members)]
            scores = Scores(tuple(query_ids), {m: np.array([row[m] for row in rows]) for m in metrics})
            mean = {m: float(np.mean([member.metrics[m] for member in members])) for m in metrics}
            made = manifest.of_mean(self.config, self.command, name, members)
            return Outcome(self._write(folder, spec.name, _join(labels, runs), scores, mean, made), found=False)

    def _write(
        self, folder: Path, tag: str, result: Run, scores: Scores, mean: dict[str, float], made: records.Manifest
    ) -> Record:
        with records.writing(folder) as new:
            trec.write(result, new / records.RUN, re.sub(r"\s+", "_", tag))
            records.write_scores(new, scores.query_ids, {m: v.tolist() for m, v in scores.values.items()}, mean)
            records.write_manifest(new, made)
        return records.read(folder)

    def _finished(self, folder: Path) -> Record | None:
        """The record in `folder` if it is whole; `--force` finds nothing."""
        if self.config.force or not folder.exists():
            return None
        try:
            return records.read(folder)
        except NewerRecordError:
            raise
        except RecordError as error:
            self.job.warn(str(error).replace("Run again with --force.", "It is made anew."))
            return None

    def _folder(self, dataset: str, retriever: str, key: object) -> Path:
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:10]
        return self.config.results / slug(dataset) / slug(retriever) / digest

    @contextlib.contextmanager
    def _lock(self, folder: Path) -> Iterator[None]:
        """Hold a record alone; the kernel lets go of the lock of a killed process."""
        locks = self.config.results / ".locks"
        locks.mkdir(exist_ok=True)
        with held(
            locks / "-".join(folder.parts[-3:]),
            f"another process is writing {folder} right now. Wait for it (this command will then find the finished "
            "run), or write elsewhere with --results.",
        ):
            yield


def slug(name: str) -> str:
    """`name` as the name of a folder."""
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "unnamed"


def _join(labels: Sequence[str], runs: Sequence[Run]) -> Run:
    query_ids = tuple(f"{label}:{q}" for label, part in zip(labels, runs, strict=True) for q in part.query_ids)
    counts = np.concatenate([np.diff(part.offsets) for part in runs])
    return Run(
        query_ids,
        np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        np.concatenate([part.doc_ids for part in runs]),
        np.concatenate([part.scores for part in runs]),
    )
