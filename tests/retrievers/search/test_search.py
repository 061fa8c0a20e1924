"""Exact hybrid search against a float64 oracle, whatever the way, the blocks, the shards and the threads."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.retrievers.encoding.vectors import HybridQueries, HybridVectors, bytes_per_document, term_id_type
from harness.retrievers.search import compiled, device, exact
from harness.retrievers.search.final import Part, best, final_scores
from tests.support.vectors import oracle, random_queries, random_shape, random_vectors

CPU = torch.device("cpu")


BOTH = pytest.mark.parametrize("engine", ["compiled", "torch"])


def split(vectors, cuts):
    edges = [0, *sorted(cuts), len(vectors)]
    pairs = itertools.pairwise(edges)
    return [Part(low, vectors.take(slice(low, high))) for low, high in pairs if high > low]


def names_of(n):
    ids = np.array([f"d{number:05}".encode() for number in range(n)])
    return lambda rows: ids[rows]


def search(queries, parts, k, engine="compiled", threads=2, path=None):
    names = names_of(sum(len(part.vectors) for part in parts))
    way = path or exact.path_for(parts, CPU, threads, engine)
    return exact.named(exact.search(queries, parts, k, way, names, threads), names)


def assert_same(found, expected):
    for (ids, scores), (others, their) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ids, others)
        np.testing.assert_array_equal(scores, their)


def assert_oracle(found, queries, vectors, k):
    """Scores within 1e-6 of the sum of absolute terms; the k best, none forgotten, equal scores by descending id."""
    for number, (ids, scores) in enumerate(found):
        true, absolute = oracle(queries, number, vectors)
        rows = np.array([int(name[1:]) for name in ids])
        assert len(set(rows)) == len(rows) == min(k, len(vectors))
        assert (np.abs(scores - true[rows]) <= 1e-6 * absolute[rows]).all()
        assert (np.sort(true)[::-1][: len(rows)] - np.sort(true[rows])[::-1] <= 1e-6 * absolute.max()).all()
        order = sorted(zip(scores.tolist(), ids.tolist(), strict=True), reverse=True)
        assert order == list(zip(scores.tolist(), ids.tolist(), strict=True))
        expected = np.lexsort((np.arange(len(vectors)), true.astype(np.float32)))[::-1][: len(rows)]
        clear = np.abs(np.diff(true[expected])) > 2e-6 * absolute.max()  # where float32 leaves no doubt
        firm = np.concatenate(([True], clear)) & np.concatenate((clear, [True]))
        np.testing.assert_array_equal(rows[firm], expected[firm])


@pytest.mark.parametrize("seed", range(50))
def test_fifty_random_shapes_are_the_oracles(seed, monkeypatch):
    """Every top-1000 list, over blocks of an odd size."""
    monkeypatch.setattr(compiled, "DOCUMENTS", 251)
    queries, vectors, rng = random_shape(seed)
    cuts = rng.integers(0, len(vectors) + 1, int(rng.integers(0, 4)))
    found = search(queries, split(vectors, cuts), 1000, threads=int(rng.integers(1, 4)))
    assert_oracle(found, queries, vectors, 1000)


@BOTH
@pytest.mark.parametrize("seed", range(10))
def test_small_k_is_the_oracles(seed, engine, monkeypatch):
    monkeypatch.setattr(compiled, "DOCUMENTS", 100)
    queries, vectors, rng = random_shape(seed)
    k = int(rng.integers(1, 20))
    assert_oracle(search(queries, split(vectors, []), k, engine), queries, vectors, k)


@BOTH
@pytest.mark.parametrize(("dense", "lexical"), [(24, 0), (0, 30), (24, 30)])
def test_blocks_shards_threads_and_company_change_nothing(dense, lexical, engine, monkeypatch):
    rng = np.random.default_rng(9)
    vectors, queries = random_vectors(rng, 500, dense, lexical, 400), random_queries(rng, 9, dense, lexical, 400)
    expected = search(queries, split(vectors, []), 50)
    before = torch.get_num_threads()
    for cuts, documents, threads in (([1], 7, 1), ([100, 101, 499], 64, 2), ([250], 499, 1), ([3], 10, 5)):
        monkeypatch.setattr(compiled, "DOCUMENTS", documents)
        parts = split(vectors, cuts)
        path = device.Widened(parts, device.TorchCandidates(parts, CPU, documents)) if engine == "torch" else None
        assert_same(search(queries, parts, 50, threads=threads, path=path), expected)
    assert torch.get_num_threads() == before
    alone = [search(queries.take(slice(n, n + 1)), split(vectors, []), 50, engine)[0] for n in range(9)]
    assert_same(alone, expected)


def test_kept_blocks_and_streamed_ones_are_the_same():
    rng = np.random.default_rng(3)
    vectors, queries = random_vectors(rng, 300, 8, 6, 90), random_queries(rng, 5, 8, 6, 90)
    parts = split(vectors, [150])
    kept, streamed = compiled.Compiled(parts, 2), compiled.Compiled(parts, 2, resident=0)
    for _ in range(2):  # the second time from what was kept
        assert_same(search(queries, parts, 20, path=kept), search(queries, parts, 20, path=streamed))
    assert len(kept.blocks._made) == 2
    assert streamed.blocks._made == []


@BOTH
@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 100), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_heavy_ties_go_to_the_greater_id(engine, n, k, levels, seed):
    """Vectors of few distinct values: whole runs of documents score alike, also across the k-th place."""
    rng = np.random.default_rng(seed)
    vectors = HybridVectors(
        rng.integers(0, levels, (n, 2)).astype(np.float16),
        np.tile(np.array([3, 5], dtype=np.uint16), (n, 1)),
        rng.integers(0, levels, (n, 2)).astype(np.float16),
    )
    queries = HybridQueries(np.ones((1, 2), np.float32), np.ones((1, 10), np.float32))
    [(ids, scores)] = search(queries, split(vectors, [n // 2]), k, engine)
    true = vectors.dense.sum(1) + vectors.term_weights.sum(1)
    best = sorted(range(n), key=lambda row: (true[row], row), reverse=True)[:k]
    assert [int(name[1:]) for name in ids] == best
    assert scores.tolist() == [float(true[row]) for row in best]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-2, 2), min_size=1, max_size=40), st.integers(1, 40), st.sampled_from([1.0, 1e-40, 3e38]))
def test_best_is_the_first_of_a_plain_sort(levels, k, scale):
    """Scores of both signs, subnormal and huge; -0.0 equals 0.0."""
    scores = (np.array(levels) / 2 * scale).astype(np.float32)
    scores[::3] *= -1
    rows = np.arange(len(scores)) * 7
    names = np.array([f"{(row * 5) % 291:03}".encode() for row in range(rows[-1] + 1)])
    [(found, ranked), (other, _)] = best([rows, rows[:1]], [scores, scores[:1]], k, lambda r: names[r])
    assert other.tolist() == [0]
    order = sorted(range(len(rows)), key=lambda n: (scores[n], names[rows[n]]), reverse=True)[:k]
    assert found.tolist() == rows[order].tolist()
    assert ranked.tolist() == scores[order].tolist()


@BOTH
def test_too_many_left_open_are_scored_throughout(engine, monkeypatch):
    """All 3,000 documents alike: no bound can choose, and the greatest ids win all the same."""
    monkeypatch.setattr(compiled, "_MOST", 500)
    monkeypatch.setattr(compiled, "_ROOM", 100)
    monkeypatch.setattr(compiled, "DOCUMENTS", 200)
    monkeypatch.setattr(device, "_MOST", 500)
    vectors = HybridVectors(
        np.ones((3000, 4), np.float16), np.zeros((3000, 0), np.uint16), np.zeros((3000, 0), np.float16)
    )
    queries = HybridQueries(np.ones((2, 4), np.float32), np.zeros((2, 0), np.float32))
    parts = split(vectors, [])
    assert exact.path_for(parts, CPU, 3, engine)(queries, 3) == [None, None]
    for ids, _ in search(queries, parts, 3, engine, threads=3):
        assert [name.decode() for name in ids] == ["d02999", "d02998", "d02997"]


def test_candidates_grow_where_the_bound_leaves_many_open(monkeypatch):
    """Scores closer together than bfloat16 can tell: the room grows, and nothing is lost."""
    monkeypatch.setattr(compiled, "_ROOM", 64)
    monkeypatch.setattr(compiled, "DOCUMENTS", 128)
    rng = np.random.default_rng(8)
    dense = 1 + rng.integers(0, 3, (4000, 64)) / 1024
    vectors = HybridVectors(dense.astype(np.float16), np.zeros((4000, 0), np.uint16), np.zeros((4000, 0), np.float16))
    queries = HybridQueries(rng.normal(size=(3, 64)).astype(np.float32) + 4, np.zeros((3, 0), np.float32))
    for threads in (2, 5):
        assert_oracle(search(queries, split(vectors, []), 10, threads=threads), queries, vectors, 10)


def test_candidates_are_widened_until_the_bound_is_sure():
    """All 3,000 documents alike: the margin is not enough, and the greatest ids win all the same."""
    vectors = HybridVectors(
        np.ones((3000, 4), np.float16), np.zeros((3000, 0), np.uint16), np.zeros((3000, 0), np.float16)
    )
    queries = HybridQueries(np.ones((2, 4), np.float32), np.zeros((2, 0), np.float32))
    asked = []
    inner = device.TorchCandidates(split(vectors, []), CPU)

    def path(block, count):
        asked.append((len(block), count))
        return inner(block, count)

    for ids, _ in search(queries, split(vectors, []), 3, path=device.Widened(split(vectors, []), path)):
        assert [name.decode() for name in ids] == ["d02999", "d02998", "d02997"]
    assert asked == [(2, 67), (2, 268), (2, 1072), (2, 3000)]


def test_a_path_may_err_within_the_bound():
    """Candidates shuffled by noise as large as the bound allows give the same answer as exact ones."""
    rng = np.random.default_rng(5)
    vectors, queries = random_vectors(rng, 400, 16, 8, 50), random_queries(rng, 4, 16, 8, 50)
    parts = split(vectors, [])
    bound = device.slack(queries, device.norms(parts))

    def noisy(block, count):
        numbers = [int(np.flatnonzero((queries.dense == row).all(1))[0]) for row in block.dense]
        true = np.stack([oracle(queries, n, vectors)[0] for n in numbers])
        scores = (true + rng.uniform(-1, 1, true.shape) * 0.99 * bound[numbers][:, None]).astype(np.float32)
        rows = np.argsort(-scores, axis=1)[:, :count]
        return np.take_along_axis(scores, rows, 1), rows

    assert_same(search(queries, parts, 20, path=device.Widened(parts, noisy)), search(queries, parts, 20))


def test_the_bound_holds_for_float32_sums():
    """Float32 sums in three orders stay within the slack of the final score."""
    rng = np.random.default_rng(6)
    vectors, queries = random_vectors(rng, 300, 384, 384, 2000), random_queries(rng, 5, 384, 384, 2000)
    bound = device.slack(queries, device.norms(split(vectors, [])))
    rows = [np.arange(300)] * 5
    final = [np.empty(300, np.float32) for _ in rows]
    final_scores(queries, Part(0, vectors), rows, final)
    for number in range(5):
        terms = np.concatenate(
            [
                vectors.dense.astype(np.float32) * queries.dense[number],
                vectors.term_weights.astype(np.float32) * queries.lexical[number][vectors.term_ids],
            ],
            axis=1,
        )
        for order in (slice(None), slice(None, None, -1), rng.permutation(768)):
            summed = np.add.accumulate(terms[:, order], axis=1, dtype=np.float32)[:, -1]  # one by one, the worst order
            assert (np.abs(summed - final[number]) <= bound[number]).all()


def test_faiss_gives_the_same():
    faiss = pytest.importorskip("faiss")
    assert faiss
    rng = np.random.default_rng(7)
    vectors, queries = random_vectors(rng, 900, 48, 0, 10), random_queries(rng, 6, 48, 0, 10)
    parts = split(vectors, [400])
    assert_same(search(queries, parts, 100, "faiss"), search(queries, parts, 100))
    with pytest.raises(ValueError, match="dense half alone"):
        device.faiss_candidates(split(random_vectors(rng, 5, 4, 2, 10), []), 1, torch.device("cpu"))


@BOTH
@pytest.mark.parametrize("scale", [1e-44, 1e-38, 1e-33, 1e-20, 1e30])
def test_queries_tiny_and_huge(scale, engine):
    """Float32 sums of such queries underflow; a tiny one is scored throughout, and spoils no other."""
    rng = np.random.default_rng(12)
    vectors, queries = random_vectors(rng, 400, 16, 12, 300), random_queries(rng, 70, 16, 12, 300)
    factors = np.where(np.arange(70) % 2, np.float32(scale), np.float32(1))[:, None]
    queries = HybridQueries(queries.dense * factors, queries.lexical * factors)
    found = search(queries, split(vectors, []), 20, engine)
    for number, (ids, scores) in enumerate(found):
        true = oracle(queries, number, vectors)[0].astype(np.float32)
        order = np.lexsort((np.arange(400), true))[::-1][:20]
        assert [int(name[1:]) for name in ids] == order.tolist()
        np.testing.assert_array_equal(scores, true[order])


@BOTH
@pytest.mark.parametrize(("constant", "weight"), [(60000, 0.01), (1000, 0.001), (100, 0.01)])
def test_scores_that_float32_cannot_tell_apart_go_by_id(constant, weight, engine):
    """A large dense score that all share, and a lexical one below its last place: equal scores, greater ids first."""
    rng = np.random.default_rng(13)
    vectors = random_vectors(rng, 1500, 16, 12, 300)
    vectors = HybridVectors(
        np.full((1500, 16), constant, np.float16), vectors.term_ids, (vectors.term_weights * weight).astype(np.float16)
    )
    queries = HybridQueries(np.ones((9, 16), np.float32), random_queries(rng, 9, 16, 12, 300).lexical)
    for number, (ids, scores) in enumerate(search(queries, split(vectors, []), 20, engine)):
        true = oracle(queries, number, vectors)[0].astype(np.float32)
        order = np.lexsort((np.arange(1500), true))[::-1][:20]
        assert [int(name[1:]) for name in ids] == order.tolist()
        np.testing.assert_array_equal(scores, true[order])


@BOTH
def test_nothing_to_search_or_to_ask(engine):
    rng = np.random.default_rng(2)
    vectors, queries = random_vectors(rng, 30, 4, 3, 100), random_queries(rng, 2, 4, 3, 100)
    parts = split(vectors, [])
    assert search(queries.take(slice(0, 0)), parts, 3, engine) == []
    empty = exact.search(queries, [Part(0, vectors.take(slice(0, 0)))], 3, lambda *_: [], lambda rows: rows, 1)
    assert [len(rows) for rows, _ in empty] == [0, 0]
    with pytest.raises(ValueError, match="k is 0"):
        search(queries, parts, 0, engine)
    with pytest.raises(ValueError, match="4 dense values, the queries 3"):
        search(HybridQueries(queries.dense[:, :3], queries.lexical), parts, 3, engine)


def test_a_term_twice_in_a_document_is_refused():
    vectors = HybridVectors(
        np.zeros((2, 0), np.float16), np.array([[1, 2], [7, 7]], np.uint16), np.ones((2, 2), np.float16)
    )
    queries = HybridQueries(np.zeros((1, 0), np.float32), np.ones((1, 9), np.float32))
    with pytest.raises(ValueError, match="document 1: its term ids do not ascend"):
        search(queries, split(vectors, []), 1)


@BOTH
def test_a_term_that_the_queries_lack(engine):
    rng = np.random.default_rng(2)
    vectors, queries = random_vectors(rng, 30, 4, 3, 100), random_queries(rng, 2, 4, 3, 50)
    with pytest.raises(ValueError, match=r"the store holds term \d+, the queries have 50 terms"):
        search(queries, split(vectors, []), 3, engine)


@BOTH
def test_the_query_keeps_all_its_terms(engine):
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
        search(HybridQueries(np.zeros((1, 0), np.float32), weights), split(vectors, []), 2, engine)[0][0][0]
        for weights in (full, sparse)
    ]
    assert first == [b"d00001", b"d00000"]


@BOTH
@pytest.mark.parametrize("seed", [0, 3, 6])
def test_terms_beyond_16_bits(seed, engine, monkeypatch):
    """Term t stands where t + 70,000 stood before, in 32 bits: the same documents, the same scores to the bit."""
    monkeypatch.setattr(compiled, "DOCUMENTS", 251)
    queries, vectors, _ = random_shape(seed)
    queries = queries.take(slice(0, 9))
    assert vectors.term_ids.shape[1]
    kept = vectors.term_weights != 0
    shifted = np.where(kept, vectors.term_ids.astype(np.uint32) + 70_000, 0).astype(np.uint32)
    wide = HybridVectors(vectors.dense, shifted, vectors.term_weights)
    asked = HybridQueries(queries.dense, np.pad(queries.lexical, ((0, 0), (70_000, 0))))
    cuts = [len(vectors) // 3]
    assert_same(search(asked, split(wide, cuts), 40, engine), search(queries, split(vectors, cuts), 40, engine))


@pytest.mark.parametrize(
    ("vocabulary", "kind"), [(0, "u2"), (30_522, "u2"), (65_536, "u2"), (65_537, "u4"), (250_002, "u4")]
)
def test_the_vocabulary_chooses_how_wide_a_term_id_is(vocabulary, kind):
    """The greatest id is V - 1, and 16 bits hold 65,535."""
    assert np.dtype(term_id_type(vocabulary)) == kind
    assert max(0, vocabulary - 1) <= np.iinfo(term_id_type(vocabulary)).max


def test_bytes_per_document():
    """384 + 384: 768 fp16 values and 384 ids; 384 + 260 by the paper's counting stays within 768 float32 values.

    250,002 terms need ids of 32 bits here, and of 18 by the paper's counting: 2¹⁷ = 131,072.
    """
    assert bytes_per_document(384, 384)[0] == 2304
    assert bytes_per_document(384, 384, 250_002) == (768 + 6 * 384, 4 * 384 + 384 * (4 + 18 / 8))
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
