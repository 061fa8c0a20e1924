"""Expected scores on disk: a small YAML file to review, and a CSV beside it with what explains a change, by query."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from harness.checks.baseline import Entry, Expected, Inputs, Row, Rows, rows_hash
from harness.reports.files import write_whole
from harness.retrievers.errors import InputError, unknown
from harness.retrievers.yaml_files import read_yaml
from harness.runs.config import explain

SCHEMA = 1
_INSIDE = {"metrics": sorted(Expected.model_fields), "inputs": sorted(Inputs.model_fields)}
EMBEDDED = Path(__file__).parents[1] / "data" / "baselines" / "mini.yaml"
_HEADER = """\
# Expected scores for `harness check`; docs/checks.md says what each line means.
# `harness check --update` writes this file anew, and the CSV beside it, from what it measures: options, tolerances and
# notes stay, comments do not. Review the changes it shows before you commit them.
"""


@dataclass(frozen=True)
class Baseline:
    """The entries that can be used, what is wrong with the others ({name: message}), and the rows of each entry.

    `of` holds what the others say of themselves: {name: (retriever, dataset)}.
    """

    path: Path
    entries: tuple[Entry, ...]
    problems: dict[str, str]
    rows: dict[str, Rows]
    of: dict[str, tuple[str, str]] = field(default_factory=dict)

    def named(self, entry: str | None) -> "Baseline":
        """The entry of a name alone, of all where none is named. Raises InputError for a name that no entry has."""
        if entry is None:
            return self
        there = [one.name for one in self.entries] + list(self.problems)
        if entry not in there:
            raise unknown(f"entry of {self.path}", entry, there)
        problems = {name: problem for name, problem in self.problems.items() if name == entry}
        return replace(self, entries=tuple(one for one in self.entries if one.name == entry), problems=problems)

    def only(self, retrievers: Sequence[str], datasets: Sequence[str]) -> "Baseline":
        """The entries of the named retrievers and collections, of all where none is named.

        Raises InputError for a name that no entry has.
        """
        both = [(entry.retriever, entry.dataset) for entry in self.entries] + list(self.of.values())
        for place, (kind, given) in enumerate((("retriever", retrievers), ("dataset", datasets))):
            there = {pair[place] for pair in both}
            for name in given:
                if name not in there:
                    raise unknown(f"{kind} of {self.path}", name, there, "--update makes a new entry.")

        def asked(retriever: str, dataset: str) -> bool:
            return (not retrievers or retriever in retrievers) and (not datasets or dataset in datasets)

        entries = tuple(entry for entry in self.entries if asked(entry.retriever, entry.dataset))
        problems = {name: problem for name, problem in self.problems.items() if asked(*self.of[name])}
        return replace(self, entries=entries, problems=problems)


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
    of: dict[str, tuple[str, str]] = {}
    for number, item in enumerate(listed, 1):
        name = str(item["name"]) if isinstance(item, dict) and "name" in item else f"entry {number}"
        try:
            entry = Entry.model_validate(item)
            if name in entries:
                raise InputError("the name stands twice; give each entry its own.")
            entries[name] = entry
        except ValidationError as error:
            problem = f"{path}: {explain(error, sorted(Entry.model_fields), _INSIDE)}"
        except InputError as error:
            problem = f"{path}: {error}"
        else:
            continue
        name = name if name not in entries else f"{name} (entry {number})"
        said = item if isinstance(item, dict) else {}
        problems[name], of[name] = problem, (str(said.get("retriever")), str(said.get("dataset", "mini")))
    return Baseline(path, tuple(entries.values()), problems, _read_rows(path, entries.values()), of)


def _read_rows(path: Path, entries: Iterable[Entry]) -> dict[str, Rows]:
    """The rows of those entries for which the CSV has what the YAML was written with."""
    beside = path.with_suffix(".csv")
    found: dict[str, Rows] = {}
    if not beside.is_file():
        return found
    metrics = {entry.name: list(entry.metrics) for entry in entries}
    try:
        with beside.open(newline="", encoding="utf-8-sig") as file:
            for line in csv.DictReader(file):
                name = line["entry"]
                if name in metrics:
                    scores = {metric: float(line[metric]) for metric in metrics[name]}
                    row = Row(scores, line["text"], line["judgments"], tuple(filter(None, line["top_10"].split(" "))))
                    found.setdefault(name, {})[line["query_id"]] = row
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error):
        return {}
    return {entry.name: found[entry.name] for entry in entries if _whole(entry, found)}


def _whole(entry: Entry, found: Mapping[str, Rows]) -> bool:
    return entry.name in found and rows_hash(found[entry.name]) == entry.per_query


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
    listed = [
        {key: value for key, value in entry.model_dump(mode="json").items() if value != Entry.model_fields[key].default}
        for entry in entries
    ]
    for values in listed:
        values["metrics"] = {name: _OneLine(expected) for name, expected in values["metrics"].items()}
    whole = {"schema": SCHEMA, "entries": listed}
    body = yaml.dump(whole, Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=120, allow_unicode=True)
    # the CSV first: until the YAML follows, the old one says that these rows are not its own
    written = [write_whole(path.with_suffix(".csv"), _csv(entries, rows)), write_whole(path, _HEADER + body)]
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
