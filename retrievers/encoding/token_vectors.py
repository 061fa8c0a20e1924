"""The vectors of late interaction: one for every token that is kept of a text, T in all, of unequal number."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.retrievers.encoding.vectors import Half, Single


@dataclass(frozen=True, eq=False)
class TokenVectors:
    """N documents; the vectors of document i are `tokens[offsets[i]:offsets[i+1]]`, one at least.

    Raises ValueError for arrays of other types or that do not fit together, or a document without a vector.
    """

    tokens: Half  # [T,D] float16
    token_offsets: npt.NDArray[np.uint64]  # [N+1]

    def __post_init__(self) -> None:
        _check(self.tokens, self.token_offsets)
        if self.tokens.dtype != np.float16 or self.token_offsets.dtype != np.uint64:
            raise ValueError("tokens must be float16, their offsets uint64")

    def __len__(self) -> int:
        return len(self.token_offsets) - 1

    @property
    def width(self) -> int:
        """D."""
        return int(self.tokens.shape[1])

    def broken(self) -> tuple[int, str] | None:
        """A document that holds a value that is not finite, and the name of the array; None where all are."""
        wrong = np.flatnonzero(~np.isfinite(self.tokens).all(axis=1))
        if not len(wrong):
            return None
        return int(np.searchsorted(self.token_offsets, np.uint64(wrong[0]), side="right")) - 1, "tokens"


@dataclass(frozen=True, eq=False)
class TokenQueries:
    """A block of Q queries; the vectors of query i are `tokens[offsets[i]:offsets[i+1]]`, one at least.

    Raises ValueError as `TokenVectors`.
    """

    tokens: Single  # [T,D] float32
    token_offsets: npt.NDArray[np.int64]  # [Q+1]

    def __post_init__(self) -> None:
        _check(self.tokens, self.token_offsets)
        if self.tokens.dtype != np.float32 or self.token_offsets.dtype != np.int64:
            raise ValueError("tokens must be float32, their offsets int64")

    def __len__(self) -> int:
        return len(self.token_offsets) - 1

    @property
    def width(self) -> int:
        """D."""
        return int(self.tokens.shape[1])

    def take(self, rows: "npt.NDArray[np.integer] | slice[Any, Any, Any]") -> "TokenQueries":
        """The queries at `rows`."""
        chosen = np.arange(len(self))[rows]
        starts, lengths = self.token_offsets[chosen], np.diff(self.token_offsets)[chosen]
        offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
        places = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - starts, lengths)
        return TokenQueries(self.tokens[places], offsets)


def _check(tokens: npt.NDArray[Any], offsets: npt.NDArray[Any]) -> None:
    if tokens.ndim != 2 or offsets.ndim != 1 or not len(offsets) or offsets[0] != 0 or offsets[-1] != len(tokens):
        raise ValueError("tokens [T,D] want offsets that begin at 0 and end at T")
    if np.any(offsets[1:] <= offsets[:-1]):
        raise ValueError("offsets must rise: a text has one vector at least")
