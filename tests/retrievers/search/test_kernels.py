"""The compiled loops: every instruction set gives the same sums, and the rounded scores stay within their bound."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numba import njit

from harness.retrievers.encoding.vectors import HybridQueries, HybridVectors
from harness.retrievers.search import kernels, loops, quantised
from harness.retrievers.search.kernels import LANES
from tests.support.vectors import oracle, random_queries, random_shape, random_vectors

WIDTHS = ["plain", "sse2", "avx2", "avx512"]


def scanned(scan, queries, vectors, threads=1):
    """The kernel's scores of all documents for all queries [Q,N], and their bound [Q], in the queries' own units."""
    with ThreadPoolExecutor(threads) as pool:
        found = quantised.queries(queries, vectors.term_ids.shape[1], pool)
    block = quantised.block(0, vectors)
    dense = torch.mm(block.dense, found.dense)
    array = dense.view(torch.int16).numpy() if dense.dtype == torch.bfloat16 else dense.numpy()
    n, scores = len(vectors), []
    for group in range(len(found.rows)):
        counts, values, places = np.zeros(64, np.int64), np.zeros((64, n), np.float32), np.zeros((64, n), np.int64)
        least = np.full(64, -np.inf, np.float32)
        own = np.ascontiguousarray(array[:, 64 * group : 64 * (group + 1)]).reshape(-1)
        arrays = block.term_ids, block.weights, block.offsets, block.inverses, found.scales[group]
        scan(found.rows[group], *arrays, own, least, 0, counts, values, places)
        assert (counts == n).all()
        assert (places == np.arange(n)).all()
        scores.append(values)
    sizes = np.maximum(found.norms, found.tops)[: len(queries)]  # 1 by construction, or 0 for an empty query
    assert np.isin(np.round(sizes, 9), (0, 1)).all()
    norms = np.linalg.norm(queries.dense.astype(np.float64), axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = np.where(found.norms[: len(queries)] == 1, norms, _tops(queries, vectors))
    unit[unit == 0] = 1
    whole = np.concatenate(scores)[: len(queries)].astype(np.float64)
    return whole * unit[:, None], found.slack(block.extent)[: len(queries)] * unit


def _tops(queries, vectors):
    norms, greatest = np.zeros(len(queries)), np.zeros(len(queries))
    if queries.lexical.shape[1]:
        loops.tops(queries.lexical, vectors.term_ids.shape[1], norms, greatest)
    return norms


@pytest.mark.parametrize("seed", range(25))
def test_the_bound_holds_and_is_not_idle(seed):
    """Each score of the kernel lies within its bound of the float64 one; somewhere it comes near it."""
    queries, vectors, _ = random_shape(seed)
    found, bound = scanned(kernels.scan, queries, vectors)
    true = np.stack([oracle(queries, number, vectors)[0] for number in range(len(queries))])
    assert (np.abs(found - true) <= bound[:, None]).all()


def test_the_bound_is_a_small_part_of_a_score():
    """At 384 + 384 with random values: under 1 % of the product of the norms, and over 1/50 of what occurs."""
    rng = np.random.default_rng(1)
    vectors, queries = random_vectors(rng, 200, 384, 384, 3000, low=0.1), random_queries(rng, 70, 384, 384, 3000)
    found, bound = scanned(kernels.scan, queries, vectors)
    true = np.stack([oracle(queries, number, vectors)[0] for number in range(len(queries))])
    apart = np.abs(found - true).max(axis=1)
    assert (apart <= bound).all()
    assert (apart > bound / 50).all()
    norms = np.linalg.norm(vectors.term_weights.astype(float), axis=1).max() * _tops(queries, vectors)
    assert (bound < 0.01 * norms).all()


@pytest.mark.parametrize("ids_type", [np.uint16, np.uint32])
@pytest.mark.parametrize("instructions", WIDTHS)
def test_every_instruction_set_gives_the_same(instructions, ids_type, monkeypatch):
    """By plain integer sums: rows times weights, before any rounding to float32 matters."""
    if instructions in kernels.PAIRS and WIDTHS.index(instructions) > WIDTHS.index(kernels.instructions):
        pytest.skip(f"this processor has no {instructions}")
    monkeypatch.setattr(kernels, "instructions", instructions)
    scan = njit(nogil=True)(kernels.scan.py_func)  # compiled anew, as the generator reads the name above
    rng = np.random.default_rng(4)
    rows = rng.integers(-32_767, 32_768, (50, LANES)).astype(np.int16)
    offsets = np.array([0, 6, 6, 10])
    ids, weights = rng.integers(0, 50, 10).astype(ids_type), rng.integers(-9, 10, 10).astype(np.int16)
    expected = np.stack(
        [weights[a:b].astype(np.int64) @ rows[ids[a:b]].astype(np.int64) for a, b in itertools.pairwise(offsets)]
    )
    dense = rng.integers(-5, 6, (3, LANES)).astype(np.float32)
    counts, scores, places = np.zeros(64, np.int64), np.zeros((64, 3), np.float32), np.zeros((64, 3), np.int64)
    ones, least = np.ones(64, np.float32), np.full(64, -np.inf, np.float32)
    least[:32] = 0
    inverses = np.array([1, 1, 0.5], np.float32)
    scan(rows, ids, weights, offsets, inverses, ones, dense.reshape(-1), least, 100, counts, scores, places)
    want = expected * inverses[:, None] + dense
    for lane in range(LANES):
        kept = np.flatnonzero(want[:, lane] >= least[lane])
        assert places[lane, : counts[lane]].tolist() == (100 + kept).tolist()
        np.testing.assert_allclose(scores[lane, : counts[lane]], want[kept, lane], rtol=1e-6)


@settings(max_examples=300, deadline=None)
@example([0.0, 1e-30], 1, 1.0)
@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=60),
    st.integers(1, 60),
    st.sampled_from([1.0, 1e-6, 1e6]),
)
def test_at_most_the_kth(values, k, scale):
    """At least k of the scores reach it, and it is short of the k-th by a bin at most; up to 1e-30 apart are alike."""
    scores = (np.array(values, np.float32) * np.float32(scale)).astype(np.float32)
    k = min(k, len(scores))
    found = loops._at_most_kth(scores, k, np.empty(1024, np.int32))
    kth = np.sort(scores)[::-1][k - 1]
    span = float(scores.max()) - float(scores.min())
    alike = span <= float(np.float32(1e-30))
    assert kth >= found >= kth - span * (1 if alike else 1 / 1023 + 3e-6)


def test_pruning_keeps_what_may_be_among_the_best():
    """By hand: k = 2, scores 5 4 3.5 1, bound 0.5: the second best is at least 3.5, so all from 3 up stay."""
    counts = np.full(LANES, 4)
    scores = np.tile(np.array([3.5, 5, 1, 4], np.float32), (LANES, 1))
    places = np.tile(np.arange(4), (LANES, 1))
    lower, reach = np.full(LANES, -np.inf), np.full(LANES, 0.5)
    loops.prune(counts, scores, places, lower, reach, 2, 3)
    assert (counts == 3).all()
    assert (places[:, :3] == [0, 1, 3]).all()
    assert ((lower <= 3.5) & (lower > 3.49)).all()


def test_a_weight_is_rounded_to_a_hundred_thousandth_of_the_greatest():
    """One document of weights 4 and 1: B = 46,000/√17 is above 32,767/4, so 4 becomes 32,767 and 1 a quarter of it."""
    vectors = HybridVectors(np.zeros((1, 0), np.float16), np.array([[7, 9]], np.uint16), np.array([[4, 1]], np.float16))
    block = quantised.block(0, vectors)
    assert block.weights.tolist() == [32_767, 8_192]
    assert block.inverses[0] == pytest.approx(4 / 32_767, rel=2e-6)
    assert block.extent.lexical == pytest.approx(17**0.5)
    assert block.extent.vocabulary == 10
    queries = HybridQueries(np.zeros((1, 0), np.float32), np.array([[0, 3, 4, 1]], np.float32))
    with ThreadPoolExecutor(1) as pool:
        found = quantised.queries(queries, 2, pool)
    assert 5 <= _tops(queries, vectors)[0] <= 5.02  # the two greatest: 3 and 4
    assert found.rows.shape == (1, 4, LANES)
    assert found.rows[0, :, 0].tolist() == [0, pytest.approx(24_575, abs=1), 32_767, pytest.approx(8_192, abs=1)]
    assert not found.rows[0, :, 1:].any()
