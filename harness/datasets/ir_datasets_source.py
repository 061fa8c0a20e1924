"""Collections by their `ir_datasets` id, through the genuine `ir_datasets` code."""

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from harness.datasets import damaged
from harness.datasets.fields import Fields
from harness.datasets.missing import MissingCollection
from harness.retrievers.errors import InputError, unknown
from harness.retrievers.places import cache, home, lend_home, prepare
from harness.retrievers.types import Document, Query

T = TypeVar("T")


@lru_cache(maxsize=1)
def _library() -> Any:
    """ir_datasets. Raises InputError where its home cannot be used, as another user's or one that cannot be made."""
    prepare()
    try:
        import ir_datasets
    except OSError as error:  # it makes its home when it is imported
        cache()  # where its home was to be under HARNESS_HOME, that is what is wrong
        if lend_home("IR_DATASETS_HOME"):
            for name in [name for name in sys.modules if name.partition(".")[0] == "ir_datasets"]:
                del sys.modules[name]
            return _library.__wrapped__()
        raise InputError(
            f"ir_datasets cannot use {error.filename or 'its home'}: {error.strerror}. It makes folders and unpacks "
            "files in its home, which must be writable. IR_DATASETS_HOME names another place."
        ) from error

    # warnings and download bars stay; the notes of each opened file would run through our own progress bars
    ir_datasets.log.easy().logger().setLevel(logging.WARNING)
    return ir_datasets


@contextmanager
def quiet() -> Iterator[None]:
    """Without the library's warnings, of what whoever calls it says itself."""
    logger = _library().log.easy().logger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def known_ids() -> list[str]:
    """Every id that the installed `ir_datasets` has."""
    return [str(name) for name in _library().registry]


@lru_cache(maxsize=256)
def official_measures(dataset_id: str) -> tuple[str, ...]:
    """The measures that `ir_datasets` calls official for an id, such as `RR(rel=2)`; none where it is silent."""
    library = _library()
    if dataset_id not in library.registry:
        return ()
    return tuple(map(str, library.load(dataset_id).documentation().get("official_measures") or ()))


