"""Exact top k: candidates by any way with a proven bound, then one final score.

A way (`Path`) may compute in any order and precision, block by block. It returns rows that are sure to hold the k best,
or says that its bound leaves too many open; then every document gets its final score. Results therefore depend neither
on the way, nor on blocks, shards, threads or the company of other queries.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch

from harness.retrievers.search.compiled import Compiled, workers
from harness.retrievers.search.device import TorchCandidates, Widened, faiss_candidates
from harness.retrievers.search.final import DocIds, Documents, Part, Q, Rows, Scores, best
from harness.retrievers.types import Strings

Path = Callable[[Q, int], list[Rows | None]]
Found = list[tuple[Rows, Scores]]
_QUERIES, _DOCUMENTS = 128, 16_384  # that are given their final scores at once
SMALL = 1_024  # documents


def engine_for(engine: str, device: torch.device, documents: int) -> str:
    """What `auto` stands for: `torch` on a GPU, and for so few documents that compiled loops would gain nothing."""
    if engine != "auto":
        return engine
    return "compiled" if device.type == "cpu" and documents > SMALL else "torch"


def path_for(parts: Sequence[Part], device: torch.device, threads: int, engine: str = "auto") -> Path:
    """The way to candidates: `compiled` (CPU), `torch` (any device), `faiss` (dense only), or `auto`."""
    engine = engine_for(engine, device, sum(len(part.vectors) for part in parts))
    if engine == "compiled":
        return Compiled(parts, threads)
    return Widened(
        parts, TorchCandidates(parts, device) if engine == "torch" else faiss_candidates(parts, threads, device)
    )


def search(queries: Q, parts: Sequence[Documents[Q]], k: int, path: Path[Q], doc_ids: DocIds, threads: int) -> Found:
    """Return, for each query, the rows and final scores of its k best documents in the order of the one tie rule.

    `doc_ids` gives the ids at ascending rows; it is asked where documents score alike. Fewer than k documents are all
    returned. Raises ValueError for k below 1, or a query of another width than the documents.
    """
    if k < 1:
        raise ValueError(f"k is {k}; it must be 1 or more")
    parts = [part for part in parts if part.end > part.first]
    if not parts or not len(queries):
        return [(np.empty(0, np.int64), np.empty(0, np.float32)) for _ in range(len(queries))]
    if (width := parts[0].width) != queries.width:
        raise ValueError(f"the documents have {width} dense values, the queries {queries.width}")
    k = min(k, sum(part.end - part.first for part in parts))
    chosen = path(queries, k)
    rows: list[Rows] = [np.empty(0, np.int64) if some is None else some for some in chosen]
    scores: list[Scores] = [np.empty(len(some), np.float32) for some in rows]
    spans = [slice(start, start + _QUERIES) for start in range(0, len(queries), _QUERIES)]
    with workers(threads) as pool:
        for part in parts:  # part by part, so that a store beyond memory is read once and in order
            jobs = [pool.submit(part.final, queries.take(span), rows[span], scores[span]) for span in spans]
            for job in jobs:
                job.result()
            part.forget()

        ranked = [pool.submit(best, rows[span], scores[span], k, doc_ids) for span in spans]
        found = list(itertools.chain.from_iterable(job.result() for job in ranked))
        hard = [number for number, some in enumerate(chosen) if some is None]
        throughout = pool.map(lambda n: _throughout(queries.take(slice(n, n + 1)), parts, k, doc_ids), hard)
        for number, answer in zip(hard, throughout, strict=True):
            found[number] = answer
    return found


def _throughout(query: Q, parts: Sequence[Documents[Q]], k: int, doc_ids: DocIds) -> tuple[Rows, Scores]:
    """The k best of all documents by their final scores."""
    rows, scores = np.empty(0, np.int64), np.empty(0, np.float32)
    for part in parts:
        for start in range(part.first, part.end, _DOCUMENTS):
            new = np.arange(start, min(start + _DOCUMENTS, part.end))
            scored = np.empty(len(new), np.float32)
            part.final(query, [new], [scored])
            [(rows, scores)] = best([np.concatenate((rows, new))], [np.concatenate((scores, scored))], k, doc_ids)
    return rows, scores


def named(found: Found, doc_ids: DocIds) -> list[tuple[Strings, Scores]]:
    """Ids for rows."""
    ids = []
    for rows, scores in found:
        order = np.argsort(rows)
        names = doc_ids(rows[order])
        ids.append((names[np.argsort(order)], scores))
    return ids
