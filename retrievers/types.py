"""The contract between collections, retrievers and scores: plain numpy, frozen, validated."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from harness.retrievers import ids
from harness.retrievers.errors import InputError
from harness.retrievers.ordering import best_first, repeated


class Document(NamedTuple):
    """One unit of retrieval. `title` is empty where the collection has none."""

    doc_id: str
    title: str
    text: str

    @property
    def joined(self) -> str:
        """Title and text as one string, the way BEIR's systems read a document."""
        return f"{self.title} {self.text}".strip() if self.title else self.text


class Query(NamedTuple):
    """One information need, as the collection words it."""

    query_id: str
    text: str


class Corpus(Protocol):
    """A collection's documents, streamed: memory must not grow with their number.

    `content_hash` (hex SHA-256 over ids, titles and texts in order) names whatever is derived from the corpus, an index
    or a store, so equal hashes mean that it can be used again.
    """

    @property
    def name(self) -> str:
        """The name a user knows the corpus by."""
        ...

    @property
    def count(self) -> int:
        """N, after identical duplicates were dropped."""
        ...

    @property
    def content_hash(self) -> str:
        """Hex SHA-256 of all documents in order."""
        ...

    def documents(self) -> Iterator[Document]:
        """Yield every document once, always in the same order."""
        ...


class Meter(Protocol):
    """What a long phase reports to."""

    def advance(self, amount: int = 1) -> None:
        """Say that `amount` more units are done."""
        ...

    def reach(self, done: int) -> None:
        """Say that `done` units are done in all."""
        ...


class Job(Protocol):
    """What the conductor lends a retriever: a place for what can be used again, and phases that are shown and timed."""

    @property
    def cache(self) -> Path:
        """A folder that outlives the run; whatever is put there must be complete or absent."""
        ...

    @property
    def threads(self) -> int:
        """How many threads to use."""
        ...

    @property
    def rank(self) -> int:
        """Which of `processes` this is; rank 0 keeps the result."""
        ...

    @property
    def processes(self) -> int:
        """How many processes work on this together; 1 for a retriever that is not `distributed`."""
        ...

    def gather(self, value: Any) -> list[Any] | None:
        """The values of all processes in order of rank, at rank 0; None elsewhere. Every process must call it."""
        ...

    def agreed(self, value: Any) -> Any:
        """Rank 0's value, in every process. Every process must call it."""
        ...

    def phase(self, name: str, total: int | None, unit: str) -> AbstractContextManager[Meter]:
        """Time a phase under `name` and show its progress; phases of one name add up."""
        ...

    def warn(self, message: str) -> None:
        """Tell the user once, and keep it in the record."""
        ...

    def note(self, message: str) -> None:
        """Tell the user; the record does not keep it."""
        ...


