"""Which records a picture is drawn from, and what they are called in it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.reports.records import records
from harness.reports.records.labels import label, name_of, options, told_apart
from harness.reports.records.records import Record
from harness.retrievers.errors import InputError
from harness.runs.from_files import records_of
from harness.runs.lookup import check_names, find, is_run_file
from harness.runtime import log


@dataclass(frozen=True)
class Named:
    """A record, and what its system is called in a picture."""

    label: str
    record: Record


@contextmanager
def chosen(
    words: Sequence[str] | None,
    results: Path,
    datasets: Sequence[str] | None,
    retrievers: Sequence[str] | None,
    labels: Sequence[str] | None,
    metrics: Sequence[str],
    qrels: str | None,
) -> Iterator[list[Named]]:
    """As `choose`; run files among the words are scored by `metrics` and the one collection of `datasets`, or `qrels`.

    Raises InputError for several collections of run files, or judgments where there is no such file.
    """
    if not any(is_run_file(word) for word in words or ()):
        if qrels is not None:
            raise InputError("--qrels is for run files, and every run here is a record. Leave it out.")
        yield choose(words, results, datasets, retrievers, labels)
        return
    if len(datasets or ()) > 1:
        raise InputError(f"run files are of one collection, and --dataset names {len(datasets or ())}. Name one.")
    named = datasets[0] if datasets else None
    with records_of(words or (), results, metrics, named, qrels) as found:
        yield choose(found, results, None, retrievers, labels)


def choose(
    words: Sequence[str | Record] | None,
    results: Path,
    datasets: Sequence[str] | None,
    retrievers: Sequence[str] | None,
    labels: Sequence[str] | None,
) -> list[Named]:
    """The records to draw: those named, or all under `results`; of those that differ in nothing but time the newest.

    `words` name records as `harness.runs.lookup.find` has it. What is left out, or cannot be read, is said on standard
    error. Raises InputError where none is left, or a word names none.
    """
    if words:
        found = _named(words, results)
    elif not results.is_dir():
        raise InputError(f"there is no folder {results}. Run something first, or name the folder with --results.")
    else:
        found, problems = records.find(results)
        for problem in problems:
            log.logger.warning(problem)
    if not found:
        raise InputError(f"there is no finished run in {results}. Run something first, or name another --results.")
    for option, wanted, there in (
        ("--dataset", datasets, [{record.manifest.data.name} for record in found]),
        ("--retriever", retrievers, [_names(record) for record in found]),
    ):
        every = set().union(*there)
        if absent := [name for name in wanted or () if name not in every]:
            raise InputError(f"{option} {', '.join(absent)}: no record is of it; there is {', '.join(sorted(every))}.")
    chosen = [
        record
        for record in found
        if (not datasets or record.manifest.data.name in datasets)
        and (not retrievers or _names(record) & set(retrievers))
    ]
    if not chosen:
        raise InputError("no record is of both a --dataset and a --retriever that are named. Leave one out.")
    check_names(chosen)
    return _newest(labelled(chosen, labels), bool(words))


def _named(words: Sequence[str | Record], results: Path) -> list[Record]:
    found: dict[Path, Record] = {}
    for word in words:
        if (
            not isinstance(word, Record)
            and Path(word).is_dir()
            and any(Path(word).glob(f"[!.]*/[!.]*/[!.]*/{records.MANIFEST}"))
        ):
            raise InputError(f"{word} is no record but holds records: --results {word} draws them all.")
        record = word if isinstance(word, Record) else find(word, results)
        if record.folder.resolve() in found:
            raise InputError(f"{record.folder} is given twice. Name each record once.")
        found[record.folder.resolve()] = record
    return list(found.values())


def _newest(found: Sequence[Named], named: bool) -> list[Named]:
    best: dict[tuple[str, str], Named] = {}
    for one in found:
        manifest = one.record.manifest
        key = manifest.data.name, one.label
        other = best.get(key)
        if other is None:
            best[key] = one
            continue
        if named or _unlike(other.record, one.record):
            raise InputError(
                f"{other.record.folder} and {one.record.folder} are both {one.label} on {manifest.data.name}. Name "
                "the records to draw, or tell them apart by --label FOLDER=TEXT."
            )
        newer, older = sorted((other, one), key=lambda n: n.record.manifest.created, reverse=True)
        best[key] = newer
        log.logger.warning(
            f"two records are {one.label} on {manifest.data.name}: {newer.record.folder} is newer and is drawn, "
            f"{older.record.folder} is left out; --label FOLDER=TEXT tells them apart"
        )
    return list(best.values())


def _unlike(one: Record, other: Record) -> bool:
    """Whether two records of one name are of different systems: other options, weights, depths or files."""
    a, b = one.manifest, other.manifest
    return (a.system, a.top_k) != (b.system, b.top_k)


def labelled(found: Sequence[Record], labels: Sequence[str] | None) -> list[Named]:
    """Each record's system, stage and variant as words, or the words that the user has for these.

    A label names a record by its folder, or a system as it is drawn or as `harness run` prints it. Raises InputError
    for a name that is not there, and for a label that would draw two systems, or two records of one, as the same.
    """
    names = told_apart([_name(record) for record in found], found)
    printed = told_apart([_printed(record) for record in found], found)
    folders = [str(record.folder) for record in found]
    own: dict[int, tuple[str, str]] = {}  # {number of a record: (--label's NAME, its TEXT)}
    # a folder says more than a retriever, and that more than the words for several checkpoints of it
    for place in (folders, printed, names):
        for name, text in _parsed(labels).items():
            word = str(Path(name)) if place is folders else name
            for number in (n for n, other in enumerate(place) if other == word):
                own.setdefault(number, (name, text))
    known = {*names, *printed, *folders}
    if unknown := [name for name in _parsed(labels) if not {name, str(Path(name))} & known]:
        there = ", ".join(
            name if name == other else f"{name} (or {other})"
            for name, other in dict.fromkeys(zip(names, printed, strict=True))
        )
        raise InputError(f"--label {', '.join(unknown)}: no system or record has this name; there is {there}.")
    for number, (name, text) in own.items():
        for other, record in enumerate(found):
            option, called = own.get(other, ("", ""))
            if names[other] != names[number] and text in (names[other], printed[other], called):
                raise InputError(
                    f"--label '{name}={text}': {text} is what {option or names[other]} is called, and two systems "
                    "under one name cannot be told apart. Choose another TEXT."
                )
            if option != name and text == called and record.manifest.data.name == found[number].manifest.data.name:
                raise InputError(
                    f"--label {name} and {option} are both {text} on {record.manifest.data.name}. Choose another TEXT."
                )
    return [Named(own[number][1] if number in own else names[number], record) for number, record in enumerate(found)]


def _parsed(labels: Sequence[str] | None) -> dict[str, str]:
    own: dict[str, str] = {}
    for word in labels or ():
        name, equals, text = word.partition("=")
        if not equals or not name or not text.strip():
            raise InputError(f"--label {word!r} is not NAME=TEXT.")
        if own.get(name, text) != text:
            raise InputError(f"--label {name} is given twice, as {own[name]} and as {text}. Give it once.")
        own[name] = text
    return own


def _printed(record: Record) -> str:
    """The system as `harness run`, `list` and `compare` print it."""
    return label(record.manifest)


def _names(record: Record) -> set[str]:
    """What a system is chosen by: its retriever, whole or as a word, or as it is printed."""
    system = record.manifest.system
    return {system.retriever, name_of(system), _printed(record)}


def _name(record: Record) -> str:
    system = record.manifest.system
    # by a name of its own, else as the paper and its authors write it
    word = name_of(system) if name_of(system) != system.retriever else system.system
    more = ", ".join(filter(None, [system.stage, system.variant, *options(record.manifest)]))
    return f"{word} ({more})" if more else word
