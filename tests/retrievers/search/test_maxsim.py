"""MaxSim: every way to the k best gives what the formula gives, written out in float64."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.retrievers.encoding.token_vectors import TokenQueries, TokenVectors
from harness.retrievers.search import exact, maxsim
from harness.retrievers.search.maxsim import Given, MaxSim, TokenPart

CPU = torch.device("cpu")


def ragged(draw, lengths, width, scale=1.0, grid=None):
    """Vectors of norm `scale`, or of whole multiples of 1/grid: then there are ties."""
    tokens = draw.standard_normal((sum(lengths), width))
    tokens = np.round(tokens * grid) / grid if grid else scale * tokens / np.linalg.norm(tokens, axis=1, keepdims=True)
    return tokens, np.concatenate(([0], np.cumsum(lengths)))


def made(seed, docs, queries, width=16, **how):
    draw = np.random.default_rng(seed)
    tokens, offsets = ragged(draw, docs, width, **how)
    vectors = TokenVectors(tokens.astype(np.float16), offsets.astype(np.uint64))
    tokens, offsets = ragged(draw, queries, width, **how)
    return vectors, TokenQueries(tokens.astype(np.float32), offsets.astype(np.int64))


def rows_of(found):
    offsets = found.token_offsets.astype(int)
    return [found.tokens[low:high].astype(float) for low, high in itertools.pairwise(offsets)]


def brute(queries, vectors):
    """Σ_i max_j q_i · d_j in float64, [Q,N]."""
    return np.array([[(q @ d.T).max(axis=1).sum() for d in rows_of(vectors)] for q in rows_of(queries)])


def ids(rows):
    """Ids whose order is not that of the rows."""
    return np.array([f"d{(7 * row) % 3001:04}".encode() for row in rows])


def split(vectors, at):
    bounds = [0, *at, len(vectors)]
    starts = vectors.token_offsets
    parts = []
    for low, high in itertools.pairwise(bounds):
        tokens = vectors.tokens[int(starts[low]) : int(starts[high])]
        parts.append(TokenPart(low, TokenVectors(tokens, starts[low : high + 1] - starts[low])))
    return parts


def search(queries, parts, k, path=None, threads=1):
    return exact.search(queries, parts, k, path or MaxSim(parts, CPU, threads), ids, threads)


def expected(queries, vectors, k, allowed=None):
    """By (float32 score, id), both descending."""
    answer = []
    for n, scores in enumerate(brute(queries, vectors).astype(np.float32)):
        rows = np.arange(len(scores)) if allowed is None else allowed[n]
        order = rows[np.lexsort((ids(rows), scores[rows]))[::-1]]
        answer.append((order[:k], scores[order[:k]]))
    return answer


def assert_same(found, wanted):
    for (rows, scores), (other, theirs) in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(rows, other)
        np.testing.assert_array_equal(scores, theirs)


def test_by_hand():
    """Query tokens (1,0) and (0,1). Document 0 has (1,0) and (0,.5): 1 + .5. Document 1 has (.5,.5) alone: .5 + .5."""
    documents = TokenVectors(np.array([[1, 0], [0, 0.5], [0.5, 0.5]], np.float16), np.array([0, 2, 3], np.uint64))
    queries = TokenQueries(np.eye(2, dtype=np.float32), np.array([0, 2]))
    assert_same(search(queries, [TokenPart(0, documents)], 5), [([0, 1], [1.5, 1.0])])


def test_a_maximum_may_be_negative():
    documents = TokenVectors(np.array([[-1, 0], [-0.5, 0]], np.float16), np.array([0, 2], np.uint64))
    queries = TokenQueries(np.array([[1, 0]], np.float32), np.array([0, 1]))
    assert_same(search(queries, [TokenPart(0, documents)], 1), [([0], [-0.5])])


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 9999),
    docs=st.lists(st.integers(1, 9), min_size=1, max_size=40),
    queries=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    k=st.integers(1, 45),
    grid=st.sampled_from([None, 2]),
    tokens=st.integers(1, 60),
    threads=st.integers(1, 2),
    compiled=st.booleans(),
    data=st.data(),
)
def test_any_way_equals_brute_force(seed, docs, queries, k, grid, tokens, threads, compiled, data):
    """Whatever blocks, shards, threads and loops, also where documents tie: to the bit."""
    vectors, asked = made(seed, docs, queries, width=4, grid=grid)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(docs) - 1), max_size=3))) if len(docs) > 1 else []
    parts = split(vectors, cuts)
    path = MaxSim(parts, CPU, threads, tokens=tokens, compiled=compiled)
    assert_same(search(asked, parts, k, path, threads), expected(asked, vectors, k))


def test_more_documents_than_candidates():
    """2,000 documents, of which candidates leave most out; k = 10 of unit vectors, as ColBERT's are."""
    draw = np.random.default_rng(5)
    vectors, asked = made(6, draw.integers(1, 12, 2_000).tolist(), [8] * 3, width=32)
    wanted = expected(asked, vectors, 10)
    for compiled in (True, False):
        parts = split(vectors, [700, 1_500])
        path = MaxSim(parts, CPU, 2, compiled=compiled)
        chosen = path(asked, 10)
        assert all(10 <= len(rows) < 100 for rows in chosen)
        assert_same(search(asked, parts, 10, path), wanted)


