"""The loops of MaxSim on CPUs, compiled by numba. Arrays of float16 come as their bits (`kernels.half`).

Σ_i max_j q_i · d_j over the tokens i of a query and j of a document (Khattab and Zaharia 2020, equation 3).
"""

import numpy as np

from harness.retrievers.jit import njit
from harness.retrievers.search.kernels import half

# sums of products may be taken in any order, so that they are vectors' sums: one order, chosen when this is compiled
_ANY_ORDER = {"reassoc", "nsz", "contract"}
_AT_ONCE = 2_048  # documents


@njit(nogil=True)
def segments(products, documents, queries, scores):
    """Σ max of products [t,u] of t document tokens with u query tokens, by document and query: scores [n,Q].

    documents [n+1] and queries [Q+1] are offsets into t and u; float32.
    """
    best = np.empty(products.shape[1], np.float32)
    for n in range(len(documents) - 1):
        best[:] = products[documents[n]]
        for j in range(documents[n] + 1, documents[n + 1]):
            for i in range(len(best)):
                best[i] = max(best[i], products[j, i])
        for q in range(len(queries) - 1):
            total = np.float32(0)
            for i in range(queries[q], queries[q + 1]):
                total += best[i]
            scores[n, q] = total


@njit(nogil=True, fastmath=_ANY_ORDER)
def _product(query, document):
    total = 0.0
    for d in range(len(query)):
        total += query[d] * document[d]
    return total


@njit(nogil=True)
def _maxsim(query, document):
    """Of float64 vectors [L,D] and [t,D]; query tokens are added in their order."""
    total = 0.0
    for i in range(len(query)):
        best = -np.inf
        for j in range(len(document)):
            best = max(best, _product(query[i], document[j]))
        total += best
    return total


@njit(nogil=True)
def final(tokens, queries, bits, documents, rows, starts, at, longest, scores):
    """Fill `scores` of each query's ascending rows, which are rows[starts[q]:starts[q+1]]; `at` begins as starts[:-1].

    tokens [u,D] float64 by offsets queries [Q+1]; bits [t,D] by offsets documents [n+1]; `longest` document in tokens.
    Some thousand documents, then the next, all queries in turn, so that documents leave memory once.
    """
    document = np.empty((longest, tokens.shape[1]))
    for low in range(0, len(documents) - 1, _AT_ONCE):
        for q in range(len(at)):
            place = at[q]
            while place < starts[q + 1] and rows[place] < low + _AT_ONCE:
                first, end = documents[rows[place]], documents[rows[place] + 1]
                for j in range(first, end):
                    for d in range(tokens.shape[1]):
                        document[j - first, d] = half(bits[j, d])
                found = _maxsim(tokens[queries[q] : queries[q + 1]], document[: end - first])
                scores[place] = np.float32(found)
                place += 1
            at[q] = place
