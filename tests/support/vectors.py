"""Random hybrid vectors, and their scores in float64."""

import numpy as np

from harness.retrievers.encoding.vectors import HybridQueries, HybridVectors


def random_vectors(rng, n, dense, lexical, vocabulary, low=-1.0):
    ids = np.stack([rng.choice(vocabulary, lexical, replace=False) for _ in range(n)]) if lexical else np.zeros((n, 0))
    return HybridVectors(
        rng.normal(size=(n, dense)).astype(np.float16),
        np.sort(ids, axis=1).astype(np.uint16),
        rng.uniform(low, 8, size=(n, lexical)).astype(np.float16),
    )


def random_queries(rng, q, dense, lexical, vocabulary):
    return HybridQueries(
        rng.normal(size=(q, dense)).astype(np.float32),
        rng.uniform(-4, 8, size=(q, vocabulary if lexical else 0)).astype(np.float32),
    )


def oracle(queries, number, vectors):
    """Equation 12 in float64, term by term over the stored values: scores [N], and the sums of absolute terms [N]."""
    dense = vectors.dense.astype(np.float64) * queries.dense[number].astype(np.float64)
    weights = queries.lexical[number].astype(np.float64) if vectors.term_ids.shape[1] else np.zeros(1)
    lexical = vectors.term_weights.astype(np.float64) * weights[vectors.term_ids]
    return dense.sum(1) + lexical.sum(1), np.abs(dense).sum(1) + np.abs(lexical).sum(1)


def random_shape(seed):
    """A case of its own: sizes that fit no block, empty halves, padding, ties, equal documents, negative weights."""
    rng = np.random.default_rng(seed)
    n, q = int(rng.integers(1, 3_000)), int(rng.integers(1, 80))
    dense = int(rng.choice([0, 1, 31, 384, 768]))
    kept = int(rng.choice([0, 1, 2, 33, 260, 384, 768])) if dense else int(rng.choice([1, 7, 384, 768]))
    if dense + kept > 700:
        n = min(n, 1_200)
    vocabulary = max(int(rng.integers(1, 3_000)), kept, 1)
    first = int(rng.integers(0, max(1, vocabulary - kept)))
    ids = (
        first + np.sort(rng.random((n, max(1, vocabulary - first))).argpartition(kept - 1, axis=1)[:, :kept])
        if kept
        else np.zeros((n, 0))
    )
    values = rng.normal(size=(n, dense)), rng.exponential(2.0, size=(n, kept)) * rng.choice([1, 1, 1, -1], (n, kept))
    kind = seed % 5
    if kind == 1:  # heavy ties
        values = tuple(np.round(np.abs(part)) for part in values)
    elif kind == 2:  # all alike
        values, ids = tuple(np.repeat(part[:1], n, axis=0) for part in values), np.repeat(ids[:1], n, axis=0)
    elif kind == 3:  # padding, and documents without a word
        lacking = rng.random((n, kept)) < rng.random((n, 1)) * 1.2
        values, ids = (values[0], np.where(lacking, 0, values[1])), np.where(lacking, 0, ids)
    scale = float(rng.choice([1e-3, 1.0, 300.0]))
    vectors = HybridVectors(
        (values[0] * scale).astype(np.float16), ids.astype(np.uint16), (values[1] * scale).astype(np.float16)
    )
    weights = rng.exponential(1.0, size=(q, vocabulary if kept else 0)) * rng.choice([1, 1, -1])
    query = rng.normal(size=(q, dense)) * rng.choice([1e-4, 1.0, 1e5])
    if kind == 1:
        weights, query = np.round(weights), np.round(query)
    return HybridQueries(query.astype(np.float32), weights.astype(np.float32)), vectors, rng
