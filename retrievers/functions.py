"""Retrievers that are objects of a program: a function, and anything that transforms as PyTerrier's transformers do."""

import inspect
import sys
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from pydantic import Field

from harness.retrievers.errors import InputError
from harness.retrievers.registry import Identity, Options, Retriever
from harness.retrievers.run_files import exchange
from harness.retrievers.types import Corpus, Document, Job, Query, Run

_ARGUMENTS = "(queries, corpus, k)"


class Documents:
    """The collection as a function is handed it: every `Document`, as often as it is iterated, and `len`.

    It streams from disk; `{doc.doc_id: doc.joined for doc in corpus}` holds it in memory. `content_hash` names what is
    derived from it.
    """

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    @property
    def name(self) -> str:
        """The name that the user knows the collection by."""
        return self._corpus.name

    @property
    def content_hash(self) -> str:
        """Hex SHA-256 of all documents in order."""
        return self._corpus.content_hash

    def __len__(self) -> int:
        return self._corpus.count

    def __iter__(self) -> Iterator[Document]:
        return self._corpus.documents()


class ObjectOptions(Options):
    """What is known of an object beside its name."""

    version: str | None = Field(None, description="names the code's state; without it no record is found again")


class OfObject(Retriever):
    """Asks an object of the caller's program for results, and checks them.

    Nothing tells whether the object is the same the next time. So it is asked every time, unless the caller names a
    `version` of it, and its results name the record.
    """

    Options = ObjectOptions
    options: ObjectOptions
    kind = "object"

    def __init__(self, found: Any, name: str, version: str | None = None) -> None:
        super().__init__(ObjectOptions(version=version))
        self.found, self.name = found, name
        self.reproducible = version is not None

    @abstractmethod
    def _ask(self, corpus: Corpus, queries: Sequence[Query], top_k: int) -> Any:
        """What the object returns: whatever `harness.retrievers.run_files.exchange.of_any` takes."""

    def fingerprint(self) -> str:
        """Where the object is from."""
        return f"{self.kind} {_origin(self.found)}"

    def identity(self) -> Identity:
        """Its name; the rest is in the options."""
        return Identity(system=f"{self.name}, a {self.kind}")

    def resolved(self) -> dict[str, Any]:
        """Where the object is from, and its version."""
        return super().resolved() | {self.kind: _origin(self.found)}

    def search(self, corpus: Corpus, queries: Sequence[Query], top_k: int, job: Job) -> Run:
        """Return what the object finds, `top_k` documents of each query at most; what it raises is not caught.

        Raises InputError for what is no run, or of other queries or documents.
        """
        if not self.reproducible:
            job.warn(
                f"nothing says which state of {self.name} made this record, so it is asked every time; "
                "version=… names one, by which the record is found again"
            )
        with job.phase("search", len(queries), "queries") as meter:
            found = self._ask(corpus, queries, top_k)
            meter.advance(len(queries))
        try:
            run = exchange.of_any(found)
        except InputError as error:
            raise InputError(f"what {self.name} returned is no run: {error}") from error
        query_ids = [query.query_id for query in queries]
        if others := sorted(set(run.query_ids) - set(query_ids)):
            raise InputError(
                f"{self.name} returned {len(others):,} queries that it was not asked, such as {others[0]!r}. Use the "
                f"ids that it is given, such as {query_ids[0]!r}."
            )
        run = exchange.aligned(run, query_ids).first(top_k)
        self._check_documents(run, corpus, job)
        return run

    def _check_documents(self, run: Run, corpus: Corpus, job: Job) -> None:
        """Raise InputError for documents that the corpus has not."""
        unknown = {doc_id.decode() for doc_id in run.doc_ids.tolist()}
        documents = corpus.documents()
        with job.phase("check", corpus.count, "documents") as meter:
            while unknown and (doc := next(documents, None)) is not None:
                unknown.discard(doc.doc_id)
                meter.advance()
        if unknown:
            example = sorted(unknown)[0]
            raise InputError(
                f"{self.name} returned {len(unknown):,} documents that {corpus.name} has not, such as {example!r}. Is "
                "its index of another collection?"
            )


class FunctionRetriever(OfObject):
    """A function of `queries` {query id: text}, `corpus` (`Documents`) and `k`, which returns a run."""

    kind = "function"

    def check(self) -> None:
        """Raise InputError for a function of other arguments, before a collection is read."""
        try:
            signature = inspect.signature(self.found)
        except (TypeError, ValueError):  # some that are built in have none
            return
        try:
            signature.bind({}, (), 1)
        except TypeError as error:
            raise InputError(
                f"{self.name} takes {signature}; a retriever is called as {self.name}{_ARGUMENTS} and returns "
                "{query id: {document id: score}}. functools.partial binds what it takes beside these."
            ) from error
        if inspect.iscoroutinefunction(self.found):
            raise InputError(
                f"{self.name} is a coroutine (async def), which nobody awaits here. Wrap it in asyncio.run."
            )

    def _ask(self, corpus: Corpus, queries: Sequence[Query], top_k: int) -> Any:
        return self.found({query.query_id: query.text for query in queries}, Documents(corpus), top_k)


class TransformerRetriever(OfObject):
    """A transformer as PyTerrier has them: `transform` turns a DataFrame of qid and query into one of results.

    Texts are handed over as they are; a Terrier index wants them tokenised first (`pt.rewrite.tokenise()`).
    """

    kind = "transformer"

    def resolved(self) -> dict[str, Any]:
        """The same, and PyTerrier's version, where it is one of PyTerrier's."""
        release = getattr(sys.modules.get("pyterrier"), "__version__", None)
        theirs = release is not None and _origin(self.found).startswith("pyterrier.")
        return super().resolved() | ({"pyterrier": str(release)} if theirs else {})

    def _ask(self, corpus: Corpus, queries: Sequence[Query], top_k: int) -> Any:  # noqa: ARG002  # it has its own
        import pandas

        rows = [(query.query_id, query.text) for query in queries]
        return self.found.transform(pandas.DataFrame(rows, columns=["qid", "query"]))


def is_object(found: Any) -> bool:
    """Whether `of_object` makes a retriever of it."""
    return _transforms(found) or callable(found)


def of_object(found: Any, name: str | None, version: str | None) -> OfObject:
    """The retriever that asks `found`: a transformer, or a function. Raises InputError for one without a name."""
    if name is None and (name := _name(found)) is None:
        raise InputError(f"{found!r:.60} has no name of its own, which its record would go by. Give name=….")
    return (TransformerRetriever if _transforms(found) else FunctionRetriever)(found, name, version)


def _transforms(found: Any) -> bool:
    return not isinstance(found, type) and callable(getattr(found, "transform", None))


def _inner(found: Any) -> Any:
    while isinstance(found, partial):
        found = found.func
    return found


def _name(found: Any) -> str | None:
    inner = _inner(found)
    name: str = getattr(inner, "__name__", type(inner).__name__)
    return name if name.isidentifier() else None  # a lambda's is <lambda>


def _origin(found: Any) -> str:
    """The module and name of a function, or of an object's class."""
    inner: Callable[..., Any] | type = _inner(found)
    named = inner if hasattr(inner, "__qualname__") else type(inner)
    return f"{named.__module__}.{named.__qualname__}"
