"""A hybrid taken apart: the halves of one store searched alone and together, and with fewer terms than it holds."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from harness.retrievers.encoding.store import Shard
from harness.retrievers.encoding.vectors import HybridQueries, HybridVectors
from harness.retrievers.neural.retriever import QUERIES_AT_ONCE, Neural
from harness.retrievers.neural.views import View, check
from harness.retrievers.search.searcher import Searcher, merged
from harness.retrievers.torch_threads import torch_threads
from harness.retrievers.types import Corpus, Job, Query, Run

# whole shards of so many documents are held narrowed at once: K' pairs of a million take 4 MB times K'
_DOCUMENTS_AT_ONCE = 1 << 20


def narrowed(vectors: HybridVectors, view: View) -> HybridVectors:
    """What `view` leaves of the vectors: [N,D] or [N,0], and [N,K'] of [N,K].

    A document keeps its K' largest weights by value. The encoder keeps the K largest of all V in the same way (equation
    11), so these are the pairs that it would have kept for K', but for one thing: it compares 32 bits, and 16 are
    stored. Where weights are equal in these, the lower term ids stay. A shard without a document of K'
    pairs stays whole.
    """
    stored = vectors.term_ids.shape[1]
    dense = vectors.dense if view.dense else vectors.dense[:, :0]
    ids, weights = vectors.term_ids[:, : view.terms], vectors.term_weights[:, : view.terms]
    if 0 < view.terms < stored:
        values = np.asarray(vectors.term_weights)  # [N,K]
        order = np.argsort(-values, axis=1, kind="stable")
        kept = np.sort(order[:, : view.terms], axis=1)  # [N,K'] columns, so that term ids still ascend
        ids = np.take_along_axis(np.asarray(vectors.term_ids), kept, 1)
        weights = np.take_along_axis(values, kept, 1)
    return HybridVectors(dense, ids, weights)


def search(
    retriever: Neural, corpus: Corpus, queries: Sequence[Query], views: Sequence[View], top_k: int, job: Job
) -> dict[View, Run]:
    """Search one store in several ways: the `top_k` documents of each query for each of `views`, exactly.

    A passage is encoded only where the store that `harness run` keeps does not hold it yet, and each query once. All
    encoded queries are held in memory, 4 bytes times V each. Raises InputError for a checkpoint that lacks a half, or
    a view of more terms than its K.
    """
    with torch_threads(job.threads):
        return _search(retriever, corpus, queries, views, top_k, job)


def _search(
    retriever: Neural, corpus: Corpus, queries: Sequence[Query], views: Sequence[View], top_k: int, job: Job
) -> dict[View, Run]:
    check(retriever.encoder.loaded.spec, [view.terms for view in views], retriever.folder)
    shards = retriever.shards(corpus, job)
    encode = retriever.asking(shards, corpus.count, job)
    groups = _groups(shards)
    query_ids = [query.query_id for query in queries]
    found = {view: Run.from_blocks(query_ids, []) for view in views}
    with job.phase("search", len(queries) * len(found) * len(groups), "queries") as meter:
        starts = range(0, len(queries), QUERIES_AT_ONCE)
        blocks = [encode(queries[start : start + QUERIES_AT_ONCE]) for start in starts]
        for group in groups:
            for view, before in found.items():
                part = [dataclasses.replace(shard, vectors=narrowed(shard.vectors, view)) for shard in group]
                asked = [_asked(block, view) for block in blocks]
                searcher = Searcher(part, retriever.device, retriever.options.engine, job.threads)
                runs = before, searcher.run(query_ids, asked, top_k, meter)
                both = [(run.offsets, run.doc_ids, run.scores) for run in runs]
                found[view] = merged(query_ids, both, top_k)
    return found


def _asked(queries: HybridQueries, view: View) -> HybridQueries:
    """The halves of the queries that the view's documents have."""
    dense = queries.dense if view.dense else queries.dense[:, :0]
    return HybridQueries(dense, queries.lexical if view.terms else queries.lexical[:, :0])


def _groups(shards: Sequence[Shard]) -> list[list[Shard]]:
    """Consecutive shards, so many together that their documents are at most `_DOCUMENTS_AT_ONCE`, and one at least."""
    groups: list[list[Shard]] = []
    room = 0
    for shard in shards:
        if len(shard.vectors) > room:
            groups.append([])
            room = _DOCUMENTS_AT_ONCE
        groups[-1].append(shard)
        room -= len(shard.vectors)
    return groups
