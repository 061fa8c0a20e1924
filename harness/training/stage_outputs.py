"""The files that one stage leaves and another reads: mined negatives, and a teacher's scores."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.models.errors import first_line
from harness.models.training.tokens import Ragged
from harness.retrievers.errors import InputError

_NEGATIVES, _SCORES = "negatives.npz", "scores.npz"


def write_negatives(folder: Path, found: Ragged) -> None:
    """Write the documents (rows of all training collections) that are negatives of each query."""
    np.savez(folder / _NEGATIVES, rows=found.flat.astype(np.int32), offsets=found.offsets)


def read_negatives(folder: Path) -> Ragged:
    """What `write_negatives` wrote. Raises InputError for a file that is not there or damaged."""
    with _whole(folder / _NEGATIVES) as found:
        return Ragged(found["rows"].astype(np.int64), found["offsets"])


def write_scores(folder: Path, negatives: Ragged, scores: Ragged) -> None:
    """Write the negatives of each query that a teacher scored, and the scores: its positives' first, then theirs."""
    np.savez(
        folder / _SCORES,
        rows=negatives.flat,
        offsets=negatives.offsets,
        scores=scores.flat,
        score_offsets=scores.offsets,
    )


def read_scores(folder: Path) -> tuple[Ragged, Ragged]:
    """What `write_scores` wrote: negatives and scores. Raises InputError for a file that is not there or damaged."""
    with _whole(folder / _SCORES) as found:
        return Ragged(found["rows"], found["offsets"]), Ragged(found["scores"], found["score_offsets"])


def save_block(path: Path, scores: npt.NDArray[np.float32]) -> None:
    """Keep scores that a stopped stage goes on from; whole or not there."""
    new = path.with_name(f".{path.name}")
    np.save(new, scores)
    new.replace(path)


def read_block(path: Path, count: int) -> npt.NDArray[np.float32] | None:
    """A block of `count` scores that a stopped stage left; None where it is not whole."""
    try:
        with path.open("rb") as file:
            found = np.load(file)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.shape == (count,) and found.dtype == np.float32 else None


@contextmanager
def _whole(path: Path) -> Iterator[Any]:
    try:
        with path.open("rb") as file, np.load(file) as found:
            yield found
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{path} is damaged ({first_line(error)}). Remove {path.parent}, and the same command makes it anew."
        ) from error
