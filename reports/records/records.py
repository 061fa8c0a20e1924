"""The record of a measured run: its schema, how it is read, and how it is written whole or not at all.

A record is a folder `results/<dataset>/<retriever>/<short hash>/` with four files:

`run.trec.gz`
    the ranking in TREC format; equal runs are equal bytes
`metrics.json`
    the mean of each metric
`per_query.csv`
    each metric for each judged query
`manifest.json`
    everything that produced them, as `Manifest` says
"""

import csv
import datetime
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
)

from harness.reports.errors import NewerRecordError, RecordError
from harness.reports.records.origin import FusedPart, Reranking, RunFile

SCHEMA_VERSION = 2  # 2: system.trained and system.model; records of 1 are read as if they said nothing of either
RUN, METRICS, PER_QUERY, MANIFEST = "run.trec.gz", "metrics.json", "per_query.csv", "manifest.json"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PaperRow(_Part):
    """A row of the paper's tables."""

    table: int
    row: str


class System(_Part):
    """What was run; only this, the data set and the rules decide which table cell a record may fill."""

    retriever: str  # as it was typed, so that it can be run again
    called: str | None = None  # the word it goes by, where that is another; written only then
    system: str
    stage: str | None
    variant: str | None
    paper_rows: tuple[PaperRow, ...]
    options: dict[str, Any]
    asked: dict[str, Any] = {}  # options that are not their defaults, without those that `variant` says
    checkpoint: str | None
    checkpoint_hash: str | None
    seed: int | None
    bytes_per_document: float | None  # ours: fp16 values, uint16 term ids
    bytes_per_document_paper: float | None  # the paper's counting: 32-bit values, 15-bit term ids
    # in the checkpoint's own words, as `harness train` writes them into its hybrid.json; empty where it says nothing
    trained: dict[str, Any] = {}
    model: dict[str, int] = {}  # `layers`, `hidden` (H) and `vocabulary` (V) of an encoder; empty where there is none
    # set where the run was not simply searched; such a record fills no row of the paper's tables
    reranked: Reranking | None = None
    fused: tuple[FusedPart, ...] = ()
    file: RunFile | None = None

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = dump(self)
        if self.called is None:
            found.pop("called", None)
        return found


class AppliedRules(_Part):
    """How the run was made and scored on this collection, and who says so."""

    drop_self: bool
    binary_level: int
    mrr_level: int | None = None  # where it is another than `binary_level`; else it is not written
    mean_of: tuple[str, ...]
    source: str
    titles: str  # "in the corpus", "none", "joined from FILE", or "none, though the paper's systems had them"
    titles_hash: str | None
    queries_with_text: bool = False  # the judged queries without a text were left out; written only where it is so
    query_field: tuple[str, ...] = ()  # the fields that were read, where they were named; else they are not written
    doc_fields: tuple[str, ...] = ()

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = dump(self)
        if self.mrr_level is None:
            found.pop("mrr_level", None)
        if not self.queries_with_text:
            found.pop("queries_with_text", None)
        for name in ("query_field", "doc_fields"):
            if not found[name]:
                found.pop(name)
        return found


class Data(_Part):
    """What was searched."""

    name: str
    dataset_id: str
    source: str
    location: str
    revision: str | None = None  # the commit of its repository, where it has one; written only then
    counts: dict[str, int]
    corpus_hash: str
    queries_hash: str
    qrels_hash: str
    formats: dict[str, str] = {}  # of loose files, what each was recognised as; else it is not written
    rules: AppliedRules

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = dump(self)
        if not self.formats:
            found.pop("formats", None)
        if self.revision is None:
            found.pop("revision", None)
        return found


class Cost(_Part):
    """What it took."""

    hardware: dict[str, str | int]
    seconds: dict[str, float]
    peak_memory_bytes: int
    queries_per_second: float | None
    # of a retriever that asks a service: `requests`, `retries`, `seconds` of all answers, and for a search engine the
    # latency of a query in milliseconds (`latency_ms_median`, `latency_ms_p95`); written only where there is one
    service: dict[str, int | float] | None = None

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = dump(self)
        if self.service is None:
            found.pop("service", None)
        return found


