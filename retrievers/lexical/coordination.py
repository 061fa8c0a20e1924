"""Coordination level matching: how many of a query's words a document has. The floor under BM25."""

import re
from collections.abc import Sequence

import numpy as np

from harness.retrievers.registry import Identity, Options, Retriever, register
from harness.retrievers.types import Corpus, Job, Query, Run

_WORD = re.compile(r"\w+")
_ROWS = 1 << 20  # kept before what can no longer be among the first is dropped


@register("coordination")
class Coordination(Retriever):
    """The number of distinct words that query and document share (the "coordination level" of Cleverdon's Cranfield).

    Words are runs of letters and figures, in lower case; there is no stemming, no stop word and no weight. Scores are
    small whole numbers, the same on every machine, and most results tie, so it is also what shows a change of the tie
    rule: BM25 by Anserini leaves no ties. One pass over the corpus, in memory that does not grow with it.
    """

    Options = Options
    summary = "how many of the query's words a document has: the floor, without Java or weights"

    def identity(self) -> Identity:
        """No row of the paper."""
        return Identity(system="coordination level")

    def search(self, corpus: Corpus, queries: Sequence[Query], top_k: int, job: Job) -> Run:
        """Return the top `top_k` documents of each query, of those that share a word with it."""
        query_ids = [query.query_id for query in queries]
        wanted: dict[str, list[int]] = {}
        for number, query in enumerate(queries):
            for word in set(_WORD.findall(query.text.lower())):
                wanted.setdefault(word, []).append(number)
        best = Run.from_blocks(query_ids, [])
        rows: list[tuple[int, bytes, int]] = []
        with job.phase("search", corpus.count, "documents") as meter:
            for doc in corpus.documents():
                shared: dict[int, int] = {}
                for word in set(_WORD.findall(doc.joined.lower())) & wanted.keys():
                    for number in wanted[word]:
                        shared[number] = shared.get(number, 0) + 1
                doc_id = doc.doc_id.encode()
                rows += [(number, doc_id, count) for number, count in shared.items()]
                if len(rows) > _ROWS:
                    best, rows = _best(best, rows, top_k), []
                meter.advance()
        return _best(best, rows, top_k)


def _best(best: Run, rows: list[tuple[int, bytes, int]], top_k: int) -> Run:
    """The first `top_k` of each query, of a run and further rows (query number, document id, score)."""
    blocks = [(np.repeat(np.arange(len(best)), np.diff(best.offsets)), best.doc_ids, best.scores)]
    if rows:
        numbers, ids, counts = zip(*rows, strict=True)
        blocks.append((np.array(numbers), np.array(ids, dtype=np.bytes_), np.array(counts, np.float32)))
    return Run.from_blocks(best.query_ids, blocks).first(top_k)