class IrDatasetsSource:
    """Documents, queries and judgments of one `ir_datasets` id.

    Raises InputError for an id that is unknown, that lacks a part, or whose files are damaged, or can be neither
    found nor fetched.
    """

    kind = "ir_datasets"

    def __init__(
        self,
        dataset_id: str,
        also_known: list[str],
        parts: Sequence[str] = ("docs", "queries", "qrels"),
        fields: Fields | None = None,
    ) -> None:
        """`also_known` are names of ours to offer where the id is unknown; `parts` are what it must have."""
        self.fields = fields or Fields()
        library = _library()
        if dataset_id not in library.registry:
            raise _unknown(dataset_id, also_known)
        self.dataset_id = dataset_id
        self.dataset = library.load(dataset_id)
        self.location = str(library.util.home_path())
        missing = [part for part in parts if not getattr(self.dataset, f"has_{part}")()]
        if missing:
            longer = [name for name in known_ids() if name.startswith(f"{dataset_id}/")]
            raise InputError(
                f"{dataset_id} has no {' and no '.join(missing)}, so it cannot be "
                f"{'scored' if len(parts) > 1 else 'read'}. "
                + (
                    f"Name one of its parts: {', '.join(longer)}."
                    if longer
                    else f"Name a collection that has {'all three' if len(parts) > 1 else 'them'}."
                )
            )

    @property
    def count_hint(self) -> int | None:
        """How many documents there should be, where that is known without reading them."""
        found = self.dataset.metadata().get("docs", {}).get("count")
        return int(found) if found is not None else None

    def stamp(self) -> list[Any]:
        """What a survey of this collection stands on: ids are versioned by the library, files by their hash there."""
        chosen = [self.fields.query, self.fields.docs] if self.fields.any else []
        return [self.dataset_id, version("ir_datasets"), self.location, *chosen]

    def documents(self) -> Iterator[Document]:
        """Yield the corpus. A type without both title and text gives its `default_text()` as text."""
        with_title = {"title", "text"} <= set(self.dataset.docs_cls()._fields)
        for doc in self._fetch(self.dataset.docs_iter):
            if self.fields.docs:
                yield Document(doc.doc_id, *self.fields.title_and_text(_texts(doc), f"{self.dataset_id}, {doc.doc_id}"))
            elif with_title:
                yield Document(doc.doc_id, doc.title or "", doc.text or "")
            else:
                yield Document(doc.doc_id, "", doc.default_text())

    def queries(self) -> Iterator[Query]:
        """Yield the queries: of a TREC topic the title, of the others their one text, unless fields are named."""
        for query in self._fetch(self.dataset.queries_iter):
            if self.fields.query:
                text = self.fields.query_text(_texts(query), f"{self.dataset_id}, query {query.query_id}")
                yield Query(query.query_id, text)
            else:
                yield Query(query.query_id, query.default_text())

    def qrels(self) -> Iterator[tuple[str, str, int]]:
        """Yield (query id, document id, grade). Raises InputError where there are more or fewer than are known of."""
        number = 0
        for qrel in self._fetch(self.dataset.qrels_iter):
            number += 1
            yield qrel.query_id, qrel.doc_id, int(qrel.relevance)
        known = self.dataset.metadata().get("qrels", {}).get("count", number)
        if number != known:
            raise InputError(
                f"{self.dataset_id}: {self.location} holds {number:,} judgments of it, and it has {known:,}. What was "
                "unpacked there is damaged: delete the files of this collection and run again."
            )

    def _broken(self) -> list[str]:
        """What is wrong with the files of the id, in the folder of its name or, where it has none, above."""
        place = Path(self.location)
        folders = [place.joinpath(*self.dataset_id.split("/")[:parts]) for parts in (2, 1)]
        return damaged.files(next((folder for folder in folders if folder.is_dir()), place))

    def _fetch(self, iterate: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        try:
            yield from iterate()
        except Exception as error:  # no network, a refused licence, a missing extra, a damaged file
            if isinstance(error, PermissionError):
                what = f"{error.filename or self.location}: {error.strerror}"
                raise InputError(
                    f"ir_datasets could not read {self.dataset_id} ({what}). It unpacks its files under "
                    f"{self.location}, which must be readable and writable; IR_DATASETS_HOME names another place."
                ) from error
            if broken := self._broken():
                raise InputError(
                    f"ir_datasets could not read {self.dataset_id}: {'; '.join(broken[:3])}. Delete "
                    f"{'it' if len(broken) == 1 else 'them'} and run again: what is missing is then fetched."
                ) from error
            raise MissingCollection(
                f"ir_datasets could not read {self.dataset_id} ({_short(error)}). Its files belong under "
                f"{self.location} (IR_DATASETS_HOME sets that place) and are fetched there when missing, which needs a "
                f"network; https://ir-datasets.com/{self.dataset_id.split('/')[0]}.html says from where.",
                f"fetched by ir_datasets into {self.location} where there is a network"
                + (f", or in BEIR layout under {home() / 'datasets'}" if self.dataset_id.startswith("beir/") else ""),
            ) from error


def _texts(found: Any) -> dict[str, str]:
    """The fields of a document or a query of ir_datasets that are texts, its id aside."""
    texts = {name: value for name, value in found._asdict().items() if isinstance(value, str)}
    texts.pop("doc_id" if "doc_id" in texts else "query_id")
    return texts


def documents_of(dataset_id: str) -> Iterator[Document]:
    """The documents of an id that may have nothing else. Raises InputError as `IrDatasetsSource`."""
    return IrDatasetsSource(dataset_id, [], ("docs",)).documents()


def _short(error: BaseException) -> str:
    """The gist of a download error, which may nest three others."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else f"{text[:157]}…"


def _unknown(dataset_id: str, also_known: list[str]) -> InputError:
    """Name the nearest ids; the 800 ids themselves would hide them."""
    full = str(unknown("dataset", dataset_id, [*also_known, *known_ids()]))
    nearest = full.split("There is:", maxsplit=1)[0]
    return InputError(
        f"{nearest}There is: {', '.join(also_known)}; any ir_datasets id (https://ir-datasets.com); and any folder in "
        f"BEIR layout, as PATH or PATH/<split>. `harness list datasets` says more."
    )
