"""Records found by what a user calls them."""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.metrics.measure import Levels
from harness.metrics.names import Measured
from harness.reports.errors import RecordError
from harness.reports.records import comparable, records
from harness.reports.records.labels import label
from harness.reports.records.names import aliases, slug
from harness.reports.records.records import Record
from harness.retrievers.errors import InputError
from harness.retrievers.places import expanded

_SHORTEST = 4  # letters of a hash


def find(word: str, results: Path) -> Record:
    """The record that `word` names: its folder, its hash (or a beginning of it), `dataset/retriever` or all three.

    The retriever goes by the name that tables have, or by its whole name, as it was typed or as a folder's name.

    Raises InputError for none or several, naming them; RecordError for a record that cannot be read.
    """
    path = expanded(word)
    if (path / records.MANIFEST).exists():
        return records.read(path)
    every = [folder for folder in sorted(results.glob("[!.]*/[!.]*/[!.]*")) if folder.is_dir()]
    hits = [folder for folder in every if _names(word, folder)]
    if len(hits) == 1:
        return records.read(hits[0])
    if hits:
        raise InputError(f"{word!r} is {len(hits)} records. Name one by its hash: {'; '.join(map(_described, hits))}.")
    if path.is_dir():
        raise InputError(
            f"{path} is no record: it holds no {records.MANIFEST}. Give a folder that `harness run` wrote."
        )
    if not every:
        raise InputError(
            f"no record {word!r}: it is no folder, and {results} holds no record. --results names another."
        )
    shown = "; ".join(str(folder) for folder in every[:10]) + f"; and {len(every) - 10} more" * (len(every) > 10)
    raise InputError(
        f"no record {word!r}. Give a record's folder, its hash, or dataset/retriever of one in {results}: {shown}."
    )


def _names(word: str, folder: Path) -> bool:
    dataset, retriever, digest = folder.parts[-3:]
    if len(word) >= _SHORTEST and digest.startswith(word):
        return True
    if not slug(word).startswith(slug(dataset)):
        return False
    names = {slug(retriever)}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        system = json.loads((folder / records.MANIFEST).read_bytes())["system"]
        names |= aliases(str(system["retriever"]), system.get("called"))
    return slug(word) in {slug(f"{dataset}/{name}{more}") for name in names for more in ("", f"/{digest}")}


def _described(folder: Path) -> str:
    try:
        manifest = records.read(folder).manifest
    except RecordError:
        return f"{folder.name} (not readable)"
    return f"{folder.name}, {label(manifest)}, of {manifest.created[:16]}"


def check_collections(found: Sequence[Record]) -> None:
    """Raise InputError where records differ in corpus, titles, queries, judgments or rules."""
    if fault := comparable.unlike(found):
        raise InputError(f"{fault} Compare runs of the same collection.")


def check_names(found: Sequence[Record]) -> None:
    """Raise InputError where two collections of one name would stand side by side."""
    for fault in comparable.unlike_of_a_name(found):
        raise InputError(f"{fault} Name the records of one of them alone, or keep the others in another --results.")


def check_depths(found: Sequence[Record], metric: str, allow_shallow: bool) -> list[int | None]:
    """The depth of each record where the metric looks deeper, None elsewhere; all None where they are alike.

    Raises InputError where they are not alike and `allow_shallow` is not set; who sets it marks what it shows.
    """
    fault = comparable.unlike_depths(found, metric)
    if fault and not allow_shallow:
        raise InputError(fault)
    return [comparable.depth(one, comparable.looks_to(metric)) if fault else None for one in found]


def measured(record: Record) -> Measured:
    """A record's means, under any of a metric's names."""
    rules = record.manifest.data.rules
    return Measured(record.metrics, Levels(rules.binary_level, rules.mrr_level))


def values_of(record: Record, metric: str) -> dict[str, float]:
    """{query id: value} by one metric, by any of its names. Raises RecordError where the record lacks it at a query."""
    kept = measured(record).kept_as(metric) or metric
    try:
        return {query: row[kept] for query, row in record.per_query().items()}
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(
            f"{record.folder / records.PER_QUERY}: no number for {metric} at every query ({error!r}). "
            "Run again with --force."
        ) from error


def _can_be_read(path: Path) -> bool:
    """Whether it is a file, or a pipe such as a shell's <(…)."""
    return path.is_file() or path.is_fifo() or path.is_char_device()


def is_run_file(word: str | Path) -> bool:
    """Whether a word names a file, or a pipe, rather than a record."""
    return _can_be_read(expanded(word))


def record_of(found: Any, results: Path) -> Record | None:
    """The record that a word names, as in `harness.runs.lookup.find`; None for a file, or an object in memory.

    Raises InputError for a word that names none, or several; RecordError for a record that cannot be read.
    """
    if isinstance(found, Record):
        return found
    if not isinstance(found, str | Path) or _can_be_read(expanded(found)):
        return None
    return find(str(found), results)
