"""Exact hybrid search against a float64 oracle, whatever the path, the blocks and the shards."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrievers.search import exact
from retrievers.vectors import HybridQueries, HybridVectors, bytes_per_document

CPU = torch.device("cpu")


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
    kept = [
        [float(w) * float(queries.lexical[number][i]) for i, w in zip(ids, weights, strict=True)]
        for ids, weights in zip(vectors.term_ids, vectors.term_weights, strict=True)
    ]
    lexical = np.array(kept).reshape(len(vectors), -1)
    return dense.sum(1) + lexical.sum(1), np.abs(dense).sum(1) + np.abs(lexical).sum(1)


def split(vectors, cuts):
    edges = [0, *sorted(cuts), len(vectors)]
    pairs = itertools.pairwise(edges)
    return [exact.Part(low, vectors.take(slice(low, high))) for low, high in pairs if high > low]


def names_of(n):
    ids = np.array([f"d{number:05}".encode() for number in range(n)])
    return lambda rows: ids[rows]


def search(queries, parts, k, documents=64, path=None):
    n = sum(len(part.vectors) for part in parts)
    found = path or exact.torch_candidates(parts, CPU, documents=documents)
    return list(exact.top_k(queries, parts, k, found, names_of(n), exact.norms(parts)))


SHAPES = [(768, 0), (0, 768), (384, 384), (384, 260), (0, 40), (32, 1)]


@pytest.mark.parametrize(("dense", "lexical"), SHAPES)
def test_scores_and_order_are_the_oracles(dense, lexical):
    """Within 1e-6 of the sum of the absolute terms, over the stored float16 values; k best, none forgotten."""
    rng = np.random.default_rng(dense + lexical)
    vectors = random_vectors(rng, 701, dense, lexical, 3000)
    queries = random_queries(rng, 7, dense, lexical, 3000)
    for number, (ids, scores) in enumerate(search(queries, split(vectors, [300, 650]), 100)):
        true, absolute = oracle(queries, number, vectors)
        rows = np.array([int(name[1:]) for name in ids])
        assert len(set(rows)) == 100
        assert (np.abs(scores - true[rows]) <= 1e-6 * absolute[rows]).all()
        assert (np.sort(true)[::-1][:100] - np.sort(true[rows])[::-1] <= 1e-6 * absolute.max()).all()
        assert (np.diff(scores) <= 0).all()


@pytest.mark.parametrize(("dense", "lexical"), [(24, 0), (0, 30), (24, 30)])
def test_blocks_shards_threads_and_company_change_nothing(dense, lexical):
    rng = np.random.default_rng(9)
    vectors, queries = random_vectors(rng, 500, dense, lexical, 400), random_queries(rng, 9, dense, lexical, 400)
    expected = search(queries, split(vectors, []), 50, documents=1000)
    before = torch.get_num_threads()
    try:
        for cuts, documents, threads in (([1], 7, 1), ([100, 101, 499], 64, 2), ([250], 499, 1)):
            torch.set_num_threads(threads)
            for (ids, scores), (others, their) in zip(
                search(queries, split(vectors, cuts), 50, documents), expected, strict=True
            ):
                np.testing.assert_array_equal(ids, others)
                np.testing.assert_array_equal(scores, their)
    finally:
        torch.set_num_threads(before)
    alone = [
        search(HybridQueries(queries.dense[[n]], queries.lexical[[n]]), split(vectors, []), 50)[0] for n in range(9)
    ]
    for (ids, scores), (others, their) in zip(alone, expected, strict=True):
        np.testing.assert_array_equal(ids, others)
        np.testing.assert_array_equal(scores, their)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 100), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_heavy_ties_go_to_the_greater_id(n, k, levels, seed):
    """Vectors of few distinct values: whole runs of documents score alike, also across the k-th place."""
    rng = np.random.default_rng(seed)
    vectors = HybridVectors(
        rng.integers(0, levels, (n, 2)).astype(np.float16),
        np.tile(np.array([3, 5], dtype=np.uint16), (n, 1)),
        rng.integers(0, levels, (n, 2)).astype(np.float16),
    )
    queries = HybridQueries(np.ones((1, 2), np.float32), np.ones((1, 10), np.float32))
    [(ids, scores)] = search(queries, split(vectors, [n // 2]), k, documents=8)
    true = vectors.dense.sum(1) + vectors.term_weights.sum(1)
    best = sorted(range(n), key=lambda row: (true[row], row), reverse=True)[:k]
    assert [int(name[1:]) for name in ids] == best
    assert scores.tolist() == [float(true[row]) for row in best]


def test_candidates_are_widened_until_the_bound_is_sure():
    """All 3,000 documents alike: the margin is not enough, and the greatest ids win all the same."""
    vectors = HybridVectors(
        np.ones((3000, 4), np.float16), np.zeros((3000, 0), np.uint16), np.zeros((3000, 0), np.float16)
    )
    queries = HybridQueries(np.ones((2, 4), np.float32), np.zeros((2, 0), np.float32))
    asked = []
    inner = exact.torch_candidates(split(vectors, []), CPU)

    def path(block, count):
        asked.append((len(block), count))
        return inner(block, count)

    for ids, _ in search(queries, split(vectors, []), 3, path=path):
        assert [name.decode() for name in ids] == ["d02999", "d02998", "d02997"]
    assert asked == [(2, 67), (2, 268), (2, 1072), (2, 3000)]


def test_a_path_may_err_within_the_bound():
    """Candidates shuffled by noise as large as the bound allows give the same answer as exact ones."""
    rng = np.random.default_rng(5)
    vectors, queries = random_vectors(rng, 400, 16, 8, 50), random_queries(rng, 4, 16, 8, 50)
    parts = split(vectors, [])
    bound = exact.slack(queries, exact.norms(parts))

    def noisy(block, count):
        numbers = [int(np.flatnonzero((queries.dense == row).all(1))[0]) for row in block.dense]
        true = np.stack([oracle(queries, n, vectors)[0] for n in numbers])
        scores = (true + rng.uniform(-1, 1, true.shape) * 0.99 * bound[numbers][:, None]).astype(np.float32)
        rows = np.argsort(-scores, axis=1)[:, :count]
        return np.take_along_axis(scores, rows, 1), rows

    for (ids, scores), (others, their) in zip(
        search(queries, parts, 20, path=noisy), search(queries, parts, 20), strict=True
    ):
        np.testing.assert_array_equal(ids, others)
        np.testing.assert_array_equal(scores, their)


def test_the_bound_holds_for_float32_sums():
    """Float32 sums in three orders stay within the slack of the final score."""
    rng = np.random.default_rng(6)
    vectors, queries = random_vectors(rng, 300, 384, 384, 2000), random_queries(rng, 5, 384, 384, 2000)
    parts = split(vectors, [])
    bound = exact.slack(queries, exact.norms(parts))
    for number in range(5):
        final = exact.final_scores(queries, number, vectors)
        terms = np.concatenate(
            [
                vectors.dense.astype(np.float32) * queries.dense[number],
                vectors.term_weights.astype(np.float32) * queries.lexical[number][vectors.term_ids],
            ],
            axis=1,
        )
        for order in (slice(None), slice(None, None, -1), rng.permutation(768)):
            summed = np.add.accumulate(terms[:, order], axis=1, dtype=np.float32)[:, -1]  # one by one, the worst order
            assert (np.abs(summed - final) <= bound[number]).all()


def test_faiss_gives_the_same_as_torch():
    faiss = pytest.importorskip("faiss")
    assert faiss
    rng = np.random.default_rng(7)
    vectors, queries = random_vectors(rng, 900, 48, 0, 10), random_queries(rng, 6, 48, 0, 10)
    parts = split(vectors, [400])
    ours = search(queries, parts, 100)
    theirs = search(queries, parts, 100, path=exact.faiss_candidates(parts, 2))
    for (ids, scores), (others, their) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(ids, others)
        np.testing.assert_array_equal(scores, their)
    with pytest.raises(ValueError, match="dense half alone"):
        exact.faiss_candidates(split(random_vectors(rng, 5, 4, 2, 10), []), 1)


def test_the_query_keeps_all_its_terms():
    """By hand: the query's third weight is on term 2, which only d1 keeps.

    Full query: d0 = 5·1 = 5, d1 = 4·1 + 3·0.999, nearly 7, so d1 is first. Sparsified to the query's top two terms
    {0, 1}, d1 would score 4 and lose.
    """
    vectors = HybridVectors(
        np.zeros((2, 0), np.float16),
        np.array([[0, 3], [1, 2]], dtype=np.uint16),
        np.array([[5, 0], [4, 3]], dtype=np.float16),
    )
    full = np.array([[1.0, 1.0, 0.999, 0.0]], dtype=np.float32)
    sparse = np.array([[1.0, 1.0, 0.0, 0.0]], dtype=np.float32)
    first = [
        search(HybridQueries(np.zeros((1, 0), np.float32), weights), split(vectors, []), 2)[0][0][0]
        for weights in (full, sparse)
    ]
    assert first == [b"d00001", b"d00000"]


def test_bytes_per_document():
    """384 + 384: 768 fp16 values and 384 ids; 384 + 260 by the paper's counting stays within 768 float32 values."""
    assert bytes_per_document(384, 384)[0] == 2304
    assert bytes_per_document(768, 0) == (1536, 3072)
    assert 3050 < bytes_per_document(384, 260)[1] <= 3072


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ((np.zeros((2, 3), np.float16), np.zeros((1, 2), np.uint16), np.zeros((1, 2), np.float16)), "one N"),
        ((np.zeros((2, 3), np.float32), np.zeros((2, 2), np.uint16), np.zeros((2, 2), np.float16)), "float16"),
        ((np.zeros((2, 3), np.float16), np.zeros((2, 2), np.int64), np.zeros((2, 2), np.float16)), "uint16"),
    ],
)
def test_vectors_that_do_not_fit_together(arrays, message):
    with pytest.raises(ValueError, match=message):
        HybridVectors(*arrays)
    with pytest.raises(ValueError, match="one Q"):
        HybridQueries(np.zeros((2, 3), np.float32), np.zeros((1, 3), np.float32))
