"""Shards and queries → a run; and several such runs → one."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from harness.retrievers.encoding import store
from harness.retrievers.encoding.store import Shard
from harness.retrievers.encoding.vectors import HybridQueries
from harness.retrievers.encoding.windows import Grouping, document_of
from harness.retrievers.search import exact
from harness.retrievers.search.final import Documents, Part, Q, Scores
from harness.retrievers.types import Meter, Run, Strings


class Searcher:
    """What is needed to search the given shards, possibly none, on `device`; making it may take long."""

    def __init__(self, shards: Sequence[Shard], device: torch.device, engine: str, threads: int) -> None:
        # rows of what is here, without gaps where the others' shards would be
        firsts = list(itertools.accumulate((len(shard.vectors) for shard in shards), initial=0))
        self._parts = [Part(first, shard.vectors) for first, shard in zip(firsts, shards, strict=False)]
        self._names = store.Ids(dict(zip(firsts, shards, strict=False)))
        self._path = exact.path_for(self._parts, device, threads, engine) if shards else None
        self._threads = threads

    def run(
        self,
        query_ids: Sequence[str],
        blocks: Iterable[HybridQueries],
        top_k: int,
        meter: Meter,
        grouping: Grouping | None = None,
    ) -> Run:
        """The `top_k` documents of each query; the queries come in `blocks`, which are taken one at a time."""
        if self._path is None:
            return Run.from_blocks(query_ids, [])
        return ranked(query_ids, blocks, self._parts, self._path, self._names, top_k, self._threads, meter, grouping)


def ranked(
    query_ids: Sequence[str],
    blocks: Iterable[Q],
    parts: Sequence[Documents[Q]],
    path: exact.Path[Q],
    names: store.Ids,
    top_k: int,
    threads: int,
    meter: Meter,
    grouping: Grouping | None = None,
) -> Run:
    """The `top_k` documents of each query; the queries come in `blocks`, which are taken one at a time.

    With a `grouping` the rows of `parts` are windows of documents.
    """
    rows, start = [], 0
    for vectors in blocks:
        if grouping is None:
            found = exact.named(exact.search(vectors, parts, top_k, path, names, threads), names)
        else:
            found = by_documents(vectors, parts, top_k, path, names, threads, grouping)
        for number, (ids, scores) in enumerate(found, start):
            rows.append((np.full(len(ids), number), ids, scores))
        start += len(vectors)
        meter.advance(len(vectors))
    return Run.from_blocks(query_ids, rows)


def by_documents(
    vectors: Q,
    parts: Sequence[Documents[Q]],
    top_k: int,
    path: exact.Path[Q],
    names: store.Ids,
    threads: int,
    grouping: Grouping,
) -> list[tuple[Strings, Scores]]:
    """Ids and scores of the `top_k` documents of each query, whose windows are the rows of `parts`.

    As many windows are found as it takes for `top_k` documents to have one among them; of these all windows are scored.
    So the best by their best window are exact; by a sum or a mean they are the best of these documents.
    """
    windows, documents = int(grouping.starts[-1]), len(grouping.starts) - 1
    wanted = min(top_k, documents)
    depth = min(windows, 2 * max(1, -(-windows // documents)) * wanted)
    while True:
        found = exact.search(vectors, parts, depth, path, names, threads)
        chosen = [grouping.distinct(rows) for rows, _ in found]
        if depth == windows or all(len(some) >= wanted for some in chosen):
            break
        depth = min(windows, 2 * depth)
    answers = []
    for number, some in enumerate(chosen):
        own = np.sort(some)
        rows = grouping.rows_of(own)
        scores = np.empty(len(rows), np.float32)
        for part in parts:
            part.final(vectors.take(slice(number, number + 1)), [rows], [scores])
        of_documents = grouping.scores(own, scores)
        ids = np.array([document_of(one) for one in names(grouping.starts[own]).tolist()], dtype=np.bytes_)
        order = np.lexsort((ids, of_documents))[::-1][:top_k]
        answers.append((ids[order], of_documents[order]))
    return answers


def merged(query_ids: Sequence[str], found: Sequence[tuple[Any, ...]], top_k: int) -> Run:
    """The best of several (offsets, doc_ids, scores), each of its own documents."""
    if len(found) == 1:
        return Run(tuple(query_ids), *found[0])
    blocks = [(np.repeat(np.arange(len(query_ids)), np.diff(offsets)), ids, scores) for offsets, ids, scores in found]
    return Run.from_blocks(query_ids, blocks).first(top_k)
