"""Queries per second of exact search: hybrid against a dense index as wide as both halves, each half against its peer.

Both hold their documents in memory, prepared; what is timed is the search alone. Ours gives final scores in the one
order of ties, Faiss its float32 scores. Before anything is timed, some queries are compared with a float64 oracle.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from harness.bench import vectors as made
from harness.bench.options import ROUNDS, BenchOptions
from harness.bench.peers import peer
from harness.bench.timing import Say, compare
from harness.retrievers.encoding.vectors import HybridQueries, HybridVectors
from harness.retrievers.errors import InputError
from harness.retrievers.search import exact, quantised
from harness.retrievers.search.compiled import Compiled
from harness.retrievers.search.final import Part

DOCS, QUERIES, K = 100_000, 256, 1_000
WIDTH = 768
_CHECKED = 3  # queries that the oracle sees
Case = tuple[str, HybridVectors, HybridQueries, str]


def search(options: BenchOptions, say: Say) -> dict[str, Any]:
    """Compare on `docs` documents, `queries` queries, `k` results, `threads`.

    `hybrid/uniform`, `dense/normal` and `lexical/uniform` always; `hybrid/real` and `lexical/real` where `model` and
    `dataset` are given. Raises InputError where only one of them is, RuntimeError where a result is not the oracle's.
    """
    if (options.model is None) != (options.dataset is None):
        raise InputError("--model and --dataset belong together: the passages to encode, and what encodes them.")
    docs, k = options.docs or DOCS, min(options.k or K, options.docs or DOCS)
    faiss = peer("faiss", "faiss-cpu")
    faiss.omp_set_num_threads(options.cores)
    torch.set_num_threads(options.cores)
    rng = np.random.default_rng(2)
    index = faiss.IndexFlatIP(WIDTH)
    for start in range(0, docs, 65_536):
        index.add(rng.standard_normal((min(65_536, docs - start), WIDTH), np.float32))
    found: dict[str, Any] = {}
    for name, vectors, queries, against in _cases(options, docs, say):
        if found:
            say("")
        wide = rng.standard_normal((len(queries), WIDTH), np.float32)
        theirs = partial(index.search, wide, k) if against == "faiss" else _scipy(vectors, queries, k)
        found[name] = _entry(name, vectors, queries, k, theirs, against, options, say)
    return found


def _cases(options: BenchOptions, docs: int, say: Say) -> Iterator[Case]:
    count = options.queries or QUERIES
    if options.model is not None and options.dataset is not None:
        say(f"{docs:,} passages of {options.dataset}: encoded now, unless they are in the cache")
        vectors, queries = made.real(options.model, options.dataset, docs, count, options.cores)
        yield "hybrid/real", vectors, queries, "faiss"
        yield "lexical/real", *_lexical(vectors, queries), "scipy"
        del vectors, queries
    half = WIDTH // 2
    vectors, queries = made.uniform(docs, half, half), made.full_queries(count, half, half)
    yield "hybrid/uniform", vectors, queries, "faiss"
    yield "lexical/uniform", *_lexical(vectors, queries), "scipy"
    del vectors, queries
    yield "dense/normal", made.uniform(docs, WIDTH, 0), made.full_queries(count, WIDTH, 0), "faiss"


def _lexical(vectors: HybridVectors, queries: HybridQueries) -> tuple[HybridVectors, HybridQueries]:
    return (
        HybridVectors(vectors.dense[:, :0], vectors.term_ids, vectors.term_weights),
        HybridQueries(queries.dense[:, :0], queries.lexical),
    )


def _entry(
    name: str, vectors: HybridVectors, queries: HybridQueries, k: int, theirs: Callable[[], Any], against: str,
    options: BenchOptions, say: Say,
) -> dict[str, Any]:  # fmt: skip
    parts, threads = [Part(0, vectors)], options.cores
    names = np.char.zfill(np.arange(len(vectors)).astype("S8"), 8)
    path = Compiled(parts, threads)
    began = time.perf_counter()
    candidates = path(queries, k)  # rounds the documents and keeps them, as the peer's index is made before
    prepared = time.perf_counter() - began

    def ours() -> exact.Found:
        return exact.search(queries, parts, k, path, lambda rows: names[rows], threads)

    _check(name, ours(), vectors, queries, k)
    theirs()
    label = f"faiss-flat-{WIDTH}" if against == "faiss" else "scipy-csr"
    dense, lexical = vectors.dense.shape[1], vectors.term_ids.shape[1]
    halves = f"{dense} + {lexical}, V {queries.lexical.shape[1]:,}"
    say(f"search/{name}: {len(vectors):,} documents of {halves}; {len(queries):,} queries, k {k:,}, threads {threads}")
    amounts = len(queries), len(queries)
    compared = compare(ours, theirs, label, amounts, "queries", options.rounds or ROUNDS, say)
    left = [len(rows) for rows in candidates if rows is not None]
    more: dict[str, Any] = {
        "threads": threads, "docs": len(vectors), "queries": len(queries), "k": k, "dense": dense, "lexical": lexical,
        "vocabulary": queries.lexical.shape[1], "dense_type": str(quantised.dense_type()),
        "seconds_to_prepare": prepared, "candidates": float(np.mean(left)) if left else 0.0,
        "scored_throughout": len(candidates) - len(left),
    }  # fmt: skip
    say(f"{more['candidates']:,.0f} candidates a query, {more['scored_throughout']} queries scored throughout")
    if lexical:
        more["postings"] = made.concentration(vectors.term_ids)
        say("postings: " + ", ".join(f"{label} {value:,}" for label, value in more["postings"].items()))
    return compared.entry(**more)


def _check(name: str, found: exact.Found, vectors: HybridVectors, queries: HybridQueries, k: int) -> None:
    """Against a float64 oracle: scores to 1e-6 of the sum of absolute terms, and no better document left out."""
    for number in range(0, len(queries), max(1, len(queries) // _CHECKED)):
        rows, scores = found[number]
        true, absolute = np.zeros(len(vectors)), np.zeros(len(vectors))
        for start in range(0, len(vectors), 8_192):
            part = vectors.take(slice(start, start + 8_192))
            terms = [part.dense.astype(np.float64) * queries.dense[number].astype(np.float64)]
            if part.term_ids.shape[1]:
                weights = queries.lexical[number].astype(np.float64)[part.term_ids]
                terms.append(part.term_weights.astype(np.float64) * weights)
            true[start : start + 8_192] = sum(term.sum(axis=1) for term in terms)
            absolute[start : start + 8_192] = sum(np.abs(term).sum(axis=1) for term in terms)
        near = 1e-6 * absolute.max()
        wrong = np.abs(scores - true[rows]) > 1e-6 * absolute[rows]
        best = np.sort(true)[::-1][:k]
        if wrong.any() or len(rows) != k or (best - np.sort(true[rows])[::-1] > near).any():
            raise RuntimeError(f"search/{name}: query {number} is not the float64 oracle's; please report it")


def _scipy(vectors: HybridVectors, queries: HybridQueries, k: int) -> Callable[[], Any]:
    """A sparse product, and the k best of each row: what the lexical half costs with scipy."""
    sparse = peer("scipy.sparse", "scipy")
    n, kept = vectors.term_ids.shape
    arrays = vectors.term_weights.reshape(-1).astype(np.float32), vectors.term_ids.reshape(-1).astype(np.int32)
    documents = sparse.csr_array((*arrays, np.arange(n + 1) * kept), shape=(n, queries.lexical.shape[1]))
    columns = np.ascontiguousarray(queries.lexical.T)

    def run() -> Any:
        scores = (documents @ columns).T  # [Q,N]
        return np.argpartition(scores, n - k, axis=1)[:, n - k :] if k < n else scores

    return run
