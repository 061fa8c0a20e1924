"""How rare each term is in the collection that is searched: what BM25 knows of it, and a trained head does not.

A head learns once which words tell texts apart, on the texts that it is trained on. In a collection about one subject
that subject's words tell nothing apart, however rare they are elsewhere. So a query's term weights may be multiplied by
the term's inverse document frequency there, of the terms that the store keeps, to a power.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from harness.retrievers.encoding.vectors import HybridQueries, HybridVectors
from harness.retrievers.types import Query

_AT_ONCE = 65_536  # documents


def frequencies(stored: Iterable[HybridVectors], vocabulary: int) -> npt.NDArray[np.int64]:
    """In how many documents each term has a weight above 0 [V]."""
    found = np.zeros(vocabulary, dtype=np.int64)
    for vectors in stored:
        for start in range(0, len(vectors), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            ids = np.asarray(vectors.term_ids[part])[np.asarray(vectors.term_weights[part]) > 0]
            found += np.bincount(ids, minlength=vocabulary)
    return found


def weights(frequency: npt.NDArray[np.int64], documents: int, power: float) -> npt.NDArray[np.float32]:
    """idf(t) ** power [V], divided by its mean over all terms of all documents: scores keep their size.

    idf(t) = ln(1 + (N - df + 0.5) / (df + 0.5)), Lucene's for BM25. Without any term all weigh 1.
    """
    idf = np.log1p((documents - frequency + 0.5) / (frequency + 0.5)) ** power
    total = int(frequency.sum())
    mean = float(frequency @ idf) / total if total else 0.0
    return np.asarray(idf / mean if mean > 0 else np.ones(len(frequency)), dtype=np.float32)


def weighed(
    encode: Callable[[Sequence[Query]], HybridQueries], weights: npt.NDArray[np.float32]
) -> Callable[[Sequence[Query]], HybridQueries]:
    """The same encoder of queries, whose term weights [Q,V] are multiplied by `weights` [V]."""

    def encoded(queries: Sequence[Query]) -> HybridQueries:
        found = encode(queries)
        return HybridQueries(found.dense, found.lexical * weights)

    return encoded