class Manifest(_Part):
    """Everything that produced a record."""

    schema_version: int
    created: str
    command: list[str]
    config: dict[str, Any]
    system: System
    data: Data
    top_k: int
    top_k_searched: int
    cost: Cost
    packages: dict[str, str]
    git_commit: str | None
    warnings: list[str]
    parts: list[str]
    files: dict[str, str]  # SHA-256 of the other three
    tuned: dict[str, Any] | None = None  # by which grid its options were chosen, and on what; written where it is so

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = dump(self)
        if self.tuned is None:
            found.pop("tuned", None)
        return found

    @field_validator("created")
    @classmethod
    def _time(cls, value: str) -> str:
        datetime.datetime.fromisoformat(value)  # by which the newest of several is told
        return value


class _Metrics(_Part):
    queries: int
    mean: dict[str, float]


@dataclass(frozen=True)
class Record:
    """A finished run."""

    folder: Path
    manifest: Manifest
    metrics: dict[str, float]

    def per_query(self) -> dict[str, dict[str, float]]:
        """{query id: {metric: value}}, for every judged query."""
        with (self.folder / PER_QUERY).open(newline="", encoding="utf-8") as file:
            return {
                row.pop("query_id"): {name: float(value) for name, value in row.items()} for row in csv.DictReader(file)
            }


def read(folder: Path) -> Record:
    """Read the record in `folder`.

    Raises RecordError where a file is missing, damaged or of a newer schema.
    """
    if not (folder / MANIFEST).is_file():
        raise RecordError(f"there is no record in {folder}: it has no {MANIFEST}. Name a folder that a run wrote.")
    try:
        raw = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise NewerRecordError(
                f"{folder}: a record of schema {version}; this harness reads up to {SCHEMA_VERSION}. Update it."
            )
        manifest = Manifest.model_validate(raw)
        if set(manifest.files) != {RUN, METRICS, PER_QUERY}:
            raise RecordError(f"{folder}: its manifest does not name the files of a record. Run again with --force.")
        for name, digest in manifest.files.items():
            if sha256(folder / name) != digest:
                raise RecordError(f"{folder / name}: not what the manifest says was written. Run again with --force.")
        metrics = _Metrics.model_validate_json((folder / METRICS).read_bytes()).mean
    except RecordError:
        raise
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise RecordError(
            f"{folder}: not a readable record ({'; '.join(wrong)[:200]}). Run again with --force."
        ) from error
    except (OSError, ValueError, RecursionError) as error:  # undecodable and malformed JSON are ValueErrors
        reason = " ".join(str(error).split())
        raise RecordError(f"{folder}: not a readable record ({reason[:200]}). Run again with --force.") from error
    return Record(folder, manifest, metrics)


def find(results: Path) -> tuple[list[Record], list[str]]:
    """Return all records under `results`, ordered by folder, and what is wrong with those that cannot be read."""
    records, problems = [], []
    for folder in sorted(results.glob("[!.]*/[!.]*/[!.]*")):  # what is still being written begins with a point
        try:
            records.append(read(folder))
        except RecordError as error:
            problems.append(str(error))
    return records, problems


@contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """Give a temporary folder beside `folder`; it takes its place when the block ends, and is removed if it fails.

    Whatever a killed process left beside it is removed first, so the caller must hold the record's lock.
    """
    new, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in (new, old):
        _remove(left)
    new.mkdir()
    try:
        yield new
        for path in new.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    finally:
        if not folder.exists() and old.exists():
            old.rename(folder)  # the new one could not take its place: what was finished stays
        _remove(new)
        _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_scores(
    folder: Path, query_ids: Sequence[str], values: Mapping[str, Sequence[float]], mean: Mapping[str, float]
) -> None:
    """Write `metrics.json` and `per_query.csv`; floats with all their digits."""
    (folder / METRICS).write_text(json.dumps({"queries": len(query_ids), "mean": dict(mean)}, indent=1) + "\n")
    with (folder / PER_QUERY).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["query_id", *values])
        for row, query_id in enumerate(query_ids):
            table.writerow([query_id, *(repr(float(column[row])) for column in values.values())])


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json`, with the hashes of the files that are in `folder` already."""
    files = {name: sha256(folder / name) for name in (RUN, METRICS, PER_QUERY)}
    (folder / MANIFEST).write_text(manifest.model_copy(update={"files": files}).model_dump_json(indent=1) + "\n")


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
