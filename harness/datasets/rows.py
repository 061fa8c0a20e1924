"""Queries and documents in files of rows: TSV, CSV and JSON lines, plain or compressed, with or without a header."""

import csv
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from harness.datasets.fields import QUERIES, TEXTS, TITLES
from harness.datasets.parquet import parquet_rows
from harness.datasets.qrels_file import sound_id
from harness.retrievers.errors import InputError
from harness.retrievers.text_files import byte_lines, text_lines

IDS = (
    *("_id", "id", "docid", "doc_id", "doc-id", "docno", "did", "document_id", "corpus-id", "corpus_id", "pid"),
    *("passage_id", "qid", "query_id", "query-id", "queryid", "topic_id", "number", "num"),
)
# columns of a file without a header, by their number
DOCUMENTS = {2: ("id", "text"), 3: ("id", "title", "text"), 4: ("id", "url", "title", "body")}
TOPICS = {2: ("id", "text")}
Columns = Mapping[int, tuple[str, ...]]


class Row(NamedTuple):
    """A query or a document as it stands in a file: where, its id, and its other fields."""

    place: str
    identifier: str
    fields: dict[str, str]


def json_lines(path: Path) -> Iterator[Row]:
    """Yield the rows of a file with a JSON object a line. Raises InputError, with file and line, for anything else."""
    for number, line in text_lines(path):
        place = f"{path}, line {number}"
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place}: not JSON ({error}). Each line must be one JSON object.") from error
        if not isinstance(found, dict):
            raise InputError(f"{place}: a JSON {type(found).__name__}; each line must be a JSON object.")
        key = next((name for name in IDS if name in found), None)
        if key is None:
            raise InputError(f"{place}: no id; there is {', '.join(sorted(found)) or 'nothing'}. Call it _id or id.")
        yield Row(place, _identifier(found[key], place), _texts(found, key, place))


def _identifier(value: Any, place: str) -> str:
    plain = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(plain, str):
        raise InputError(f"{place}: the id is {value!r:.60}. It must be a string or a whole number.")
    return sound_id(plain, place)


def _texts(found: Mapping[str, Any], key: str, place: str) -> dict[str, str]:
    texts = {name: value for name, value in found.items() if name != key and isinstance(value, str)}
    texts |= {name: "" for name, value in found.items() if value is None}
    for name, value in texts.items():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"{place}: the field {name!r} holds half of a surrogate pair, which is no text."
            ) from error
    return texts


def tab_separated(path: Path, columns: Columns, used: Callable[[str], bool]) -> Iterator[Row]:
    """Yield the rows of a file with tabs between its columns, which nothing quotes.

    `columns` says what they are where no first line names them; that line is a header unless its id is `used` by
    another file. Raises InputError, with file and line, for a row of another number of columns.
    """
    lines = ((number, line.split("\t")) for number, line in text_lines(path))
    yield from _named(path, lines, columns, used)


def comma_separated(path: Path, columns: Columns, used: Callable[[str], bool]) -> Iterator[Row]:
    """The same with commas between the columns and quotes around what holds any, as `csv` reads them."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # of a text, which may be a book
    reader = csv.reader((_decoded(path, number, line) + "\n" for number, line in byte_lines(path)), strict=True)

    def lines() -> Iterator[tuple[int, list[str]]]:
        while True:
            begins = reader.line_num + 1
            try:
                row = next(reader, None)
            except csv.Error as error:
                raise InputError(f"{path}, line {begins}: not CSV ({error}).") from error
            if row is None:
                return
            if row:
                yield begins, row

    yield from _named(path, lines(), columns, used)


def _decoded(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}, line {number}: not UTF-8 ({error.reason}). Convert the file to UTF-8.") from error


def _named(
    path: Path, lines: Iterator[tuple[int, list[str]]], columns: Columns, used: Callable[[str], bool]
) -> Iterator[Row]:
    names: tuple[str, ...] | None = None
    for number, cells in lines:
        place = f"{path}, line {number}"
        if names is None:
            names, is_header = header(cells, used), True
            if names is None:
                if len(cells) not in columns:
                    raise InputError(
                        f"{place}: {len(cells)} column{'s' * (len(cells) != 1)} and no names of them; want "
                        f"{' or '.join(', '.join(those) for those in columns.values())}, or a first line that names "
                        "the columns, such as id, title, text."
                    )
                names, is_header = columns[len(cells)], False
            if is_header:
                continue
        if len(cells) != len(names):
            raise InputError(
                f"{place}: {len(cells)} column{'s' * (len(cells) != 1)}, want {len(names)}: {', '.join(names)}. Got "
                f"{' | '.join(cells)[:80]!r}."
            )
        row = dict(zip(names, cells, strict=True))
        key = next(name for name in IDS if name in row)
        yield Row(place, sound_id(row.pop(key).strip(), place), row)


def header(cells: list[str], used: Callable[[str], bool]) -> tuple[str, ...] | None:
    """The names of the columns, where a first line holds names: one of an id, one of a text, none twice.

    None where it does not, or where its id is `used` by another file, so that it is a row.
    """
    names = tuple(_plain(cell) for cell in cells)
    key = next((name for name in IDS if name in names), None)
    known = {*TITLES, *TEXTS, *QUERIES, "description", "narrative"}
    if key is None or len({*names}) < len(names) or not known & {*names}:
        return None
    return None if used(cells[names.index(key)].strip()) else names


def _plain(cell: str) -> str:
    name = re.sub(r"\s+", "_", cell.strip().casefold())
    return name.strip('"')


def parquet(path: Path) -> Iterator[Row]:
    """Yield the rows of a Parquet file; columns of texts are fields, and one is the id.

    Raises InputError as `harness.datasets.parquet.parquet_rows`, and for an id that is none.
    """
    for place, found in parquet_rows(path):
        key = next((name for name in IDS if name in found), None)
        if key is None:
            raise InputError(f"{place}: no id; there is {', '.join(sorted(found))}. Call it _id or id.")
        yield Row(place, _identifier(found[key], place), _texts(found, key, place))
