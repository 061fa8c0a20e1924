"""BM25 by pyserini (Anserini, Lucene): index a corpus once, search it many times."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from harness.retrievers.errors import InputError
from harness.retrievers.lexical import java, lucene
from harness.retrievers.registry import About, Identity, Options, PaperRow, Retriever, register
from harness.retrievers.types import Corpus, Job, Query, Run

_QUERIES_PER_CALL = 64


class BM25Options(Options):
    """k1 and b of BM25, and how a document is indexed."""

    k1: float = Field(0.9, ge=0, le=1000, allow_inf_nan=False, strict=True, description="term-frequency saturation")
    b: float = Field(0.4, ge=0, le=1, strict=True, description="length normalisation")
    fields: Literal["flat", "multifield"] = Field(
        "flat", description="flat: title and text as one field; multifield: two fields whose scores add up"
    )


@register("bm25")
class BM25(Retriever):
    """BM25 with Anserini's defaults for BEIR: k1 = 0.9, b = 0.4, Porter stemmer, Lucene's stop words.

    `fields="multifield"` with these values is the system of the paper's Table 2. Scores are Anserini's, which rounds
    them to four decimals and breaks ties among them itself, by ascending document id in steps of 1e-6.
    """

    Options = BM25Options
    summary = "BM25 by pyserini (Anserini/Lucene); --fields flat|multifield, --k1, --b"
    packages = ("pyserini",)
    told = frozenset({"fields"})
    options: BM25Options

    @classmethod
    def about(cls) -> About:
        """Its scores on two collections are those that Anserini publishes."""
        rows = (PaperRow(table=2, row="BM25"),)
        return About("BM25", rows, "lexical", "inverted index", verified="against published scores")

    def identity(self) -> Identity:
        """BM25 fills Table 2's row only as the paper ran it: multifield, default parameters."""
        published = self.options == BM25Options(fields="multifield")
        return Identity(
            system="BM25",
            variant=self.options.fields,
            paper_rows=(PaperRow(table=2, row="BM25"),) if published else (),
        )

    def search(self, corpus: Corpus, queries: Sequence[Query], top_k: int, job: Job) -> Run:
        """Return the top `top_k` documents of each query.

        Raises InputError where Java or pyserini is missing, or a disk is full.
        """
        index = lucene.ensure_index(corpus, self.options.fields, job)
        pyclass = java.start()
        java.check_name(index)
        # A clause a query term; Lucene's default of 1,024 would drop the result of a longer query without a word.
        pyclass.autoclass("org.apache.lucene.search.IndexSearcher").setMaxClauseCount(1 << 20)
        searcher = pyclass.autoclass("io.anserini.search.SimpleSearcher")(str(index))
        searcher.set_bm25(self.options.k1, self.options.b)
        # (query number, document id, score) of each block: arrays, not objects
        blocks: list[tuple[np.ndarray, ...]] = []
        try:
            with job.phase("search", len(queries), "queries") as meter:
                for start in range(0, len(queries), _QUERIES_PER_CALL):
                    block = queries[start : start + _QUERIES_PER_CALL]
                    found = self._search_block(searcher, pyclass, block, top_k, job.threads)
                    rows = [(start + n, hit.docid.encode(), hit.score) for n, hits in enumerate(found) for hit in hits]
                    if rows:
                        numbers, ids, scores = zip(*rows, strict=True)
                        blocks.append((np.array(numbers), np.array(ids, dtype=np.bytes_), np.array(scores, np.float32)))
                    meter.advance(len(block))
        finally:
            searcher.close()
        return Run.from_blocks([query.query_id for query in queries], blocks)

    def _search_block(
        self, searcher: Any, pyclass: Any, block: Sequence[Query], top_k: int, threads: int
    ) -> Iterator[Any]:
        texts, numbers = pyclass.JArrayList(), pyclass.JArrayList()
        for number, query in enumerate(block):
            texts.add(query.text)
            numbers.add(str(number))
        if self.options.fields == "multifield":
            weights = pyclass.JHashMap()
            for field in ("contents", "title"):
                weights.put(field, pyclass.JFloat(1.0))
            found = searcher.batch_search_fields(texts, numbers, top_k, threads, weights)
        else:
            found = searcher.batch_search(texts, numbers, top_k, threads)
        for number, query in enumerate(block):
            hits = found.get(str(number))
            if hits is None:  # Anserini logs what happened in its thread and goes on
                raise InputError(f"Anserini gave no result for query {query.query_id!r}: {query.text[:80]!r}…")
            yield hits
