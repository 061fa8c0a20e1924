"""BM25 by pyserini (Anserini, Lucene): index a corpus once, search it many times."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from harness.retrievers.errors import InputError
from harness.retrievers.lexical import java, lucene
from harness.retrievers.lexical.analyzers import DEFAULT_STOPWORDS, LANGUAGES, Analyzer, Stemmer, other_script
from harness.retrievers.registry import About, Identity, Options, PaperRow, Retriever, register
from harness.retrievers.types import Corpus, Job, Query, Run

_QUERIES_PER_CALL = 64


class BM25Options(Options):
    """k1 and b of BM25, how a document is indexed and analyzed, and feedback by RM3."""

    k1: float = Field(0.9, ge=0, le=1000, allow_inf_nan=False, strict=True, description="term-frequency saturation")
    b: float = Field(0.4, ge=0, le=1, strict=True, description="length normalisation")
    fields: Literal["flat", "multifield"] = Field(
        "flat", description="flat: title and text as one field; multifield: two fields whose scores add up"
    )
    language: str = Field("en", description=f"of the analyzer: {', '.join(sorted(LANGUAGES))}")
    stemmer: Stemmer = Field("porter", description="of English; other languages have one of their own")
    stopwords: str = Field(DEFAULT_STOPWORDS, description="of English: default, none, or a file with a word a line")
    rm3: bool = Field(False, strict=True, description="expand each query with terms of its first results (RM3)")
    fb_terms: int = Field(10, ge=1, le=1000, strict=True, description="rm3: terms of the expansion")
    fb_docs: int = Field(10, ge=1, le=1000, strict=True, description="rm3: first results that it reads")
    original_query_weight: float = Field(
        0.5, ge=0, le=1, allow_inf_nan=False, strict=True, description="rm3: weight of the query as it was asked"
    )

    @model_validator(mode="after")
    def _analyzed(self) -> Self:
        if self.language not in LANGUAGES:
            raise ValueError(f"language is {self.language!r}; Anserini has {', '.join(sorted(LANGUAGES))}")
        english = sorted(self.model_fields_set & {"stemmer", "stopwords"})
        if self.language != "en" and english:
            raise ValueError(
                f"{', '.join(english)}: of English alone; the analyzer of {self.language} has its own. Leave it out"
            )
        return self

    @model_validator(mode="after")
    def _feedback_of_one_field(self) -> Self:
        feedback = sorted(self.model_fields_set & {"fb_terms", "fb_docs", "original_query_weight"})
        if feedback and not self.rm3:
            raise ValueError(f"{', '.join(feedback)}: of RM3, which is off; add rm3=true (--option rm3=true)")
        if self.rm3 and self.fields != "flat":
            raise ValueError(
                "rm3=true with fields=multifield: Anserini expands one field alone and would drop the title; "
                "use fields=flat"
            )
        return self


@register("bm25")
class BM25(Retriever):
    """BM25 with Anserini's defaults for BEIR: k1 = 0.9, b = 0.4, Porter stemmer, Lucene's stop words.

    `fields="multifield"` with these values is the system of the paper's Table 2. Scores are Anserini's, which rounds
    them to four decimals and breaks ties among them itself, by ascending document id in steps of 1e-6.

    `rm3=True` is the baseline with feedback: Anserini's RM3 (Abdul-Jaleel et al., 2004) with its defaults, 10 terms of
    10 documents and half of the weight on the query as asked.
    """

    Options = BM25Options
    summary = "BM25 by pyserini (Anserini/Lucene); --fields flat|multifield, --k1, --b, --language, -o rm3=true"
    packages = ("pyserini",)
    told = frozenset({"fields", "rm3"})
    options: BM25Options

    @classmethod
    def about(cls) -> About:
        """Its scores on two collections are those that Anserini publishes."""
        rows = (PaperRow(table=2, row="BM25"),)
        return About("BM25", rows, "lexical", "inverted index", verified="against published scores")

    @cached_property
    def analyzer(self) -> Analyzer:
        """How texts and queries are split into words."""
        return Analyzer(self.options.language, self.options.stemmer, self.options.stopwords)

    def check(self) -> None:
        """Raise InputError for stop words that cannot be read, or a language that this Java lacks."""
        self.analyzer.check()

    def fingerprint(self) -> str:
        """The stop words, where a file has them."""
        return self.analyzer.words_hash

    def index(self, corpus: Corpus, job: Job) -> Path:
        """The Lucene index that is searched. Raises InputError for a disk without space."""
        if message := other_script((doc.joined for doc in corpus.documents()), self.options.language):
            job.warn(f"{corpus.name}: {message}")
        layout = lucene.Layout(self.options.fields, self.analyzer, vectors=self.options.rm3)
        return lucene.ensure_index(corpus, layout, job)

    def identity(self) -> Identity:
        """BM25 fills Table 2's row only as the paper ran it: multifield, default parameters."""
        published = self.options == BM25Options(fields="multifield")
        return Identity(
            system="BM25 + RM3" if self.options.rm3 else "BM25",
            variant=self.options.fields + (", RM3" if self.options.rm3 else ""),
            paper_rows=(PaperRow(table=2, row="BM25"),) if published else (),
        )

    def search(self, corpus: Corpus, queries: Sequence[Query], top_k: int, job: Job) -> Run:
        """Return the top `top_k` documents of each query.

        Raises InputError where Java or pyserini is missing, or a disk is full.
        """
        index = self.index(corpus, job)
        pyclass = java.start()
        java.check_name(index)
        # A clause a query term; Lucene's default of 1,024 would drop the result of a longer query without a word.
        pyclass.autoclass("org.apache.lucene.search.IndexSearcher").setMaxClauseCount(1 << 20)
        searcher = pyclass.autoclass("io.anserini.search.SimpleSearcher")(str(index))
        how = self.options
        searcher.set_bm25(how.k1, how.b)
        self.analyzer.apply(searcher)
        if how.rm3:  # None: terms are read from the index; of English those of other letters than a to z are left out
            english = how.language == "en"
            searcher.set_rm3(None, how.fb_terms, how.fb_docs, how.original_query_weight, False, english)
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
