"""Where records are kept: a folder for each, read whole, written whole, by one process at a time."""

import contextlib
import hashlib
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.metrics.scoring import Scores
from harness.reports.errors import NewerRecordError, RecordError
from harness.reports.records import records
from harness.reports.records.records import Manifest, Record
from harness.retrievers.errors import InputError
from harness.retrievers.run_files import trec
from harness.retrievers.types import Run
from harness.runtime.job import HarnessJob
from harness.runtime.locks import held


class RecordStore:
    """The records under one folder. With `force` none is found, so that each is made anew."""

    def __init__(self, results: Path, force: bool, job: HarnessJob) -> None:
        self.results, self.force, self.job = results, force, job

    def folder(self, dataset: str, retriever: str, key: object) -> Path:
        """`results/<dataset>/<retriever>/<short hash>`; `key` is whatever decides the run's bytes."""
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:10]
        return self.results / slug(dataset) / slug(retriever) / digest

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
        """Write a record whole; `tag` is the last column of its TREC file."""
        with records.writing(folder) as new:
            trec.write(result, new / records.RUN, re.sub(r"\s+", "_", tag))
            records.write_scores(new, scores.query_ids, {m: v.tolist() for m, v in scores.values.items()}, mean)
            records.write_manifest(new, made)
        return records.read(folder)

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


def slug(name: str) -> str:
    """`name` as the name of a folder."""
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "unnamed"


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
