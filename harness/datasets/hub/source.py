"""One split of a collection in a layout of the Hugging Face hub, from files that are here."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.datasets.beir_folder import text_field
from harness.datasets.fields import Fields
from harness.datasets.hub.files import Splits, check, configurations, listed, same_split
from harness.datasets.hub.name import QRELS_SUFFIX
from harness.datasets.hub.rows import columns, count, identifier, rows
from harness.datasets.qrels_file import grade, judgments
from harness.retrievers.errors import InputError, unknown
from harness.retrievers.types import Document, Query

_ID = ("_id", "id")
_QUERY_ID = ("query-id", "query_id")
_CORPUS_ID = ("corpus-id", "corpus_id")
_QUERIES = ("queries", "query")
_QRELS = ("qrels", "default")


@dataclass(frozen=True)
class Layout:
    """The files of one split."""

    split: str
    subset: str | None
    corpus: tuple[Path, ...]
    queries: tuple[Path, ...]
    qrels: tuple[Path, ...]


def layout(folder: Path, parts: Sequence[str], second: Callable[[], Path | None]) -> Layout:
    """Find the files of one split in a repository's folder.

    `parts` are what was named of it: a subset (configurations `SUBSET-corpus` …), a split, or both. Where the folder
    has no judgments, `second` gives that of the repository NAME-qrels. Raises InputError for a folder in none of the
    layouts, a split that is not there or that has to be named, and files that are absent.
    """
    there = configurations(folder)
    subset, wanted = _subset(folder, there, parts)
    prefix = f"{subset}-" if subset else ""
    corpus = there.get(f"{prefix}corpus")
    queries = next((there[f"{prefix}{name}"] for name in _QUERIES if f"{prefix}{name}" in there), None)
    if not corpus or not queries:
        raise InputError(
            f"{folder} is in none of the layouts that are known: want the configurations corpus and queries, and qrels "
            f"or default (or a second repository NAME{QRELS_SUFFIX}). There is: {listed(there)}."
        )
    judged = _judgments(there, prefix) or (_second(second()) if not prefix else None)
    if not judged:
        raise InputError(
            f"{folder} has no judgments: no configuration {prefix}qrels{'' if prefix else ' or default'}, and no "
            f"{folder.name.partition('@')[0]}{QRELS_SUFFIX} beside it. There is: {listed(there)}."
        )
    split = _split(folder, judged, wanted)
    found = Layout(
        split,
        subset,
        tuple(_for_split(corpus, split, f"{folder}, configuration {prefix}corpus")),
        tuple(_for_split(queries, split, f"{folder}, configuration {prefix}queries")),
        tuple(judged[split]),
    )
    for what, files in (("corpus", found.corpus), ("queries", found.queries), ("judgments", found.qrels)):
        if not files:
            raise InputError(f"{folder}: the README names files of the {what} that are not here. Fetch them too.")
        check(files, f"{folder}, {what}")
    return found


def subsets(names: Sequence[str]) -> list[str]:
    """The subsets that the configurations of these names make up."""
    return [name.removesuffix("-corpus") for name in names if name.endswith("-corpus")]


def _subset(folder: Path, there: dict[str, Splits], parts: Sequence[str]) -> tuple[str | None, str | None]:
    """What was named of a repository, as subset and split."""
    known = subsets(list(there))
    if parts and (parts[0] in known or len(parts) > 1):
        if parts[0] not in known:
            raise unknown(f"subset of {folder}", parts[0], known)
        return parts[0], parts[1] if len(parts) > 1 else None
    if known and "corpus" not in there:
        raise InputError(f"{folder} has subsets. Name one: hf:…/SUBSET[/SPLIT]. There is: {', '.join(sorted(known))}.")
    return None, parts[0] if parts else None


def _judgments(there: dict[str, Splits], prefix: str) -> Splits | None:
    if prefix:
        return there.get(f"{prefix}qrels")
    if "qrels" in there:
        return there["qrels"]
    first = next((files[0] for files in there.get("default", {}).values() if files), None)
    if first is None or not (".tsv" in first.suffixes or any(name in columns(first) for name in _QUERY_ID)):
        return None  # `default` may be anything
    return there["default"]


def _second(folder: Path | None) -> Splits | None:
    """The judgments of a repository that holds nothing else."""
    there = configurations(folder) if folder is not None else {}
    return next((there[name] for name in _QRELS if name in there), None)


def _split(folder: Path, judged: Splits, wanted: str | None) -> str:
    if wanted is not None:
        same = [name for name in judged if same_split(name, wanted)]
        if not same:
            raise unknown(f"split of {folder}", wanted, judged)
        return wanted if wanted in same else same[0]
    if "test" in judged:
        return "test"
    if len(judged) == 1:
        return next(iter(judged))
    raise InputError(
        f"{folder} has several splits and none is 'test': {', '.join(sorted(judged))}. Name one: hf:…/SPLIT."
    )


def _for_split(splits: Splits, split: str, what: str) -> list[Path]:
    """The files of a configuration for a split: those of that name, or of the only one."""
    for name, files in splits.items():
        if same_split(name, split):
            return files
    if len(splits) == 1:
        return next(iter(splits.values()))
    raise InputError(f"{what} has no split {split}; there is {', '.join(splits)}. Name one of these.")


class HubSource:
    """Documents, queries and judgments of a layout, read where they lie and never held whole.

    Raises InputError, with file and row, for whatever is malformed.
    """

    kind = "hf"

    def __init__(self, folder: Path, found: Layout, fields: Fields | None = None) -> None:
        self.location, self.found, self.fields = str(folder), found, fields or Fields()

    @property
    def count_hint(self) -> int | None:
        """How many documents there should be, where all files are Parquet."""
        counts = [count(path) for path in self.found.corpus]
        return None if None in counts else sum(filter(None, counts))

    def stamp(self) -> list[Any]:
        """What changes when a file does."""
        stats = [(path, path.stat()) for path in (*self.found.corpus, *self.found.queries, *self.found.qrels)]
        files: list[Any] = [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats]
        return [*files, self.fields.query, self.fields.docs] if self.fields.any else files

    def documents(self) -> Iterator[Document]:
        """Yield the corpus, duplicates included; what is null in a title or a text is empty."""
        chosen = self.fields.docs
        for path in self.found.corpus:
            for place, row in rows(path, (*_ID, *(chosen or ("title", "text")))):
                if chosen:
                    yield Document(identifier(row, _ID, place), *self.fields.title_and_text(_texts(row), place))
                    continue
                title = "" if row.get("title") is None else text_field(row, "title", place)
                text = "" if "text" in row and row["text"] is None else text_field(row, "text", place)
                yield Document(identifier(row, _ID, place), title, text)

    def queries(self) -> Iterator[Query]:
        """Yield the queries, duplicates included."""
        chosen = self.fields.query
        for path in self.found.queries:
            for place, row in rows(path, (*_ID, *(chosen or ("text",)))):
                text = self.fields.query_text(_texts(row), place) if chosen else text_field(row, "text", place)
                yield Query(identifier(row, _ID, place), text)

    def qrels(self) -> Iterator[tuple[str, str, int]]:
        """Yield (query id, document id, grade); without a column of scores every grade is 1."""
        for path in self.found.qrels:
            if ".tsv" in path.suffixes:
                yield from judgments(path)
                continue
            for place, row in rows(path, (*_QUERY_ID, *_CORPUS_ID, "score")):
                graded = _grade(row["score"], place) if "score" in row else 1
                yield identifier(row, _QUERY_ID, place), identifier(row, _CORPUS_ID, place), graded


def _texts(row: Mapping[str, Any]) -> dict[str, str]:
    """The fields that are texts; what is null is empty."""
    return {name: value or "" for name, value in row.items() if value is None or isinstance(value, str)}


def _grade(value: Any, place: str) -> int:
    """A grade, which many repositories keep as a float."""
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    return grade(str(whole), place)
