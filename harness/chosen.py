"""Which records a picture is drawn from, and what they are called in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from reports import records
from reports.records import Record
from retrievers.errors import InputError


@dataclass(frozen=True)
class Named:
    """A record, and what its system is called in a picture."""

    label: str
    record: Record


def choose(
    folders: Sequence[Path] | None,
    results: Path,
    datasets: Sequence[str] | None,
    retrievers: Sequence[str] | None,
    labels: Sequence[str] | None,
) -> list[Named]:
    """The records to draw: those named, or all under `results`; of those of one name on one collection the newest.

    What is left out, or cannot be read, is named on standard error. Raises InputError where none is left.
    """
    if folders:
        found = [records.read(folder) for folder in folders]
    elif not results.is_dir():
        raise InputError(f"there is no folder {results}. Run something first, or name the folder with --results.")
    else:
        found, problems = records.find(results)
        for problem in problems:
            _warn(problem)
    if not found:
        raise InputError(f"there is no finished run in {results}. Run something first, or name another --results.")
    for option, wanted, there in (
        ("--dataset", datasets, {record.manifest.data.name for record in found}),
        ("--retriever", retrievers, {record.manifest.system.retriever for record in found}),
    ):
        if absent := [name for name in wanted or () if name not in there]:
            raise InputError(f"{option} {', '.join(absent)}: no record is of it; there is {', '.join(sorted(there))}.")
    chosen = [
        record
        for record in found
        if (not datasets or record.manifest.data.name in datasets)
        and (not retrievers or record.manifest.system.retriever in retrievers)
    ]
    if not chosen:
        raise InputError("no record is of both a --dataset and a --retriever that are named. Leave one out.")
    return _newest(labelled(chosen, labels), bool(folders))


def _newest(found: Sequence[Named], named: bool) -> list[Named]:
    best: dict[tuple[str, str], Named] = {}
    for one in found:
        manifest = one.record.manifest
        key = manifest.data.name, one.label
        other = best.get(key)
        if other is None:
            best[key] = one
            continue
        if named:
            raise InputError(
                f"{other.record.folder} and {one.record.folder} are both {one.label} on {manifest.data.name}. Name "
                "one, or tell them apart by --label FOLDER=TEXT."
            )
        newer, older = sorted((other, one), key=lambda n: n.record.manifest.created, reverse=True)
        best[key] = newer
        _warn(
            f"two records are {one.label} on {manifest.data.name}: {newer.record.folder} is newer and is drawn, "
            f"{older.record.folder} is left out; --label FOLDER=TEXT tells them apart"
        )
    return list(best.values())


def labelled(found: Sequence[Record], labels: Sequence[str] | None) -> list[Named]:
    """Each record's system, stage and variant as words, or the words that the user has for these."""
    own: dict[str, str] = {}
    for word in labels or ():
        name, equals, text = word.partition("=")
        if not equals or not name or not text:
            raise InputError(f"--label {word!r} is not NAME=TEXT.")
        own[name] = text
    names = [_name(record) for record in found]
    folders = [str(record.folder) for record in found]
    if unknown := [name for name in own if name not in names and str(Path(name)) not in folders]:
        there = ", ".join(dict.fromkeys(names))
        raise InputError(f"--label {', '.join(unknown)}: no system or record has this name; there is {there}.")
    own = {str(Path(name)) if str(Path(name)) in folders else name: text for name, text in own.items()}
    return [
        Named(own.get(folder, own.get(name, name)), record)
        for folder, name, record in zip(folders, names, found, strict=True)
    ]


def _name(record: Record) -> str:
    system = record.manifest.system
    # a checkpoint is known by its folder's or hub id's last word
    word = f"hf:{Path(system.retriever).name}" if system.retriever.startswith("hf:") else system.system
    more = ", ".join(part for part in (system.stage, system.variant) if part)
    return f"{word} ({more})" if more else word


def _warn(message: str) -> None:
    typer.echo(f"warning: {message}", err=True)
