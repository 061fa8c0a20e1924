"""Expected scores: a small YAML file to review, and beside it a CSV with what explains a change, query by query."""

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from harness.config import explain, read_yaml
from harness.scoring import parse_metrics
from retrievers.errors import InputError

SCHEMA = 1
TOLERANCE = 0.0005  # less than what changes a value that is printed with three decimals, as the paper's are
METRICS = ("NDCG@10", "MRR@10", "R@100")  # of a new entry
EMBEDDED = Path(__file__).parent / "data" / "baselines" / "mini.yaml"
DEPTH = 10
_HEADER = """\
# Expected scores for `harness check`; docs/checks.md says what each line means.
# `harness check --update` writes this file anew, and the CSV beside it, from what it measures: options, tolerances and
# notes stay, comments do not. Review the changes it shows before you commit them.
"""
_SHA256 = r"^[0-9a-f]{64}$"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Expected(_Part):
    """A mean, and how far from it a measured one may be."""

    value: float | None = Field(None, ge=0, le=1)
    tolerance: float = Field(TOLERANCE, ge=0, le=1)


class Inputs(_Part):
    """Hex SHA-256 of what was searched and scored."""

    corpus: str = Field(pattern=_SHA256)
    queries: str = Field(pattern=_SHA256)
    judgments: str = Field(pattern=_SHA256)


class Entry(_Part):
    """One retriever on one collection. Without values or inputs it waits for `harness check --update`."""

    name: str = Field(min_length=1)
    retriever: str
    options: dict[str, Any] = {}
    dataset: str
    titles: Path | None = None
    note: str = ""
    top_k: int = Field(0, ge=0, le=1_000_000, strict=True)  # 0: as many as the metrics need
    metrics: dict[str, Expected] = Field(min_length=1)
    check_top_10: bool = True
    top_10: str | None = Field(None, pattern=_SHA256)
    queries: int | None = None
    inputs: Inputs | None = None
    packages: dict[str, str] = {}  # what it was measured with
    per_query: str | None = Field(None, pattern=_SHA256)  # of its lines in the CSV

    @model_validator(mode="before")
    @classmethod
    def _listed(cls, values: Any) -> Any:
        """Allow a list of metrics, or none, where there are no values yet."""
        if isinstance(values, dict):
            metrics = values.get("metrics", list(METRICS))
            if isinstance(metrics, list):
                metrics = {str(name): {} for name in metrics}
            values = {**values, "metrics": metrics}
        return values

    @field_validator("metrics")
    @classmethod
    def _known(cls, value: dict[str, Expected]) -> dict[str, Expected]:
        names = [str(metric) for name in value for metric in parse_metrics([name])]
        if len(set(names)) < len(names):
            raise ValueError(f"a metric stands twice: {', '.join(value)}")
        return dict(zip(names, value.values(), strict=True))

    def depth(self) -> int:
        """How many results to ask for."""
        return self.top_k or max(DEPTH, *(metric.cutoff for metric in parse_metrics(self.metrics)))

    @property
    def filled(self) -> bool:
        """Whether there is something to compare with."""
        return self.inputs is not None and all(expected.value is not None for expected in self.metrics.values())


@dataclass(frozen=True)
class Row:
    """One query of an entry: its scores, short hashes of its text and judgments, and its first documents."""

    scores: dict[str, float]
    text: str
    judgments: str
    top: tuple[str, ...]


Rows = dict[str, Row]


@dataclass(frozen=True)
class Baseline:
    """The entries that can be used, what is wrong with the others ({name: message}), and the rows of each entry."""

    path: Path
    entries: tuple[Entry, ...]
    problems: dict[str, str]
    rows: dict[str, Rows]


