"""Text → vectors by an OpenAI-compatible endpoint; nothing that it answers is taken unchecked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from harness.retrievers.encoding.text_form import Text, passage_texts, prefixed
from harness.retrievers.encoding.vectors import HybridQueries, HybridVectors, Single
from harness.retrievers.errors import InputError
from harness.retrievers.remote.client import Client
from harness.retrievers.types import Document, Query

_GREATEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Use:
    """How a model is used, as far as it decides the vectors."""

    similarity: Literal["dot", "cosine"] = "cosine"  # cosine: vectors are brought to length 1
    titles: Literal["space", "none"] = "space"
    query_prefix: str = ""
    passage_prefix: str = ""
    max_characters: int | None = None  # of a text with its prefix
    dimensions: int | None = None


@dataclass
class EndpointEncoder:
    """Encodes with `model` at `url`; `width` is that of every vector, once it is known."""

    client: Client
    url: str
    model: str
    use: Use
    batch_size: int
    width: int | None = field(default=None, init=False)
    kind: ClassVar[type[HybridVectors]] = HybridVectors

    def documents(self, docs: Sequence[Document], done: Callable[[int], None]) -> HybridVectors:
        """Encode passages: [n,D] in 16 bits, nothing lexical.

        Raises InputError for an answer that is not as many finite vectors of one width, or that 16 bits cannot hold.
        """
        import torch

        from harness.retrievers.encoding.encode import halves

        ids = [doc.doc_id for doc in docs]
        texts = passage_texts(docs, self.use.titles, "", None, self.use.passage_prefix)
        vectors = self._encode(texts, [f"document {doc_id!r}" for doc_id in ids], done)
        if (too_large := (np.abs(vectors) > _GREATEST).any(axis=1)).any():
            raise InputError(
                f"the vector of document {ids[int(np.flatnonzero(too_large)[0])]!r} holds values beyond 65,504, which "
                "16 bits cannot. Compare by cosine (similarity cosine)."
            )
        none = np.zeros((len(docs), 0))
        return HybridVectors(halves(torch.from_numpy(vectors), ids), none.astype(np.uint16), none.astype(np.float16))

    def queries(self, queries: Sequence[Query]) -> HybridQueries:
        """Encode queries: [Q,D] in 32 bits, nothing lexical. Raises InputError as `documents`."""
        texts = prefixed(self.use.query_prefix, [query.text for query in queries])
        vectors = self._encode(texts, [f"query {query.query_id!r}" for query in queries], lambda _count: None)
        return HybridQueries(vectors, np.zeros((len(queries), 0), dtype=np.float32))

    def expect(self, width: int) -> None:
        """Keep the width of vectors. Raises InputError where it is not that of others, or not `dimensions`."""
        if self.width is None:
            self.width = width
        if self.use.dimensions not in (None, width):
            raise InputError(
                f"{self.url}: asked for {self.use.dimensions:,} dimensions, {self.model} gave {width:,} values. "
                "It cannot shorten: leave -o dimensions out."
            )
        if width != self.width:
            raise InputError(
                f"{self.url}: {self.model} gave vectors of {self.width:,} values and of {width:,}. If the model behind "
                "the name has changed since passages were stored, give -o revision=NAME to encode anew."
            )

    def _encode(self, texts: Sequence[Text], names: Sequence[str], done: Callable[[int], None]) -> Single:
        """Vectors [n,D] of texts, in their order; `names` says in errors whose they are."""
        plain = [self._sent(str(text)) for text in texts]

        def batch(start: int) -> Single:
            some = slice(start, start + self.batch_size)
            body: dict[str, Any] = {"model": self.model, "input": plain[some]}
            if self.use.dimensions is not None:
                body["dimensions"] = self.use.dimensions
            answer = self.client.ask("POST", f"{self.url}/embeddings", body=body).value
            try:
                return self._compared(vectors_of(answer, len(plain[some])))
            except ValueError as error:
                raise InputError(f"{self.url}: {self.model} {error}, from {names[start]} on.") from error

        found = []
        for vectors in self.client.each(batch, range(0, len(plain), self.batch_size)):
            self.expect(vectors.shape[1])
            found.append(vectors)
            done(len(vectors))
        return np.concatenate(found)

    def _sent(self, text: str) -> str:
        """What is sent of a text: one space of an empty one, since some services refuse those."""
        return text[: self.use.max_characters] or " "

    def _compared(self, vectors: Single) -> Single:
        if self.use.similarity == "dot":
            return vectors
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)  # [n,1]
        return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def vectors_of(answer: Any, count: int) -> Single:
    """The `count` vectors [n,D] of an answer, in the order of their `index`.

    Raises ValueError for any other number of them, numbers that are not each index once, vectors of several widths, or
    values that are no finite numbers; the message continues a sentence about the model.
    """
    data = answer.get("data") if isinstance(answer, Mapping) else None
    if not isinstance(data, list):
        raise ValueError("answered without a list `data`, which OpenAI's format has")
    if len(data) != count:
        raise ValueError(f"gave {len(data):,} vectors for {count:,} texts")
    rows: list[Any] = [None] * count
    for item in data:
        index = item.get("index") if isinstance(item, Mapping) else None
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count or rows[index] is not None:
            raise ValueError(f"gave a vector the index {index!r:.20}; want each of 0 to {count - 1:,} once")
        rows[index] = item.get("embedding")
        if not isinstance(rows[index], list) or not rows[index]:
            raise ValueError(f"gave no list of numbers as `embedding` {index:,}")
    if len(widths := sorted({len(row) for row in rows})) > 1:
        raise ValueError(f"gave vectors of {widths[0]:,} and of {widths[-1]:,} values in one answer")
    try:
        found = np.array(rows)
    except ValueError:  # lists of unequal length inside
        found = np.array(None)
    if found.ndim != 2 or found.dtype.kind not in "fiu":
        raise ValueError("gave vectors that hold something else than numbers")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
        vectors: Single = found.astype(np.float32)
    if not (finite := np.isfinite(vectors).all(axis=1)).all():
        raise ValueError(f"gave a vector ({int(np.flatnonzero(~finite)[0]) + 1:,} of {count:,}) that is not finite")
    return vectors
