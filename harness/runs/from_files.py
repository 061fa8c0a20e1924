"""Runs from files where records are wanted: each is scored, and its record is thrown away after use."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.metrics.names import parse_metrics
from harness.reports.records.records import Record
from harness.retrievers.errors import InputError
from harness.runs import recorded_data
from harness.runs.config import build
from harness.runs.external import given, judged_by, label_of, score_given, unnamed
from harness.runs.lookup import record_of

_DEPTH = 1000  # results of a query, where no metric looks deeper


@contextmanager
def records_of(
    found: Sequence[Any],
    results: Path,
    metrics: Sequence[str],
    dataset: str | None = None,
    qrels: str | None = None,
) -> Iterator[list[Record]]:
    """The records that are named, and those of runs that are not recorded (files, objects in memory), in order.

    A run is scored by `metrics` and the judgments of `dataset` or of the file `qrels`; where neither is named, by those
    of the first record. Raises InputError where there is none, or where one is named and every run has its record; and
    as `harness.runs.lookup.find` and `harness.runs.external.score_given`.
    """
    there = [record_of(one, results) for one in found]
    known = [record for record in there if record is not None]
    if len(known) == len(there):
        if dataset is not None or qrels is not None:
            raise InputError("every run here is a record, which says what it is of. Leave out --dataset and --qrels.")
        yield known
        return
    judged, texts = judged_by(dataset, qrels), False
    if judged is None:
        if not known:
            raise unnamed()
        data = known[0].manifest.data
        judged, texts = recorded_data.asked_name(data), data.rules.queries_with_text
    top_k = max([_DEPTH, *(metric.cutoff or 0 for metric in parse_metrics(metrics))])
    with tempfile.TemporaryDirectory(prefix="harness-runs-") as place:
        folders: dict[Path, str] = {}
        for number, (one, record) in enumerate(zip(found, there, strict=True)):
            if record is None:
                run = given(one)
                values = {
                    "retrievers": [label_of(None, run)], "datasets": [judged], "metrics": list(metrics), "top_k": top_k,
                    "queries_with_text": texts, "results": place,
                }  # fmt: skip
                made = score_given(build(values, "a run from a file"), run, ["harness", "score"]).record
                if made.folder in folders:
                    raise InputError(
                        f"{folders[made.folder]} and {run.file.location} are the same run. Give each once."
                    )
                folders[made.folder], there[number] = run.file.location, made
        yield [record for record in there if record is not None]


def place_of(record: Record) -> str:
    """Where a record is, or the file that its run is from where the record itself is thrown away."""
    file = record.manifest.system.file
    return str(record.folder) if file is None or record.folder.exists() else file.location
