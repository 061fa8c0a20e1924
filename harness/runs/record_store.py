"""Where records are kept: a folder for each, read whole, written whole, by one process at a time."""

import contextlib
import hashlib
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.datasets.dataset import Dataset
from harness.metrics.names import parse_metrics
from harness.metrics.ranx import start_compiling
from harness.metrics.scoring import Scores, score
from harness.reports.errors import NewerRecordError, RecordError
from harness.reports.records import records
from harness.reports.records.names import slug
from harness.reports.records.records import Manifest, Record
from harness.retrievers.errors import InputError
from harness.retrievers.run_files import trec
from harness.retrievers.types import Run
from harness.runtime.job import HarnessJob
from harness.runtime.locks import held


@dataclass(frozen=True)
class Outcome:
    """A record, and whether this call made it or found it."""

    record: Record
    found: bool

    def run(self) -> Run:
        """The record's run, read from its file."""
        return trec.read(self.record.folder / records.RUN)


class LockedFolder:
    """The folder of one record, held alone: `outcome` is what was found there, or None where it is to be made."""

    def __init__(self, store: "RecordStore", folder: Path, tag: str, dataset: Dataset, names: Sequence[str]) -> None:
        self.store, self.folder, self.tag, self.dataset, self.names = store, folder, tag, dataset, names
        self.outcome = self._found()
        if self.outcome is None:
            start_compiling(parse_metrics(names))

    def _found(self) -> Outcome | None:
        found = self.store.finished(self.folder)
        if found is None:
            return None
        if set(self.names) <= set(found.metrics):
            return Outcome(found, found=True)
        # the run is there, only a metric is wanted that was not asked for then
        run, self.names = trec.read(found.folder / records.RUN), [*found.metrics, *self.names]
        return self.write(run, self.score(run), found.manifest)

    def score(self, run: Run) -> Scores:
        """Score a run by the collection's judgments."""
        with self.store.job.phase("score", len(self.dataset.qrels), "queries"):
            return score(run, self.dataset.qrels, parse_metrics(self.names), self.dataset.rules.levels)

    def write(self, run: Run, scores: Scores, made: Manifest) -> Outcome:
        """Write the record whole."""
        return Outcome(self.store.write(self.folder, self.tag, run, scores, scores.mean(), made), found=False)


class RecordStore:
    """The records under one folder. With `force` none is found, so that each is made anew."""

    def __init__(self, results: Path, force: bool, job: HarnessJob) -> None:
        self.results, self.force, self.job = results, force, job

    def folder(self, dataset: str, retriever: str, key: object, whole: str | None = None) -> Path:
        """`results/<dataset>/<retriever>/<short hash>`; `key` is whatever decides the run's bytes.

        A record that was filed under the retriever's `whole` name, before its name was a word, stays where it is.
        """
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:10]
        place = self.results / slug(dataset)
        here, before = place / slug(retriever) / digest, place / slug(whole or retriever) / digest
        return before if before.exists() and not here.exists() else here

    def finished(self, folder: Path) -> Record | None:
        """The record in `folder` if it is whole; one that is damaged is told of, and not found."""
        if self.force or not folder.exists():
            return None
        try:
            return records.read(folder)
        except NewerRecordError:
            raise
        except RecordError as error:
            self.job.warn(str(error).replace("Run again with --force.", "It is made anew."))
            return None

    def write(
        self, folder: Path, tag: str, result: Run, scores: Scores, mean: dict[str, float], made: Manifest
    ) -> Record:
        """Write a record whole; `tag` and the folder's name make the last column of its TREC file."""
        with records.writing(folder) as new:
            trec.write(result, new / records.RUN, tag_of(tag, folder))
            records.write_scores(new, scores.query_ids, {m: v.tolist() for m, v in scores.values.items()}, mean)
            records.write_manifest(new, made)
        return records.read(folder)

    @contextlib.contextmanager
    def lend(self, folder: Path, tag: str, dataset: Dataset, names: Sequence[str]) -> Iterator[LockedFolder]:
        """Hold the place of a run on `dataset` alone, to find its record there or to make it.

        A record that lacks only a metric of `names` is scored anew. `tag` is the last column of the run's TREC file.
        """
        with self.lock(folder):
            yield LockedFolder(self, folder, tag, dataset, names)

    @contextlib.contextmanager
    def lock(self, folder: Path) -> Iterator[None]:
        """Hold a record alone; the kernel lets go of the lock of a killed process."""
        locks = self.results / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        with held(
            locks / "-".join(folder.parts[-3:]),
            f"another process is writing {folder} right now. Wait for it (this command will then find the finished "
            "run), or write elsewhere with --results.",
        ):
            yield


def tag_of(name: str, folder: Path) -> str:
    """The tag of a run: the retriever and the record's hash, so variants of one retriever have different tags."""
    word = re.sub(r"\s+", "_", name)
    return f"{word}-{folder.name}"


def check_writable(results: Path) -> None:
    """Raise InputError where nothing can be written into `results`, before anything is computed."""
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
