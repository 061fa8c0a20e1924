"""Candidates of a late-interaction search: another retriever's best, and the part of the collection that they are."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from harness.retrievers import registry
from harness.retrievers.errors import InputError
from harness.retrievers.registry import Retriever
from harness.retrievers.types import Corpus, Document, Job, Meter, Query

Rows = npt.NDArray[np.int64]


def made(name: str, options: dict[str, Any]) -> Retriever:
    """The retriever called `name`. Raises InputError for an unknown name, or options that it has not."""
    cls = registry.get(name)
    try:
        return cls(cls.Options.model_validate(options))
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        raise InputError(
            f"first_stage {name}: {said}. Its options are {', '.join(cls.Options.model_fields) or 'none'}."
        ) from error


@dataclass(frozen=True)
class Subset:
    """Some documents of a corpus as a corpus of their own, in its order; `rows` ascend."""

    corpus: Corpus
    rows: Rows

    @property
    def name(self) -> str:
        """The whole's."""
        return self.corpus.name

    @property
    def count(self) -> int:
        """How many they are."""
        return len(self.rows)

    @property
    def content_hash(self) -> str:
        """Over the whole's hash and the rows."""
        rows = self.rows.astype("<i8").tobytes()
        return hashlib.sha256(f"{self.corpus.content_hash} rows ".encode() + rows).hexdigest()

    def documents(self) -> Iterator[Document]:
        """Yield them; the whole is read up to the last one."""
        documents, at = self.corpus.documents(), 0
        for row in self.rows.tolist():
            while at < row:
                next(documents)
                at += 1
            yield next(documents)
            at += 1


@dataclass(frozen=True)
class Candidates:
    """The documents that any query may find, and of each query the ascending rows among them."""

    documents: Corpus
    rows: list[Rows]

    def in_whole(self) -> "Candidates":
        """The same among all documents of the corpus."""
        if not isinstance(self.documents, Subset):
            return self
        return Candidates(self.documents.corpus, [self.documents.rows[own] for own in self.rows])


def candidates(first: Retriever, corpus: Corpus, queries: Sequence[Query], depth: int, job: Job) -> Candidates:
    """The `depth` best documents of each query by `first`, which every process asks alone.

    Raises InputError where it returns other queries than it was given, or a document that is not in the corpus.
    """
    from harness.retrievers.mining import Rows as Places

    run = first.search(corpus, queries, min(depth, corpus.count), _Alone(job))
    if run.query_ids != tuple(query.query_id for query in queries):
        raise InputError(f"{type(first).__qualname__} returned other queries than it was given.")
    places = Places(doc.doc_id for doc in corpus.documents()).of(run.doc_ids)
    if (places < 0).any():
        doc_id = run.doc_ids[int(np.flatnonzero(places < 0)[0])].decode()
        raise InputError(f"{type(first).__qualname__} returned the document {doc_id!r}, which is not in {corpus.name}.")
    used = np.unique(places)
    bounds = zip(run.offsets[:-1], run.offsets[1:], strict=True)
    rows = [np.sort(np.searchsorted(used, places[low:high])).astype(np.int64) for low, high in bounds]
    return Candidates(Subset(corpus, used.astype(np.int64)), rows)


class _Alone:
    """A job in which there is one process: what the other ones do is the same."""

    rank, processes = 0, 1

    def __init__(self, job: Job) -> None:
        self._job = job

    @property
    def cache(self) -> Path:
        return self._job.cache

    @property
    def threads(self) -> int:
        return self._job.threads

    def agreed(self, value: Any) -> Any:
        return value

    def gather(self, value: Any) -> list[Any] | None:
        return [value]

    def phase(self, name: str, total: int | None, unit: str) -> AbstractContextManager[Meter]:
        return self._job.phase(name, total, unit)

    def warn(self, message: str) -> None:
        self._job.warn(message)

    def note(self, message: str) -> None:
        self._job.note(message)