def short_hash(text: str) -> str:
    """Eight hex digits, to tell which query's text or judgments are others."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]


def top_hash(top: Mapping[str, Sequence[str]]) -> str:
    """Hex SHA-256 of the first documents of every query, queries in order of their ids."""
    digest = hashlib.sha256()
    for query_id in sorted(top):
        digest.update("\0".join((query_id, *top[query_id])).encode() + b"\n")
    return digest.hexdigest()


def read(path: Path) -> Baseline:
    """Read a baseline and its CSV, which may be missing.

    Raises InputError where the YAML is missing, malformed, newer than this harness or without a single entry; an entry
    that is wrong is among the `problems` instead, and the others can be used.
    """
    if not path.is_file():
        raise InputError(
            f"there is no baseline {path}. Make one: harness check --update --baseline {path} -r RETRIEVER -d DATASET."
        )
    values = read_yaml(path, "schema: 1")
    version = values.pop("schema", None)
    if isinstance(version, int) and version > SCHEMA:
        raise InputError(f"{path}: a baseline of schema {version}; this harness reads up to {SCHEMA}. Update it.")
    if version != SCHEMA:
        raise InputError(f"{path}: schema is {version!r}; want {SCHEMA}.")
    listed = values.pop("entries", None)
    if values or not isinstance(listed, list) or not listed:
        extra = f"unknown: {', '.join(values)}; " if values else ""
        raise InputError(f"{path}: {extra}want `schema: {SCHEMA}` and a list `entries` of one entry at least.")
    entries: dict[str, Entry] = {}
    problems: dict[str, str] = {}
    for number, item in enumerate(listed, 1):
        name = str(item["name"]) if isinstance(item, dict) and "name" in item else f"entry {number}"
        try:
            entry = Entry.model_validate(item)
            if name in entries:
                raise InputError("the name stands twice; give each entry its own.")
            entries[name] = entry
        except ValidationError as error:
            problems[name] = f"{path}: {explain(error, sorted(Entry.model_fields))}"
        except InputError as error:
            problems[name if name not in entries else f"{name} (entry {number})"] = f"{path}: {error}"
    return Baseline(path, tuple(entries.values()), problems, _read_rows(path, entries.values()))


def _read_rows(path: Path, entries: Iterable[Entry]) -> dict[str, Rows]:
    """The rows of those entries for which the CSV has what the YAML was written with."""
    beside = path.with_suffix(".csv")
    found: dict[str, Rows] = {}
    if not beside.is_file():
        return found
    metrics = {entry.name: list(entry.metrics) for entry in entries}
    try:
        with beside.open(newline="", encoding="utf-8") as file:
            for line in csv.DictReader(file):
                name = line["entry"]
                if name in metrics:
                    scores = {metric: float(line[metric]) for metric in metrics[name]}
                    row = Row(scores, line["text"], line["judgments"], tuple(line["top_10"].split()))
                    found.setdefault(name, {})[line["query_id"]] = row
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error):
        return {}
    return {entry.name: found[entry.name] for entry in entries if _whole(entry, found)}


def _whole(entry: Entry, found: Mapping[str, Rows]) -> bool:
    return entry.name in found and rows_hash(found[entry.name]) == entry.per_query


def rows_hash(rows: Rows) -> str:
    """Hex SHA-256 of an entry's rows, in order of the query ids."""
    digest = hashlib.sha256()
    for query_id, row in sorted(rows.items()):
        scores = [f"{name}={value!r}" for name, value in sorted(row.scores.items())]
        digest.update("\0".join((query_id, *scores, row.text, row.judgments, *row.top)).encode() + b"\n")
    return digest.hexdigest()


class _OneLine(dict[str, Any]):
    """A mapping that is written in one line."""


class _Dumper(yaml.SafeDumper):
    """Safe YAML that knows `_OneLine`."""


_Dumper.add_representer(
    _OneLine, lambda dumper, values: dumper.represent_mapping("tag:yaml.org,2002:map", values.items(), flow_style=True)
)


def write(path: Path, entries: Sequence[Entry], rows: Mapping[str, Rows]) -> bool:
    """Write both files, each to a temporary name first; returns whether either is another than before.

    The YAML names the hash of each entry's rows, so a pair that was half replaced is noticed.
    """
    left_out: tuple[object, ...] = (None, "", {}, 0, True)  # what an entry without the key has as well
    listed = [
        {key: value for key, value in entry.model_dump(mode="json").items() if value not in left_out}
        for entry in entries
    ]
    for values in listed:
        values["metrics"] = {name: _OneLine(expected) for name, expected in values["metrics"].items()}
    whole = {"schema": SCHEMA, "entries": listed}
    body = yaml.dump(whole, Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=120, allow_unicode=True)
    # the CSV first: until the YAML follows, the old one says that these rows are not its own
    written = [replace(path.with_suffix(".csv"), _csv(entries, rows)), replace(path, _HEADER + body)]
    return any(written)


def _csv(entries: Sequence[Entry], rows: Mapping[str, Rows]) -> str:
    metrics = list(dict.fromkeys(name for entry in entries for name in entry.metrics))
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["entry", "query_id", *metrics, "text", "judgments", "top_10"])
    for entry in entries:
        for query_id, row in sorted(rows.get(entry.name, {}).items()):
            scores = [repr(row.scores[name]) if name in row.scores else "" for name in metrics]
            table.writerow([entry.name, query_id, *scores, row.text, row.judgments, " ".join(row.top)])
    return out.getvalue()


def replace(path: Path, text: str) -> bool:
    """Write a text to a temporary name, then over `path`; returns False where it is there already."""
    if path.is_file() and path.read_bytes() == text.encode():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
    return True
