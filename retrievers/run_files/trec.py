"""Runs as TREC files: `query Q0 document rank score tag`, best first."""

import gzip
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO, cast

import numpy as np
import numpy.typing as npt

from harness.retrievers.errors import InputError
from harness.retrievers.text_files import byte_lines
from harness.retrievers.types import Run

_FEWER = 5  # columns, of six
_GREATEST = float(np.finfo(np.float32).max)


def write(run: Run, path: Path, tag: str, header: str = "") -> None:
    """Write `run` to `path`, gzipped where it ends in .gz; equal runs give equal bytes (no time in the gzip header).

    `header` comes first: lines that begin with #, for what reads such. Scores are written with as many digits as make
    them float32 again. Raises ValueError for a tag with white space.
    """
    if tag.split() != [tag]:
        raise ValueError(f"a run's tag is one word, got {tag!r}")
    with path.open("wb") as raw:
        if path.suffix == ".gz":
            with gzip.GzipFile(fileobj=raw, filename="", mode="wb", mtime=0, compresslevel=6) as file:
                file.write(header.encode())
                _write(run, cast(IO[bytes], file), tag)
        else:
            raw.write(header.encode())
            _write(run, raw, tag)


def _write(run: Run, file: IO[bytes], tag: str) -> None:
    for number, query_id in enumerate(run.query_ids):
        doc_ids, scores = run.rows(number)
        digits = scores.astype(str)  # numpy writes the shortest decimal that reads back as the same float32
        file.write(
            "".join(
                f"{query_id} Q0 {doc_id.decode()} {rank} {digit} {tag}\n"
                for rank, (doc_id, digit) in enumerate(zip(doc_ids.tolist(), digits.tolist(), strict=True), 1)
            ).encode()
        )


@dataclass(frozen=True)
class TrecFile:
    """What a file holds: its run, the tag of its first line, and what its ranks say.

    `reordered` counts the queries in which a document has a worse rank than another and a better score; trec_eval goes
    by the scores, and so do we.
    """

    run: Run
    tag: str
    reordered: int


def read(path: Path) -> Run:
    """Read a TREC run, plain, .gz or .xz; order is taken from the scores, as trec_eval does.

    Lines that begin with # before the first result are comments.

    Raises InputError, with file and line, for a malformed line, a score that is no finite number, an id that is not
    UTF-8, or a document that a query holds twice; or where the file cannot be read.
    """
    return read_lines(path, byte_lines(path), with_ranks=False).run


def read_lines(path: Path, lines: Iterable[tuple[int, bytes]], with_ranks: bool) -> TrecFile:
    """Read the numbered lines of a TREC run, and what its ranks say. Rank or tag may be left out.

    Raises InputError as `read`.
    """
    index: dict[str, int] = {}
    rows_query: list[int] = []
    ids: list[bytes] = []
    scores: list[float] = []
    ranks: list[bytes] = []
    tag = b""
    skipped = 0
    blank: list[int] = []
    six = True
    shape: Callable[[list[bytes]], list[bytes]] = _without_tag
    for number, line in lines:
        columns = line.split()  # at ASCII white space, as trec_eval does
        if not columns:
            blank.append(number)
            continue
        if not ids and len(columns) == _FEWER:  # then all lines are so
            six, shape = False, _shape(columns)
        try:
            query, fixed, doc_id, rank, score, tag_here = columns if six else shape(columns)
            value = float(score.replace(b"_", b"?"))  # which Python alone allows in numbers
            query_id = query.decode()
            doc_id.decode()
            if query.startswith(b"#") and fixed not in (b"Q0", b"0") and not ids:
                raise ValueError("a comment of as many words")
        except ValueError as error:
            if line.startswith(b"#") and not ids:  # what some tools write first, such as ir_metadata
                skipped = number
                continue
            raise _malformed(path, number, line, error) from error
        if not abs(value) <= _GREATEST:
            raise InputError(
                f"{path}, line {number}: the score {score.decode()} is not a finite number within float32 (3.4e38)."
            )
        scores.append(value)
        rows_query.append(index.setdefault(query_id, len(index)))
        ids.append(doc_id)
        if with_ranks:  # they take as much memory as the ids
            ranks.append(rank)
        tag = tag or tag_here
    if not ids:
        return TrecFile(Run.from_blocks(list(index), []), "", 0)
    queries, documents = np.array(rows_query), np.array(ids, dtype=np.bytes_)
    try:
        run = Run.from_blocks(list(index), [(queries, documents, np.array(scores, dtype=np.float64))])
    except InputError as error:
        raise InputError(f"{path}{_line_of(rows_query, ids, skipped, blank)}: {error}") from error
    if not six and shape is _without_tag and len(ids) > 1 and len(set(scores)) == 1:
        raise InputError(
            f"{path}: five columns whose last is {scores[0]:g} on every line. Whether that is the tag or the score "
            "cannot be told: write six columns, `query Q0 document rank score tag`."
        )
    reordered = _reordered(queries, np.array(scores, dtype=np.float32), ranks) if with_ranks else 0
    return TrecFile(run, tag.decode(errors="replace"), reordered)


def _shape(columns: list[bytes]) -> Callable[[list[bytes]], list[bytes]]:
    """What makes six columns of five, by the first line: the tag is missing where the last one is a number."""
    try:
        float(columns[-1])
    except ValueError:
        return _without_rank
    return _without_tag


def _without_tag(columns: list[bytes]) -> list[bytes]:
    query, fixed, doc_id, rank, score = columns
    return [query, fixed, doc_id, rank, score, b""]


def _without_rank(columns: list[bytes]) -> list[bytes]:
    query, fixed, doc_id, score, tag = columns
    return [query, fixed, doc_id, b"-", score, tag]


def _malformed(path: Path, number: int, line: bytes, error: ValueError) -> InputError:
    got = f"got {line.strip()[:80].decode(errors='replace')!r}"
    if isinstance(error, UnicodeDecodeError):
        return InputError(f"{path}, line {number}: an id is not UTF-8, {got}.")
    return InputError(f"{path}, line {number}: want six columns `query Q0 document rank score tag`, {got}.")


def _line_of(rows_query: list[int], ids: list[bytes], skipped: int, blank: list[int]) -> str:
    """Where a query holds a document for the second time; empty where none does."""
    met: set[tuple[int, bytes]] = set()
    passed = set(blank)
    numbers = (number for number in count(skipped + 1) if number not in passed)
    for row, number in zip(zip(rows_query, ids, strict=True), numbers, strict=False):
        if row in met:
            return f", line {number}"
        met.add(row)
    return ""


def _reordered(queries: npt.NDArray[np.int64], scores: npt.NDArray[np.float32], ranks: list[bytes]) -> int:
    """In how many queries a worse rank has a better score; ties say nothing, nor do ranks that are no numbers."""
    try:
        places = np.array(ranks, dtype=np.bytes_).astype(np.int64)
    except (ValueError, OverflowError):
        return 0
    by_rank = np.lexsort((-scores, places, queries))
    query, score = queries[by_rank], scores[by_rank]
    worse = (query[1:] == query[:-1]) & (score[1:] > score[:-1])
    return len(np.unique(query[1:][worse]))
