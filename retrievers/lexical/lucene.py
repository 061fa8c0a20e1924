"""Lucene indexes by Anserini: built once for a corpus, checked whenever they are used."""

import hashlib
import json
import shutil
import threading
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import FileLock

from harness.models.errors import first_line
from harness.retrievers.errors import InputError
from harness.retrievers.lexical import java
from harness.retrievers.lexical.analyzers import Analyzer
from harness.retrievers.types import Corpus, Document, Job

# A corpus is handed to Anserini in files of this many documents: it gives a file to a thread and counts whole files.
_DOCUMENTS_PER_FILE = 10_000
_FORMAT = 2
_LONGEST = 20_000_000  # characters of a text: Jackson's StreamReadConstraints, by which Anserini reads JSON
_COLLECTION = {"flat": "BeirFlatCollection", "multifield": "BeirMultifieldCollection"}


@dataclass(frozen=True)
class Layout:
    """What an index keeps of a document: the fields (flat or multifield), how they are analyzed, and its terms.

    The terms (`vectors`) are what feedback (RM3) reads.
    """

    fields: str
    analyzer: Analyzer
    vectors: bool = False

    @property
    def name(self) -> str:
        """What tells such indexes of one corpus apart."""
        return "-".join(filter(None, (self.fields, "vectors" if self.vectors else "", self.analyzer.key)))

    @property
    def arguments(self) -> list[str]:
        """The words of Anserini's IndexCollection for it."""
        titles = ["-fields", "title"] if self.fields == "multifield" else []
        return [*titles, *(["-storeDocvectors"] if self.vectors else []), *self.analyzer.arguments]


def ensure_index(corpus: Corpus, layout: Layout, job: Job) -> Path:
    """Return the corpus's Lucene index, building it where it is missing or damaged; one process builds it.

    Raises InputError for a disk without space.
    """
    folder = job.cache / "bm25" / f"{layout.name}-{corpus.content_hash[:16]}"
    if _damage(folder) is None:  # which needs no lock, and may lie where nothing can be written
        return folder / "lucene"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        damage = _damage(folder)
        if damage:
            if folder.exists():
                job.warn(f"the index {folder} is {damage}; it is built again")
            building = folder.with_suffix(".building")
            remove(building)  # left by a process that was killed
            remove(folder)
            try:
                _build(corpus, layout, building, job)
                building.rename(folder)
            finally:
                remove(building)
    return folder / "lucene"


def remove(path: Path) -> None:
    """Remove a folder or a file, where there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _damage(folder: Path) -> str | None:
    """What is wrong with the index in `folder`; None where all bytes are those that were written."""
    try:
        description = json.loads((folder / "index.json").read_bytes())
        if description["format"] != _FORMAT:
            return "of another version"
        written: dict[str, str] = description["files"]
        return None if _hashes(folder / "lucene") == written else "damaged"
    except (OSError, ValueError, KeyError, TypeError):
        return "missing or unreadable"


def _hashes(lucene: Path) -> dict[str, str]:
    found = {}
    for path in sorted(lucene.iterdir()):
        if path.name != "write.lock":
            with path.open("rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _build(corpus: Corpus, layout: Layout, building: Path, job: Job) -> None:
    texts = building / "texts"
    texts.mkdir(parents=True)
    with job.phase("export", corpus.count, "documents") as meter:
        documents = corpus.documents()
        for number in range(corpus.count // _DOCUMENTS_PER_FILE + 1):
            with (texts / f"{number:05}.jsonl").open("w", encoding="utf-8") as file:
                for doc in islice(documents, _DOCUMENTS_PER_FILE):
                    _check_length(doc)
                    row = {"_id": doc.doc_id, "title": doc.title, "text": doc.text, "metadata": {}}
                    file.write(json.dumps(row) + "\n")
                    meter.advance()
    counts = _index_collection(texts, building / "lucene", layout, corpus.count, job)
    # Anserini leaves a document without an indexable word out ("empty"): BM25 could not find it anyway.
    if counts["indexed"] + counts["empty"] != corpus.count or counts["readable"] != counts["indexed"]:
        raise InputError(
            f"of {corpus.count:,} documents of {corpus.name} the index holds {counts['readable']:,} ({counts}). "
            f"Is there space under {building.parent}? HARNESS_HOME names another place."
        )
    shutil.rmtree(texts)
    description = {"format": _FORMAT, "layout": layout.name, "corpus": corpus.content_hash, **counts}
    description["files"] = _hashes(building / "lucene")
    (building / "index.json").write_text(json.dumps(description, indent=1) + "\n")


def _check_length(doc: Document) -> None:
    """Raise InputError for a text that Anserini's reader of JSON would refuse, and then leave out without a word."""
    for name, text in (("title", doc.title), ("text", doc.text)):
        length = len(text)
        if length > _LONGEST // 2:  # Java counts letters beyond the first 65,536 twice
            length = len(text.encode("utf-16-le", "surrogatepass")) // 2
        if length > _LONGEST:
            raise InputError(
                f"document {doc.doc_id!r}: its {name} has {length:,} characters, and BM25's indexer (Anserini) reads "
                f"{_LONGEST:,} at most. Divide the document, or leave it out."
            )


def _index_collection(texts: Path, index: Path, layout: Layout, count: int, job: Job) -> dict[str, int]:
    """Run Anserini's IndexCollection over the JSON lines in `texts`; return its counters, and what can be read back.

    The full IndexCollection, since the simple indexer drops the extra field without a word. One segment (`optimize`),
    so that a score does not depend on how threads happened to share the documents.
    """
    pyclass = java.start()
    java.check_name(index)
    words = pyclass.JArrayList()
    settings = {"collection": _COLLECTION[layout.fields], "input": texts, "index": index, "threads": job.threads}
    for name, value in settings.items():
        words.add(f"-{name}")
        words.add(str(value))
    for word in ("-optimize", "-quiet", *layout.arguments):
        words.add(word)
    args = pyclass.autoclass("io.anserini.index.IndexCollection$Args")()
    pyclass.autoclass("org.kohsuke.args4j.CmdLineParser")(args).parseArgument(words)
    indexer = pyclass.autoclass("io.anserini.index.IndexCollection")(args)
    failure: list[Exception] = []

    def work() -> None:
        try:
            indexer.run()
        except Exception as error:
            failure.append(error)

    worker = threading.Thread(target=work, name="anserini-index")
    with job.phase("index", count, "documents") as meter:
        worker.start()
        while worker.is_alive():  # the call into Java releases the interpreter, so progress can be read meanwhile
            worker.join(timeout=0.05)
            meter.reach(int(indexer.getCounters().indexed.get()))
    if failure:
        raise InputError(
            f"Anserini could not index into {index}: {first_line(failure[0])}. Is there space? HARNESS_HOME names "
            "another place."
        ) from failure[0]
    counters = indexer.getCounters()
    found = {
        name: int(getattr(counters, name).get()) for name in ("indexed", "empty", "unindexable", "skipped", "errors")
    }
    return found | {"readable": _readable(pyclass, index)}


def _readable(pyclass: Any, index: Path) -> int:
    """How many documents the index gives when it is opened; Anserini may count what its last commit then loses."""
    try:
        searcher = pyclass.autoclass("io.anserini.search.SimpleSearcher")(str(index))
    except Exception:  # a JavaException, whose class exists only once Java runs
        return 0
    try:
        return int(searcher.get_total_num_docs())
    finally:
        searcher.close()