def test_where_all_documents_score_alike_the_ids_decide():
    """The bound leaves all open."""
    tokens = np.tile(np.array([[1, 0]], np.float16), (300, 1))
    vectors = TokenVectors(tokens, np.arange(301, dtype=np.uint64))
    asked = TokenQueries(np.array([[0.3, 0.7]], np.float32), np.array([0, 1]))
    [(rows, scores)] = search(asked, [TokenPart(0, vectors)], 3)
    assert ids(rows).tolist() == sorted(ids(np.arange(300)).tolist())[:-4:-1]
    assert set(scores.tolist()) == {np.float32(0.3)}


@pytest.mark.parametrize("scale", [1.0, 100.0, 1e-2])
def test_the_bound_holds(scale):
    """The float32 score of every pair lies within the slack of the final one, and the slack is small."""
    vectors, asked = made(3, [7] * 200, [32] * 5, width=128, scale=scale)
    path = MaxSim(split(vectors, []), CPU, 1)
    scores, rows = path._candidates(asked, 200)
    wanted = np.take_along_axis(brute(asked, vectors), rows, 1)
    slack = maxsim.slack(asked, path.longest)
    assert (np.abs(scores - wanted) <= slack[:, None]).all()
    assert (slack < 1e-4 * scale**2 * 32).all()


def test_given_candidates_are_ranked_alone():
    vectors, asked = made(4, [5] * 50, [4] * 3)
    allowed = [np.array([3, 9, 20, 41]), np.empty(0, np.int64), np.array([0, 49])]
    found = search(asked, split(vectors, [10, 30]), 3, Given(allowed))
    assert_same(found, expected(asked, vectors, 3, allowed))


def test_a_query_alone_and_in_company():
    vectors, asked = made(8, [6] * 90, [3, 5, 1, 9])
    parts = split(vectors, [40])
    for number, answer in enumerate(search(asked, parts, 7)):
        assert_same(search(asked.take(slice(number, number + 1)), parts, 7), [answer])
    shuffled = search(asked.take(np.array([2, 0])), parts, 7)
    assert_same(shuffled, [search(asked, parts, 7)[n] for n in (2, 0)])


def test_what_does_not_fit():
    tokens = np.zeros((3, 2), np.float16)
    for offsets in ([0, 2], [1, 3], [0, 3, 3], []):
        with pytest.raises(ValueError, match="offsets"):
            TokenVectors(tokens, np.array(offsets, np.uint64))
    with pytest.raises(ValueError, match="float16"):
        TokenVectors(tokens.astype(np.float32), np.array([0, 3], np.uint64))
    with pytest.raises(ValueError, match="float32"):
        TokenQueries(tokens, np.array([0, 3]))
    vectors, _ = made(1, [2], [2], width=4)
    _, asked = made(1, [2], [2], width=8)
    with pytest.raises(ValueError, match="the documents have 4 dense values, the queries 8"):
        search(asked, split(vectors, []), 1)
    wrong = TokenVectors(np.array([[0], [0], [np.inf]], np.float16), np.array([0, 1, 3], np.uint64))
    assert wrong.broken() == (1, "tokens")
