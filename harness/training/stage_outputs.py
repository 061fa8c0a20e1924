"""The files that one stage leaves and another reads: mined negatives, and a teacher's scores."""

from pathlib import Path

import numpy as np

from harness.models.training.tokens import Ragged

_NEGATIVES, _SCORES = "negatives.npz", "scores.npz"


def write_negatives(folder: Path, found: Ragged) -> None:
    """Write the documents (rows of all training collections) that are negatives of each query."""
    np.savez(folder / _NEGATIVES, rows=found.flat.astype(np.int32), offsets=found.offsets)


def read_negatives(folder: Path) -> Ragged:
    """What `write_negatives` wrote."""
    found = np.load(folder / _NEGATIVES)
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
    """What `write_scores` wrote: negatives and scores."""
    found = np.load(folder / _SCORES)
    return Ragged(found["rows"], found["offsets"]), Ragged(found["scores"], found["score_offsets"])
