"""Runs as TREC files: `query Q0 document rank score tag`, best first."""

import gzip
from pathlib import Path
from typing import IO, cast

import numpy as np

from retrievers.errors import InputError
from retrievers.types import Run


def write(run: Run, path: Path, tag: str) -> None:
    """Write `run` to `path`, gzipped where it ends in .gz; equal runs give equal bytes (no time in the gzip header).

    Scores are written with as many digits as make them float32 again. Raises ValueError for a tag with white space.
    """
    if tag.split() != [tag]:
        raise ValueError(f"a run's tag is one word, got {tag!r}")
    with path.open("wb") as raw:
        if path.suffix == ".gz":
            with gzip.GzipFile(fileobj=raw, filename="", mode="wb", mtime=0, compresslevel=6) as file:
                _write(run, cast(IO[bytes], file), tag)
        else:
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


def read(path: Path) -> Run:
    """Read a TREC run, gzipped or not; order is taken from the scores, as trec_eval does.

    Raises InputError, with file and line, for a malformed line.
    """
    index: dict[str, int] = {}
    rows_query, ids, scores = [], [], []
    with cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb") as file:
        for number, line in enumerate(file, 1):
            columns = line.split()  # at ASCII white space, as trec_eval does
            try:
                query_id, _, doc_id, _, score, _ = columns
                scores.append(float(score))
            except ValueError as error:
                raise InputError(
                    f"{path}, line {number}: want six columns `query Q0 document rank score tag`, "
                    f"got {line.strip()[:80].decode(errors='replace')!r}."
                ) from error
            rows_query.append(index.setdefault(query_id.decode(), len(index)))
            ids.append(doc_id)
    arrays = (np.array(rows_query), np.array(ids, dtype=np.bytes_), np.array(scores, dtype=np.float64))
    return Run.from_blocks(list(index), [arrays] if ids else [])
