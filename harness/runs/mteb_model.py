"""A retriever as a model that `mteb.evaluate` takes: mteb hands over corpus and queries, and scores what is found."""

import hashlib
import importlib.util
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from harness.reports.records.names import slug
from harness.retrievers.errors import InputError
from harness.retrievers.ids import checked
from harness.retrievers.places import cache
from harness.retrievers.registry import Retriever
from harness.retrievers.run_files import exchange
from harness.retrievers.types import Document, Query
from harness.runtime.job import HarnessJob
from harness.version import __version__

if TYPE_CHECKING:
    from mteb.models.model_meta import ModelMeta

_ORGANISATION = "dupmae-harness"  # a model's name is `organisation/name` in mteb
# the kinds of `harness list retrievers` by mteb's words
_KINDS = {"dense": "dense", "lexical": "sparse", "hybrid": "hybrid", "late interaction": "late-interaction"}


class MtebCorpus:
    """A `Corpus` from the table that mteb hands over: columns id, text and maybe title; read row by row, every time.

    Raises InputError for a table without texts, an id that no run can carry, or one that occurs twice.
    """

    def __init__(self, table: Any, name: str) -> None:
        self.name, self._table = name, table
        _texts(table, "corpus", name)
        digest, met = hashlib.sha256(), set()
        for doc in self.documents():
            checked(doc.doc_id, f"{name}: the document id")
            if doc.doc_id in met:
                raise InputError(
                    f"{name}: the document id {doc.doc_id!r} occurs twice in the corpus. Ids must be unique."
                )
            met.add(doc.doc_id)
            digest.update(f"{doc.doc_id}\0{doc.title}\0{doc.text}\0".encode(errors="surrogatepass"))
        if not met:
            raise InputError(f"the corpus of {name} is empty: there is nothing to search.")
        self._hash = digest.hexdigest()

    @property
    def count(self) -> int:
        """N."""
        return len(self._table)

    @property
    def content_hash(self) -> str:
        """Hex SHA-256, as of our own collections: equal documents find the vectors of either."""
        return self._hash

    def documents(self) -> Iterator[Document]:
        """Yield every document once, in order."""
        for row in self._table:
            yield Document(row["id"], row.get("title") or "", row["text"] or "")


class MtebModel:
    """What `harness.mteb` returns: mteb's `SearchProtocol`.

    `mteb.evaluate(model, tasks=[…])` indexes and searches with the retriever; mteb scores. Raises InputError for tasks
    that are not plain retrieval of texts.
    """

    def __init__(self, label: str, retriever: Retriever, threads: int | None = None) -> None:
        self.label, self.retriever = label, retriever
        self._job = HarnessJob(cache(), threads)
        self._corpus: MtebCorpus | None = None

    @cached_property
    def mteb_model_meta(self) -> "ModelMeta":
        """Name and revision, under which mteb keeps results; all else is unknown to it.

        The revision is a hash of options, packages and fingerprint. Of a function without a version it is a new one
        each time, so that mteb finds no results of another state of it.
        """
        from mteb.models.model_meta import ModelMeta

        retriever = self.retriever
        key = {
            "harness": __version__,
            "options": retriever.options.model_dump(mode="json"),
            "fingerprint": retriever.fingerprint() if retriever.reproducible else uuid.uuid4().hex,
            "packages": {name: version(name) for name in retriever.packages},
        }
        kind = _KINDS.get(retriever.about().kind)
        return ModelMeta.create_empty(
            {
                "name": f"{_ORGANISATION}/{slug(self.label)}",
                "revision": hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:10],
                "model_type": [kind] if kind else [],
            }
        )

    def index(self, corpus: Any, *, task_metadata: Any, **_: Any) -> None:
        """Take a task's corpus; it is indexed or encoded when it is first searched, and found again after that."""
        self.retriever.check()
        self._job.tell(self.retriever.notice)
        self._corpus = MtebCorpus(corpus, str(task_metadata.name))

    def search(
        self, queries: Any, *, top_k: int, top_ranked: Mapping[str, Sequence[str]] | None = None, **_: Any
    ) -> dict[str, dict[str, float]]:
        """{query id: {document id: score}}, `top_k` documents of each query, exactly.

        Raises InputError before `index`, and for tasks that re-rank given documents.
        """
        corpus = self._corpus
        if corpus is None:
            raise InputError("search comes before index: mteb hands over a corpus first.")
        if top_ranked is not None:
            raise InputError(
                f"{corpus.name} re-ranks documents that it names, and {self.label} searches whole corpora. Choose "
                "tasks of type Retrieval."
            )
        asked = [
            Query(checked(row["id"], f"{corpus.name}: the query id"), text) for row, text in _asked(queries, corpus)
        ]
        return exchange.to_dict(self.retriever.search(corpus, asked, min(top_k, corpus.count), self._job))


def _asked(queries: Any, corpus: MtebCorpus) -> Iterator[tuple[Any, str]]:
    """Each query's row and text, behind which its instruction comes, as mteb itself has it."""
    _texts(queries, "queries", corpus.name)
    for row in queries:
        if not isinstance(row["text"], str):
            raise InputError(f"{corpus.name}: the query {row['id']!r} is no text, and nothing else is searched here.")
        yield row, f"{row['text']} {row['instruction']}" if row.get("instruction") else row["text"]


def _texts(table: Any, what: str, name: str) -> None:
    if lost := {"id", "text"} - set(table.column_names):
        raise InputError(
            f"{name}: its {what} have no {' and no '.join(sorted(lost))}; there is {', '.join(table.column_names)}. "
            "Texts alone are searched here."
        )


def model_of(label: str, retriever: Retriever, threads: int | None) -> MtebModel:
    """The model. Raises InputError where mteb is not installed, and as the retriever's `check`."""
    if importlib.util.find_spec("mteb") is None:
        raise InputError("harness.mteb needs mteb: pip install 'dupmae-harness[mteb]'.")
    retriever.check()
    return MtebModel(label, retriever, threads)
