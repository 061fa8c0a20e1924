"""`lucene:PATH`: BM25 over an index that Anserini or pyserini made before, or that pyserini can fetch by a name."""

import hashlib
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from harness.models.errors import first_line
from harness.retrievers.errors import InputError
from harness.retrievers.ids import unknown_ids
from harness.retrievers.lexical import java
from harness.retrievers.lexical.bm25 import BM25
from harness.retrievers.places import expanded
from harness.retrievers.registry import Identity, Retriever, register_prefix
from harness.retrievers.types import Corpus, Job, Query, Run


class ExistingIndex(BM25):
    """Searches the index `named` as `bm25` searches its own; how it was analyzed is the user's to say (`language`).

    Every document that it returns must be of the collection: an index of other documents is an error.
    """

    summary = "BM25 over an index of Anserini's that is there already; --k1, --b, --fields, --language, -o rm3=true"
    named = ""

    @cached_property
    def place(self) -> Path:
        """The folder of the index. Raises InputError where there is none and pyserini knows none of that name."""
        folder = expanded(self.named).absolute()  # Java's working directory is where it was started
        if next(folder.glob("segments_*"), None) is not None:
            return folder
        if folder.exists() or self.named.startswith((".", "/", "~")):
            raise InputError(f"{folder} holds no Lucene index (no file segments_N). Name the folder that has it.")
        return self._fetched()

    def _fetched(self) -> Path:
        os.environ.setdefault("OPENAI_API_KEY", "")  # parts of pyserini look for it when they are imported
        from pyserini import prebuilt_index_info, util

        known = prebuilt_index_info.TF_INDEX_INFO
        if self.named not in known:
            raise InputError(
                f"lucene:{self.named} is neither a folder with a Lucene index nor one of the {len(known):,} names by "
                "which pyserini fetches one (`pyserini.search.lucene.LuceneSearcher.list_prebuilt_indexes()`)."
            )
        try:
            return Path(util.download_prebuilt_index(self.named, verbose=False))
        except Exception as error:  # urllib, tarfile and pyserini each have their own ways to fail
            raise InputError(
                f"lucene:{self.named} could not be fetched ({first_line(error)}). Is there a network? An index that "
                "you unpacked yourself is named by its folder: lucene:FOLDER."
            ) from error

    @cached_property
    def commit(self) -> str:
        """Hex SHA-256 of the newest `segments_N`, which holds the id of each segment: what the index is."""
        newest = max(self.place.glob("segments_*"), key=lambda path: int(path.name.removeprefix("segments_"), 36))
        try:
            return hashlib.sha256(newest.read_bytes()).hexdigest()
        except OSError as error:
            raise InputError(f"{newest} cannot be read ({first_line(error)}).") from error

    def fingerprint(self) -> str:
        """The index and the stop words."""
        return f"{self.commit} {super().fingerprint()}"

    def check(self) -> None:
        """Raise InputError where there is no index, or as of `bm25`."""
        super().check()
        _ = self.commit

    def identity(self) -> Identity:
        """The system is BM25; it fills no row, since nobody knows how the index was made."""
        return (
            super()
            .identity()
            .model_copy(update={"paper_rows": (), "checkpoint": self.named, "checkpoint_hash": self.commit})
        )

    def index(self, corpus: Corpus, job: Job) -> Path:
        """The index that is there. Raises InputError where Lucene cannot open it, or it lacks what RM3 reads."""
        pyclass = java.start()
        java.check_name(self.place)
        try:
            searcher = pyclass.autoclass("io.anserini.search.SimpleSearcher")(str(self.place))
        except Exception as error:  # a JavaException, whose class exists only once Java runs
            raise InputError(
                f"{self.place} is no index that this Lucene can open ({first_line(error)}). Was it made by another "
                "version?"
            ) from error
        try:
            count = int(searcher.get_total_num_docs())
        finally:
            searcher.close()
        if self.options.rm3:
            reader = pyclass.autoclass("io.anserini.index.IndexReaderUtils").getReader(str(self.place))
            keeps_terms = count > 0 and reader.termVectors().get(0) is not None
            reader.close()
            if not keeps_terms:
                raise InputError(
                    f"rm3=true reads each document's terms, and {self.place} was made without them (-storeDocvectors)."
                )
        if count != corpus.count:
            job.warn(f"{self.named} holds {count:,} documents, and {corpus.name} has {corpus.count:,}")
        return self.place

    def search(self, corpus: Corpus, queries: Sequence[Query], top_k: int, job: Job) -> Run:
        """As `bm25`. Raises InputError as well for an index with documents that the collection lacks."""
        run = super().search(corpus, queries, top_k, job)
        if unknown := unknown_ids(run.doc_ids.tolist(), (doc.doc_id for doc in corpus.documents())):
            raise InputError(
                f"{len(unknown):,} of the documents that {self.place} gives are not in {corpus.name} "
                f"({', '.join(unknown[:3])}). Name the collection of which the index was made."
            )
        return run


@register_prefix("lucene:", "lucene:PATH_OR_NAME", ExistingIndex.summary)
def _of_index(name: str) -> type[Retriever]:
    if not name:
        raise InputError("lucene: needs the folder of an index behind it, or a name of pyserini's: lucene:./my-index.")
    return type(f"ExistingIndex[{name}]", (ExistingIndex,), {"named": name, "__module__": __name__})
