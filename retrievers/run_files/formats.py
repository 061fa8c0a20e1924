"""Runs from files of any tool: TREC, MS MARCO, JSON and Parquet, told apart by what they hold.

=============  ========================================================================================
format         what a file holds
=============  ========================================================================================
TREC           `query Q0 document rank score tag`, rank or tag left out, behind comments (`# …`) or not
MS MARCO       `query document rank`, three columns
JSON           `{query: {document: score}}`, as ranx and BEIR write it
Parquet        a row a result, with the columns that `exchange` knows, as ranx and PyTerrier write it
=============  ========================================================================================

All but Parquet may be compressed (gzip, xz, bzip2), and may come through a pipe. Lines may stand in any order.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from harness.retrievers.errors import InputError
from harness.retrievers.run_files import exchange, trec
from harness.retrievers.text_files import Digest, byte_lines
from harness.retrievers.types import Run

_PARQUET = b"PAR1"
_COLUMNS = 3  # of MS MARCO's format
_MOST = 1 << 24  # ranks up to which float32 tells one from the next


@dataclass(frozen=True)
class RunContent:
    """What a file holds: its run, what it says of itself, and the SHA-256 of its bytes.

    `tag` is the word of a TREC file's first line, `metadata` its ir_metadata header. `reordered` is as in
    `trec.TrecFile`.
    """

    run: Run
    format: str
    sha256: str
    tag: str = ""
    reordered: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)


def read_file(path: Path) -> RunContent:
    """Read a run of any of the formats.

    Raises InputError, with file and line, for what is malformed or of no known format, or a file that cannot be read.
    """
    if _is_parquet(path):
        return _parquet(path)
    digest = Digest()
    lines = byte_lines(path, digest)
    head, first = _head(lines)
    every = chain(head, lines)
    if first.startswith((b"{", b"[")):
        run = _json(path, every)
        return RunContent(run, "JSON", digest.hex)
    if len(first.split()) == _COLUMNS:
        run = _msmarco(path, every)
        return RunContent(run, "MS MARCO", digest.hex)
    found = trec.read_lines(path, every, with_ranks=True)
    metadata = _metadata([line for _, line in head])
    tag = found.tag or str(metadata.get("tag", ""))
    return RunContent(found.run, "TREC", digest.hex, tag, found.reordered, metadata)


def _head(lines: Iterator[tuple[int, bytes]]) -> tuple[list[tuple[int, bytes]], bytes]:
    """The lines to the first that is neither blank nor a comment, and that line."""
    head = []
    for number, line in lines:
        head.append((number, line))
        if line.strip() and not line.startswith(b"#"):
            return head, line.strip()
    return head, b""


def _is_parquet(path: Path) -> bool:
    try:
        if not path.is_file():  # a pipe could not be read again
            return False
        with path.open("rb") as file:
            return file.read(len(_PARQUET)) == _PARQUET
    except OSError:  # what reads it says what is wrong
        return False


def _parquet(path: Path) -> RunContent:
    import pandas

    try:
        frame = pandas.read_parquet(path)
    except Exception as error:  # each engine has its own
        raise InputError(f"{path} is no readable Parquet file ({' '.join(str(error).split())[:120]}).") from error
    try:
        run = exchange.of_any(frame)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    with path.open("rb") as file:
        return RunContent(run, "Parquet", hashlib.file_digest(file, "sha256").hexdigest())


def _json(path: Path, lines: Iterable[tuple[int, bytes]]) -> Run:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            raise InputError(f"{path}: {next(name for name in names if names.count(name) > 1)!r} stands there twice.")
        return found

    try:
        values = json.loads(b"\n".join(line for _, line in lines), object_pairs_hook=once)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} begins as JSON and is none ({error}). Was it written whole?") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: a JSON list. Want {{query id: {{document id: score}}}}.")
    try:
        return Run.of(values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _msmarco(path: Path, lines: Iterable[tuple[int, bytes]]) -> Run:
    index: dict[str, int] = {}
    rows_query: list[int] = []
    ids: list[bytes] = []
    scores: list[float] = []
    for number, line in lines:
        if not line.strip():
            continue
        try:
            query, doc_id, rank = line.split()
            value, query_id = int(rank), query.decode()
            doc_id.decode()
        except ValueError as error:
            got = line.strip()[:80].decode(errors="replace")
            raise InputError(
                f"{path}, line {number}: want three columns `query document rank`, got {got!r}."
            ) from error
        if not 0 <= value < _MOST:
            raise InputError(f"{path}, line {number}: the rank {value} is not between 0 and {_MOST:,}.")
        rows_query.append(index.setdefault(query_id, len(index)))
        ids.append(doc_id)
        scores.append(-float(value))
    _check_ranks(path, [*index], rows_query, scores)
    try:
        columns = (np.array(rows_query), np.array(ids, dtype=np.bytes_), np.array(scores, dtype=np.float64))
        return Run.from_blocks(list(index), [columns] if ids else [])
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _check_ranks(path: Path, query_ids: list[str], rows_query: list[int], scores: list[float]) -> None:
    """Raise InputError where the third column is no rank: it begins at 0 or 1 in each query, and none stands twice."""
    met: dict[int, set[float]] = {}
    for row, score in zip(rows_query, scores, strict=True):
        ranks = met.setdefault(row, set())
        if score in ranks:
            raise InputError(
                f"{path}: query {query_ids[row]!r} has the rank {-score:.0f} twice. The third of three columns is a "
                "rank; scores go into the fifth of `query Q0 document rank score tag`."
            )
        ranks.add(score)
    for row, ranks in met.items():
        if -max(ranks) > 1:
            raise InputError(
                f"{path}: the ranks of query {query_ids[row]!r} begin at {-max(ranks):.0f}, not at 0 or 1. The third "
                "column of three is a rank; scores go into the fifth of `query Q0 document rank score tag`."
            )


def _metadata(lines: list[bytes]) -> dict[str, Any]:
    """What an ir_metadata header says (Breuer et al. 2022): YAML behind `# `, from `ir_metadata.start` to `.end`."""
    import yaml

    inside, kept = False, []
    for line in lines:
        text = line.decode(errors="replace").removeprefix("#").removeprefix(" ")
        if text.strip() in ("ir_metadata.start", "ir_metadata.end"):
            inside = text.strip().endswith("start")
        elif inside:
            kept.append(text)
    try:
        found = yaml.safe_load("\n".join(kept))
        return dict(json.loads(json.dumps(found, default=str))) if isinstance(found, dict) else {}
    except (yaml.YAMLError, ValueError):
        return {}
