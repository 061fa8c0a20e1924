"""The final score of a document, and the order of equal ones: what no way to the candidates can change."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
from typing_extensions import TypeVar

from harness.retrievers.encoding.store import forget
from harness.retrievers.encoding.vectors import HybridQueries, HybridVectors
from harness.retrievers.types import Strings

Rows = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]
DocIds = Callable[[Rows], Strings]


class Asked(Protocol):
    """A block of queries."""

    def __len__(self) -> int: ...

    @property
    def width(self) -> int:
        """D of their vectors."""
        ...

    def take(self, rows: "npt.NDArray[np.integer] | slice[Any, Any, Any]") -> Self:
        """The queries at `rows`."""
        ...


Q = TypeVar("Q", bound=Asked, default=HybridQueries)
Q_contra = TypeVar("Q_contra", bound=Asked, contravariant=True)


class Documents(Protocol[Q_contra]):
    """Consecutive documents of a store."""

    @property
    def first(self) -> int:
        """The row number of the first one."""
        ...

    @property
    def end(self) -> int:
        """The row number behind the last one."""
        ...

    @property
    def width(self) -> int:
        """D of their vectors."""
        ...

    def forget(self) -> None:
        """Let go of the memory of what was read of them."""
        ...

    def final(self, queries: Q_contra, rows: Sequence[Rows], scores: Sequence[Scores]) -> None:
        """Write the score of each query with those of its ascending `rows` that lie in here."""
        ...


@dataclass(frozen=True)
class Part:
    """Consecutive documents of a store, memory-mapped: the first one's row number, and the vectors."""

    first: int
    vectors: HybridVectors

    @property
    def end(self) -> int:
        """The row number behind the last one."""
        return self.first + len(self.vectors)

    @property
    def width(self) -> int:
        """D."""
        return self.vectors.width

    def final(self, queries: HybridQueries, rows: Sequence[Rows], scores: Sequence[Scores]) -> None:
        """See `final_scores`."""
        final_scores(queries, self, rows, scores)

    def forget(self) -> None:
        """Let go of the memory of what was read of them."""
        forget(self.vectors.dense, self.vectors.term_ids, self.vectors.term_weights)


def most_terms(parts: Sequence[Part]) -> int:
    """K: a part may hold fewer terms a document than another, where every term above 0 is kept."""
    return max(int(part.vectors.term_ids.shape[1]) for part in parts)


def pair_bytes(parts: Sequence[Part]) -> int:
    """Bytes of a term id, of the widest part, and its weight."""
    return 2 + max(part.vectors.term_ids.itemsize for part in parts)


def final_scores(queries: HybridQueries, part: Part, rows: Sequence[Rows], scores: Sequence[Scores]) -> None:
    """Write the score of each query with those of its ascending `rows` that lie in `part`: equation 12, as stored.

    Products of stored values are exact in float64, in which they are added; the sum is rounded to float32 once. That is
    the nearest float32 or its neighbour, whatever the way that led here; one way of adding makes it the same always.
    """
    from harness.retrievers.search import loops  # compiled: what only makes candidates does without

    vectors, lexical = part.vectors, queries.lexical
    ids = np.asarray(vectors.term_ids)
    dense, weights = (np.asarray(half).view(np.uint16) for half in (vectors.dense, vectors.term_weights))

    def score(chosen: Rows, starts: Rows, at: Rows, found: Scores) -> None:
        loops.final(queries.dense, lexical, dense, ids, weights, chosen, starts, at, found)

    write_scores(part.first, part.end, rows, scores, score)


def write_scores(
    first: int,
    end: int,
    rows: Sequence[Rows],
    scores: Sequence[Scores],
    score: Callable[[Rows, Rows, Rows, Scores], None],
) -> None:
    """Have `score` fill in the scores of those of each query's ascending `rows` that lie in [first,end).

    It is given the rows of all queries one after another, counted from `first`, where each query's begin [Q+1], where
    to go on in each [Q], and the array to fill.
    """
    spans = [np.searchsorted(r, (first, end)) for r in rows]
    chosen = [r[low:high] - first for r, (low, high) in zip(rows, spans, strict=True)]
    starts = np.concatenate(([0], np.cumsum([len(c) for c in chosen])))
    found = np.empty(starts[-1], np.float32)
    score(np.concatenate(chosen), starts, starts[:-1].copy(), found)
    for n, (low, high) in enumerate(spans):
        scores[n][low:high] = found[starts[n] : starts[n + 1]]


def best(rows: Sequence[Rows], scores: Sequence[Scores], k: int, doc_ids: DocIds) -> list[tuple[Rows, Scores]]:
    """The k best candidates of each query, by (score, document id) both descending.

    Ids are read for equal scores alone.
    """
    from harness.retrievers.search import loops

    starts = np.concatenate(([0], np.cumsum([len(r) for r in rows])))
    keys = np.full((len(rows), int(np.diff(starts).max(initial=0))), np.iinfo(np.uint64).max, np.uint64)
    flat, values = np.concatenate(rows), np.concatenate(scores)
    loops.pack(values, starts, keys)
    keys.sort(axis=1)  # one sort of plain numbers: several times as fast as the order of the scores
    taken, ranked = np.empty(keys.shape, np.int64), np.empty(keys.shape, np.float32)
    counts, ties = np.empty(len(rows), np.int64), np.zeros(len(rows), np.bool_)
    loops.unpack(keys, flat, values, starts, k, taken, ranked, counts, ties)
    found = []
    for n, count in enumerate(counts):
        own, order = taken[n, :count], ranked[n, :count]
        found.append((_untied(own, order, doc_ids)[:k] if ties[n] else own[:k], order[:k]))
    return found


def _untied(rows: Rows, ranked: Scores, doc_ids: DocIds) -> Rows:
    same = ranked[1:] == ranked[:-1]
    tied = np.flatnonzero(np.concatenate((same, [False])) | np.concatenate(([False], same)))
    ascending = np.sort(rows[tied])
    rank = np.argsort(np.argsort(doc_ids(ascending)))  # an id's place among them, by ascending rows
    by = rank[np.searchsorted(ascending, rows[tied])]
    rows[tied] = rows[tied][np.lexsort((by, ranked[tied]))[::-1]]
    return rows
