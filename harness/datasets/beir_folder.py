"""Collections in BEIR layout: `corpus.jsonl`, `queries.jsonl`, `qrels/<split>.tsv`.

Corpus and queries may be TSV, CSV or Parquet as well. All but Parquet may be packed (gzip, xz, zstd).
"""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.datasets import rows
from harness.datasets.fields import Fields
from harness.datasets.qrels_file import grade, sound_id
from harness.datasets.rows import DOCUMENTS, TOPICS
from harness.retrievers.errors import InputError, unknown
from harness.retrievers.text_files import ENDS, text_lines
from harness.retrievers.types import Document, Query

_KINDS = (*(f"{kind}{end}" for kind in (".jsonl", ".tsv", ".csv") for end in ENDS), ".parquet")


def one_of(folder: Path, name: str) -> Path | None:
    """The file `name` of a folder, of whatever kind it is."""
    return next((path for kind in _KINDS if (path := folder / f"{name}{kind}").is_file()), None)


def is_collection(folder: Path) -> bool:
    """Whether `folder` looks like a collection in BEIR layout."""
    return one_of(folder, "corpus") is not None


def json_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, row) of JSON lines. Raises InputError, with file and line, for what is no object."""
    for number, line in text_lines(path):
        place = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place}: not JSON ({error}). Each line must be one JSON object.") from error
        if not isinstance(row, dict):
            raise InputError(f"{place}: a JSON {type(row).__name__}; each line must be a JSON object.")
        yield place, row


def text_field(row: Mapping[str, Any], name: str, place: str) -> str:
    """A text of a row. Raises InputError, beginning with `place`, for one that is missing or is no text."""
    value = row.get(name)
    if not isinstance(value, str):
        got = f"is {value!r:.60}" if name in row else f"is missing; there is {', '.join(sorted(row)) or 'nothing'}"
        raise InputError(f"{place}: the field {name!r} {got}. It must be a string.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{place}: the field {name!r} holds half of a surrogate pair, which is no text.") from error
    return value


def _table(path: Path, columns: rows.Columns, used: Callable[[str], bool]) -> Iterator[rows.Row]:
    if path.suffix == ".parquet":
        return rows.parquet(path)
    if ".jsonl" in path.suffixes:
        return rows.json_lines(path)
    return (rows.tab_separated if ".tsv" in path.suffixes else rows.comma_separated)(path, columns, used)


def _identifier(row: dict[str, Any], place: str) -> str:
    return sound_id(text_field(row, "_id", place), place)


class FolderSource:
    """One split of a collection folder.

    Raises InputError, naming file and line, for whatever is malformed.
    """

    kind = "folder"

    def __init__(self, folder: Path, split: str | None = None, fields: Fields | None = None) -> None:
        self.folder = folder.resolve()
        self.location = str(self.folder)
        self.fields = fields or Fields()
        self.corpus_path = self._need("corpus")
        self.queries_path = self._need("queries")
        self.split, self.qrels_path = self._split(split)
        self.count_hint: int | None = None

    def _need(self, name: str) -> Path:
        path = one_of(self.folder, name)
        if path is None:
            raise InputError(f"{self.folder} has no {name}.jsonl (or .tsv, .csv, .parquet). BEIR layout needs it.")
        return path

    def _split(self, wanted: str | None) -> tuple[str, Path]:
        try:
            paths = sorted((self.folder / "qrels").iterdir())  # glob would pass over a folder that cannot be read
        except FileNotFoundError:
            paths = []
        except OSError as error:
            raise InputError(f"{error.filename} cannot be read: {error.strerror}. It holds the judgments.") from error
        ends = (".tsv.gz", ".tsv")  # the plain one comes first where both are there
        splits = {p.name.removesuffix(end): p for end in ends for p in paths if p.name.endswith(end) and p.is_file()}
        if not splits:
            raise InputError(f"{self.folder} has no judgments: no qrels/<split>.tsv or .tsv.gz.")
        if wanted is not None:
            if wanted not in splits:
                raise unknown(f"split of {self.folder}", wanted, splits)
            return wanted, splits[wanted]
        if "test" in splits:
            return "test", splits["test"]
        if len(splits) == 1:
            return next(iter(splits.items()))
        names = ", ".join(sorted(splits))
        raise InputError(f"{self.folder} has several splits and none is 'test': {names}. Name one: PATH/<split>.")

    def stamp(self) -> list[Any]:
        """What changes when a file does, to know whether a survey of it still holds."""
        stats = [(path, path.stat()) for path in (self.corpus_path, self.queries_path, self.qrels_path)]
        found: list[Any] = [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats]
        return [*found, self.fields.query, self.fields.docs] if self.fields.any else found

    @cached_property
    def _judged_ids(self) -> tuple[set[str], set[str]]:
        judged = list(self.qrels())
        return {row[0] for row in judged}, {row[1] for row in judged}

    def documents(self) -> Iterator[Document]:
        """Yield the corpus, duplicates included."""
        if self.fields.docs or ".jsonl" not in self.corpus_path.suffixes:
            for found in _table(self.corpus_path, DOCUMENTS, lambda doc_id: doc_id in self._judged_ids[1]):
                yield Document(found.identifier, *self.fields.title_and_text(found.fields, found.place))
            return
        for place, row in json_rows(self.corpus_path):
            title = "" if row.get("title") is None else text_field(row, "title", place)
            yield Document(_identifier(row, place), title, text_field(row, "text", place))

    def queries(self) -> Iterator[Query]:
        """Yield the queries of all splits, duplicates included."""
        if self.fields.query or ".jsonl" not in self.queries_path.suffixes:
            for found in _table(self.queries_path, TOPICS, lambda query_id: query_id in self._judged_ids[0]):
                yield Query(found.identifier, self.fields.query_text(found.fields, found.place))
            return
        for place, row in json_rows(self.queries_path):
            yield Query(_identifier(row, place), text_field(row, "text", place))

    def qrels(self) -> Iterator[tuple[str, str, int]]:
        """Yield (query id, document id, grade); a header (a first line without a figure in its third column) is not."""
        first = True
        for number, line in text_lines(self.qrels_path):
            place = f"{self.qrels_path}, line {number}"
            columns = line.split("\t")
            if len(columns) != 3:
                raise InputError(
                    f"{place}: {len(columns)} column{'s' * (len(columns) != 1)}, want 3 with tabs between them: "
                    f"query-id, corpus-id, score. Got {line[:80]!r}."
                )
            header, first = first and not any(letter.isdigit() for letter in columns[2]), False
            if header:
                continue
            yield sound_id(columns[0], place), sound_id(columns[1], place), grade(columns[2], place)
