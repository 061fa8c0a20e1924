"""Hard negatives from any retriever: what it ranks high and is not known to answer (paper, section 3.2, step 2)."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from harness.models.training.tokens import Ragged
from harness.retrievers.errors import InputError
from harness.retrievers.registry import Retriever
from harness.retrievers.types import Corpus, Job, Query, Run, Strings


class Rows:
    """Finds the row of a document in its corpus by its id, for millions of them at once."""

    def __init__(self, doc_ids: Iterable[str]) -> None:
        ids = np.array([doc_id.encode() for doc_id in doc_ids], dtype=np.bytes_)
        self._order = ids.argsort(kind="stable")
        self._sorted = ids[self._order]

    def of(self, doc_ids: Strings) -> npt.NDArray[np.int64]:
        """The row of each document, -1 for one that is not there."""
        if not len(self._sorted):
            return np.full(len(doc_ids), -1, dtype=np.int64)
        place = np.searchsorted(self._sorted, doc_ids).clip(max=len(self._sorted) - 1)
        return np.where(self._sorted[place] == doc_ids, self._order[place], -1)


def mine(
    retriever: Retriever, corpus: Corpus, queries: Sequence[Query], positives: Ragged, rows: Rows, depth: int, job: Job
) -> Ragged:
    """The `depth` best documents of each query that are not among its `positives`, as rows of the corpus, best first.

    A query may have fewer where the collection has. Training samples from these, so that a false negative at the very
    top is seen now and then only. Where several processes search together, rank 0's answer counts.

    Raises InputError where the search returned other queries.
    """
    most = int(positives.lengths.max(initial=0))
    return negatives(searched(retriever, corpus, queries, depth + most, job), positives, rows, depth, corpus.count)


def searched(retriever: Retriever, corpus: Corpus, queries: Sequence[Query], depth: int, job: Job) -> Run:
    """The `depth` best documents of each query, or all there are. Raises InputError where other queries come back."""
    run = retriever.search(corpus, queries, min(depth, corpus.count), job)
    if run.query_ids != tuple(query.query_id for query in queries):
        raise InputError(f"{type(retriever).__qualname__} returned other queries than it was given.")
    return run


def filled(mined: Ragged, positives: Ragged, least: int, documents: int, seed: int) -> Ragged:
    """`mined`, and where a query has fewer than `least`, documents drawn at random that do not answer it.

    Stays as it is where the collection has no more. A pure function of its arguments.
    """
    rows = []
    for number in range(len(mined)):
        row = mined[number]
        if len(row) < least:
            draw = np.random.default_rng([seed, number])
            taken = {*row.tolist(), *positives[number].tolist()}
            wanted = min(least - len(row), documents - len(taken))
            found: list[int] = []
            while len(found) < wanted:
                candidate = int(draw.integers(documents))
                if candidate not in taken:
                    taken.add(candidate)
                    found.append(candidate)
            row = np.concatenate((row, np.array(found, dtype=np.int64)))
        rows.append(row)
    return Ragged.of(rows)


def negatives(run: Run, positives: Ragged, rows: Rows, depth: int, documents: int) -> Ragged:
    """The first `depth` rows of each query of a run, positives removed."""
    owners = np.repeat(np.arange(len(run)), np.diff(run.offsets))
    found = rows.of(run.doc_ids)
    known = np.repeat(np.arange(len(positives)), positives.lengths) * documents + positives.flat
    keep = (found >= 0) & ~np.isin(owners * documents + found, known)
    owners, found = owners[keep], found[keep]
    counts = np.bincount(owners, minlength=len(run))
    rank = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    offsets = np.concatenate(([0], np.minimum(counts, depth).cumsum())).astype(np.int64)
    return Ragged(found[rank < depth], offsets)