Strings = npt.NDArray[np.bytes_]
Floats = npt.NDArray[np.float32]
Offsets = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Run:
    """Ranked results of Q queries, R rows in all, always in the order of the one tie rule.

    The rule is trec_eval's: by (float32 score, document id), both descending, ids compared as UTF-8 bytes. The rows of
    query i are `doc_ids[offsets[i]:offsets[i+1]]`, its rank 1 first; a query may have no rows.

    Make one with `Run.of` or `Run.from_rows`, which sort; the constructor only checks.

    Raises InputError for an id that no TREC file can carry, a score that is not finite or a document that a query holds
    twice, ValueError for arrays that do not fit together.
    """

    query_ids: tuple[str, ...]
    offsets: Offsets  # [Q+1]
    doc_ids: Strings  # [R] UTF-8
    scores: Floats  # [R]

    def __post_init__(self) -> None:
        if len(set(self.query_ids)) != len(self.query_ids):
            raise ValueError("a query id occurs twice in a run")
        if (
            self.offsets.shape != (len(self.query_ids) + 1,)
            or self.offsets[0] != 0
            or np.any(np.diff(self.offsets) < 0)
        ):
            raise ValueError("offsets must be Q+1 non-decreasing numbers that start at 0")
        if self.doc_ids.shape != self.scores.shape or self.doc_ids.shape != (int(self.offsets[-1]),):
            raise ValueError("doc_ids, scores and the last offset must be of one length")
        if self.scores.dtype != np.float32 or self.doc_ids.dtype.kind != "S":
            raise ValueError("scores must be float32 and doc_ids UTF-8 bytes")
        for query_id in self.query_ids:
            if wrong := ids.fault(query_id):
                raise InputError(f"the query id {wrong}.")
        for array in (self.offsets, self.doc_ids, self.scores):
            array.setflags(write=False)

    def __len__(self) -> int:
        return len(self.query_ids)

    @classmethod
    def from_rows(
        cls,
        query_ids: Sequence[str],
        rows_query: npt.NDArray[np.integer],
        doc_ids: Strings,
        scores: npt.NDArray[np.floating],
    ) -> "Run":
        """Order R loose rows into a run; `rows_query` [R] is each row's index into `query_ids`."""
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
            scores32 = scores.astype(np.float32)
        if not np.isfinite(scores32).all():
            row = int(np.flatnonzero(~np.isfinite(scores32))[0])
            raise InputError(
                f"the score of document {doc_ids[row].decode()!r} for query {query_ids[rows_query[row]]!r} is "
                f"{scores[row]}; scores must be finite numbers within float32 (3.4e38). If a retriever gave it, look "
                "at its vectors for NaN."
            )
        order = best_first(rows_query, doc_ids, scores32)
        rows_query, doc_ids, scores32 = rows_query[order], doc_ids[order], scores32[order]
        counts = np.bincount(rows_query, minlength=len(query_ids))
        run = cls(tuple(query_ids), np.concatenate(([0], np.cumsum(counts))).astype(np.int64), doc_ids, scores32)
        run._refuse_duplicates(rows_query)
        run._refuse_white_space()
        return run

    @classmethod
    def from_blocks(cls, query_ids: Sequence[str], blocks: Sequence[tuple[npt.NDArray[Any], ...]]) -> "Run":
        """`from_rows` of (rows_query, doc_ids, scores) in parts, possibly none."""
        empty = (np.empty(0, np.int64), np.empty(0, "S1"), np.empty(0, np.float32))
        rows_query, doc_ids, scores = (np.concatenate(column) for column in zip(*(blocks or [empty]), strict=True))
        return cls.from_rows(query_ids, rows_query, doc_ids, scores)

    @classmethod
    def of(cls, results: Mapping[str, Mapping[str, float] | Iterable[tuple[str, float]]]) -> "Run":
        """Make a run from {query id: {document id: score}} or {query id: [(document id, score), …]}.

        Ids may be whole numbers. Raises InputError for results that are neither, and as the class.
        """
        query_ids, rows_query, doc_ids, scores = [], [], [], []
        for index, (query_id, rows) in enumerate(results.items()):
            query_ids.append(ids.checked(query_id, "the query id"))
            for doc_id, score in _pairs(query_ids[-1], rows):
                rows_query.append(index)
                doc_ids.append(ids.checked(doc_id, f"query {query_ids[-1]!r}: the document id").encode())
                scores.append(_number(score, query_ids[-1], doc_id))
        if len(set(query_ids)) != len(query_ids):
            raise InputError("two query ids are alike: a number stands for its digits. Keep one.")
        columns = (np.array(rows_query), np.array(doc_ids, dtype=np.bytes_), np.array(scores, dtype=np.float64))
        return cls.from_blocks(query_ids, [columns] if doc_ids else [])

    def _refuse_duplicates(self, rows_query: npt.NDArray[np.integer]) -> None:
        row = repeated(rows_query, self.doc_ids)
        if row is not None:
            query, doc_id = self.query_ids[rows_query[row]], self.doc_ids[row].decode()
            raise InputError(
                f"document {doc_id!r} occurs twice in the results of query {query!r}; a run holds it once."
            )

    @property
    def silent(self) -> int:
        """How many queries have no results."""
        return int(np.sum(np.diff(self.offsets) == 0))

    def _refuse_white_space(self) -> None:
        """A TREC file separates its columns by white space, so no id may hold any."""
        letters = self.doc_ids.view(np.uint8).reshape(-1, self.doc_ids.itemsize)  # [R, bytes], zeros at the end
        wrong = ((letters <= ord(" ")) & (letters > 0)).any(axis=1) | (letters[:, 0] == 0)
        if wrong.any():
            doc_id = self.doc_ids[int(np.flatnonzero(wrong)[0])].decode()
            raise InputError(f"the document id {ids.fault(doc_id)}.")

    def rows(self, index: int) -> tuple[Strings, Floats]:
        """Document ids and scores of query number `index`, best first."""
        low, high = int(self.offsets[index]), int(self.offsets[index + 1])
        return self.doc_ids[low:high], self.scores[low:high]

    def without_self(self, top_k: int) -> "Run":
        """Drop each query's own document (same id) and keep the first `top_k` of the rest."""
        rows_query = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        own = np.array([q.encode() for q in self.query_ids], dtype=np.bytes_)
        keep = own[rows_query] != self.doc_ids if len(self.doc_ids) else np.zeros(0, dtype=bool)
        return self._first(top_k, keep)

    def first(self, top_k: int) -> "Run":
        """The first `top_k` of each query."""
        return self._first(top_k, np.ones(len(self.doc_ids), dtype=bool))

    def _first(self, top_k: int, keep: npt.NDArray[np.bool_]) -> "Run":
        rows_query = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        rows_query, doc_ids, scores = rows_query[keep], self.doc_ids[keep], self.scores[keep]
        counts = np.bincount(rows_query, minlength=len(self))
        rank = np.arange(len(rows_query)) - np.repeat(np.cumsum(counts) - counts, counts)
        first = rank < top_k
        offsets = np.concatenate(([0], np.cumsum(np.minimum(counts, top_k)))).astype(np.int64)
        return Run(self.query_ids, offsets, doc_ids[first], scores[first])


def _pairs(query_id: str, rows: object) -> Iterable[tuple[object, object]]:
    """The (document id, score) of a query. Raises InputError for results in another form."""
    if isinstance(rows, Mapping):
        return rows.items()
    want = "want {document id: score} or [(document id, score), …]"
    if isinstance(rows, str | bytes) or not isinstance(rows, Iterable):
        raise InputError(f"the results of query {query_id!r} are {rows!r:.60}; {want}.")
    found = list(rows)
    for row in found:
        if not isinstance(row, Sequence) or isinstance(row, str | bytes) or len(row) != 2:
            raise InputError(f"the results of query {query_id!r} hold {row!r:.60}; {want}.")
    return found


def _number(score: object, query_id: str, doc_id: object) -> float:
    try:
        if not isinstance(score, str | bytes):
            return float(score)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        pass
    raise InputError(f"the score of document {doc_id!r} for query {query_id!r} is {score!r:.60}; want a number.")
