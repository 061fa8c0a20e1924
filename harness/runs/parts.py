"""Runs that are to be put together: found by what the user calls them, and checked to be of one collection."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.analysis.comparison import find
from harness.datasets.dataset import Dataset
from harness.reports.records import records
from harness.reports.records.origin import FusedPart
from harness.reports.records.records import Record
from harness.retrievers.errors import InputError
from harness.retrievers.run_files import fusion, trec
from harness.retrievers.run_files.exchange import aligned
from harness.retrievers.types import Run
from harness.runs import recorded_data
from harness.runs.config import RunConfig
from harness.runs.external import fitted, given, one_dataset
from harness.runtime.job import Conductor


@dataclass(frozen=True)
class Part:
    """A run to fuse; `record` is None for one from a file."""

    named: FusedPart
    run: Run
    record: Record | None


def record_of(found: Any, results: Path) -> Record | None:
    """The record that a word names, as in `harness.analysis.comparison.find`; None for a file, or an object in memory.

    Raises InputError for a word that names none, or several; RecordError for a record that cannot be read.
    """
    if isinstance(found, Record):
        return found
    if not isinstance(found, str | Path) or Path(found).expanduser().is_file():
        return None
    return find(str(found), results)


def check_one_collection(firsts: Sequence[Record]) -> None:
    """Raise InputError where records differ in corpus, queries, judgments or rules, or one is a mean of several."""
    for record in firsts:
        if record.manifest.parts:
            raise InputError(
                f"{record.folder} is the mean of {len(record.manifest.parts)} collections. Fuse their runs one by one."
            )
        a, b = firsts[0].manifest.data, record.manifest.data
        if other := recorded_data.differences(a, b):
            raise InputError(
                f"{firsts[0].folder} ({a.name}) and {record.folder} ({b.name}) are not of one collection: they differ "
                f"in {', '.join(other)}. Fuse runs of the same collection."
            )


def dataset_of(firsts: Sequence[Record], named: str | None, config: RunConfig) -> Dataset:
    """The collection that is `named`, else that of the records. Raises InputError where it is not here."""
    if named is not None or not firsts:
        return one_dataset(str(named), config.titles)
    before = firsts[0].manifest
    titles = before.config.get("titles")
    return one_dataset(recorded_data.asked_name(before.data), config.titles or (Path(titles) if titles else None))


def check_unchanged(record: Record, dataset: Dataset) -> None:
    """Raise InputError where the collection is not what the record was made with."""
    now = {"corpus": dataset.content_hash, "queries": dataset.queries_hash, "judgments": dataset.qrels_hash}
    data = record.manifest.data
    then = {"corpus": data.corpus_hash, "queries": data.queries_hash, "judgments": data.qrels_hash}
    if other := [name for name, value in now.items() if then[name] != value]:
        raise InputError(
            f"{record.folder} was made with another {record.manifest.data.name} than {dataset.name} is now: "
            f"{', '.join(other)} differ. Run it again, or name its collection with --dataset."
        )


def part_of(
    found: Any, record: Record | None, weight: float | None, dataset: Dataset, top_k: int, job: Conductor
) -> Part:
    """Read a part, with the collection's queries in their order. Raises InputError as `harness.runs.external`."""
    query_ids = [query.query_id for query in dataset.queries]
    if record is not None:
        system = record.manifest.system
        named = FusedPart(
            name=f"{system.retriever} ({system.variant})" if system.variant else system.retriever,
            record=record.folder.name,
            location=str(record.folder.absolute()),
            run_hash=record.manifest.files[records.RUN],
            weight=weight,
        )
        return Part(named, aligned(trec.read(record.folder / records.RUN), query_ids), record)
    content = given(found)
    run = fitted(content, dataset, top_k, job)
    file = content.file
    name = file.tag or Path(file.location).name
    named = FusedPart(
        name=name, record=None, location=file.location, run_hash=file.sha256 or fusion.digest(run), weight=weight
    )
    return Part(named, run, None)


def shortly(parts: Sequence[Part]) -> str:
    """The parts' retrievers, in a few words."""
    names = [part.record.manifest.system.retriever if part.record else part.named.name for part in parts]
    return " + ".join(f"hf:{Path(name).name}" if name.startswith("hf:") else name for name in names)


def check_once(parts: Sequence[Part]) -> None:
    """Raise InputError where two parts are the same run, whatever they are called."""
    digests = [fusion.digest(part.run) for part in parts]
    for number, one in enumerate(digests):
        if one in digests[:number]:
            raise InputError(
                f"{parts[number].named.location} is the same run as {parts[digests.index(one)].named.location}. "
                "Give each run once; a weight counts one more."
            )
