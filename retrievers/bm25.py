"""BM25 by pyserini (Anserini, Lucene): index a corpus once, search it many times."""

import json
import shutil
import threading
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock
from pydantic import Field

from retrievers import java
from retrievers.errors import InputError
from retrievers.registry import Identity, Options, PaperRow, Retriever, register
from retrievers.types import Corpus, Job, Query, Run

# A corpus is handed to Anserini in files of this many documents: it gives a file to a thread and counts whole files.
_DOCUMENTS_PER_FILE = 10_000
_QUERIES_PER_CALL = 64
_INDEX_FORMAT = 1
_COLLECTION = {"flat": "BeirFlatCollection", "multifield": "BeirMultifieldCollection"}


class BM25Options(Options):
    """k1 and b of BM25, and how a document is indexed."""

    k1: float = Field(0.9, ge=0, allow_inf_nan=False, description="term-frequency saturation")
    b: float = Field(0.4, ge=0, le=1, description="length normalisation")
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
    options: BM25Options

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
        index = self._index(corpus, job)
        pyclass = java.start()
        # A clause a query term; Lucene's default of 1,024 would drop the result of a longer query without a word.
        pyclass.autoclass("org.apache.lucene.search.IndexSearcher").setMaxClauseCount(1 << 20)
        searcher = pyclass.autoclass("io.anserini.search.SimpleSearcher")(str(index / "lucene"))
        searcher.set_bm25(self.options.k1, self.options.b)
        blocks: list[
            tuple[np.ndarray, ...]
        ] = []  # (query number, document id, score) of each block: arrays, not objects
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

    def _index(self, corpus: Corpus, job: Job) -> Path:
        """Return the folder of the corpus's index, building it where it is not there yet; one process builds it."""
        folder = job.cache / "bm25" / f"{self.options.fields}-{corpus.content_hash[:16]}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not (folder / "index.json").exists():
                building = folder.with_suffix(".building")
                shutil.rmtree(building, ignore_errors=True)  # left by a process that was killed
                shutil.rmtree(folder, ignore_errors=True)
                try:
                    self._build(corpus, building, job)
                    building.rename(folder)
                finally:
                    shutil.rmtree(building, ignore_errors=True)
        return folder

    def _build(self, corpus: Corpus, building: Path, job: Job) -> None:
        texts = building / "texts"
        texts.mkdir(parents=True)
        with job.phase("export", corpus.count, "documents") as meter:
            documents = corpus.documents()
            for number in range(corpus.count // _DOCUMENTS_PER_FILE + 1):
                with (texts / f"{number:05}.jsonl").open("w", encoding="utf-8") as file:
                    for doc in islice(documents, _DOCUMENTS_PER_FILE):
                        row = {"_id": doc.doc_id, "title": doc.title, "text": doc.text, "metadata": {}}
                        file.write(json.dumps(row) + "\n")
                        meter.advance()
        counts = _index_collection(texts, building / "lucene", self.options.fields, corpus.count, job)
        # Anserini leaves a document without an indexable word out ("empty"): BM25 could not find it anyway.
        if counts["indexed"] + counts["empty"] != corpus.count:
            raise InputError(
                f"Anserini indexed {counts['indexed']:,} of {corpus.count:,} documents of {corpus.name} ({counts}). "
                f"Is there space under {building.parent}?"
            )
        shutil.rmtree(texts)
        description = {"format": _INDEX_FORMAT, "fields": self.options.fields, "corpus": corpus.content_hash, **counts}
        (building / "index.json").write_text(json.dumps(description, indent=1) + "\n")


def _index_collection(texts: Path, index: Path, fields: str, count: int, job: Job) -> dict[str, int]:
    """Run Anserini's IndexCollection over the JSON lines in `texts` and return its counters.

    The full IndexCollection, since the simple indexer drops the extra field without a word. One segment (`optimize`),
    so that a score does not depend on how threads happened to share the documents.
    """
    pyclass = java.start()
    words = pyclass.JArrayList()
    settings = {"collection": _COLLECTION[fields], "input": texts, "index": index, "threads": job.threads}
    for name, value in settings.items():
        words.add(f"-{name}")
        words.add(str(value))
    for word in ("-optimize", "-quiet", *(("-fields", "title") if fields == "multifield" else ())):
        words.add(word)
    args = pyclass.autoclass("io.anserini.index.IndexCollection$Args")()
    pyclass.autoclass("org.kohsuke.args4j.CmdLineParser")(args).parseArgument(words)
    indexer = pyclass.autoclass("io.anserini.index.IndexCollection")(args)
    failure: list[BaseException] = []

    def work() -> None:
        try:
            indexer.run()
        except BaseException as error:
            failure.append(error)

    worker = threading.Thread(target=work, name="anserini-index")
    with job.phase("index", count, "documents") as meter:
        worker.start()
        while worker.is_alive():  # the call into Java releases the interpreter, so progress can be read meanwhile
            worker.join(timeout=0.05)
            meter.reach(int(indexer.getCounters().indexed.get()))
    if failure:
        raise InputError(f"Anserini could not index into {index}: {failure[0]}") from failure[0]
    counters = indexer.getCounters()
    return {
        name: int(getattr(counters, name).get()) for name in ("indexed", "empty", "unindexable", "skipped", "errors")
    }
