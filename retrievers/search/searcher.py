"""Shards and queries → a run; and several such runs → one."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from harness.retrievers.encoding import store
from harness.retrievers.encoding.store import Shard
from harness.retrievers.encoding.vectors import HybridQueries
from harness.retrievers.search import exact
from harness.retrievers.search.final import Documents, Part, Q
from harness.retrievers.types import Meter, Run


class Searcher:
    """What is needed to search the given shards, possibly none, on `device`; making it may take long."""

    def __init__(self, shards: Sequence[Shard], device: torch.device, engine: str, threads: int) -> None:
        # rows of what is here, without gaps where the others' shards would be
        firsts = list(itertools.accumulate((len(shard.vectors) for shard in shards), initial=0))
        self._parts = [Part(first, shard.vectors) for first, shard in zip(firsts, shards, strict=False)]
        self._names = store.Ids(dict(zip(firsts, shards, strict=False)))
        self._path = exact.path_for(self._parts, device, threads, engine) if shards else None
        self._threads = threads

    def run(self, query_ids: Sequence[str], blocks: Iterable[HybridQueries], top_k: int, meter: Meter) -> Run:
        """The `top_k` documents of each query; the queries come in `blocks`, which are taken one at a time."""
        if self._path is None:
            return Run.from_blocks(query_ids, [])
        return ranked(query_ids, blocks, self._parts, self._path, self._names, top_k, self._threads, meter)


def ranked(
    query_ids: Sequence[str],
    blocks: Iterable[Q],
    parts: Sequence[Documents[Q]],
    path: exact.Path[Q],
    names: store.Ids,
    top_k: int,
    threads: int,
    meter: Meter,
) -> Run:
    """The `top_k` documents of each query; the queries come in `blocks`, which are taken one at a time."""
    rows, start = [], 0
    for vectors in blocks:
        found = exact.search(vectors, parts, top_k, path, names, threads)
        for number, (ids, scores) in enumerate(exact.named(found, names), start):
            rows.append((np.full(len(ids), number), ids, scores))
        start += len(vectors)
        meter.advance(len(vectors))
    return Run.from_blocks(query_ids, rows)


def merged(query_ids: Sequence[str], found: Sequence[tuple[Any, ...]], top_k: int) -> Run:
    """The best of several (offsets, doc_ids, scores), each of its own documents."""
    if len(found) == 1:
        return Run(tuple(query_ids), *found[0])
    blocks = [(np.repeat(np.arange(len(query_ids)), np.diff(offsets)), ids, scores) for offsets, ids, scores in found]
    return Run.from_blocks(query_ids, blocks).first(top_k)
