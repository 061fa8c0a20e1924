"""Text → vectors by sentence-transformers' own `encode_query` and `encode_document`, in the form that a store keeps."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from harness.retrievers.encoding.encode import halves
from harness.retrievers.encoding.vectors import HybridQueries, HybridVectors, Single, TermIds, term_id_type
from harness.retrievers.errors import InputError
from harness.retrievers.types import Document, Query

_BATCHES = 16  # that the library is handed at once: between two of them the progress is shown


@dataclass(frozen=True)
class LibraryEncoder(ABC):
    """A model that sentence-transformers loaded, and how it is used.

    A prompt is the text that the library puts before each text; `titles` says whether a passage's title comes before
    its text, with a space between; `cosine` has every vector brought to length 1.
    """

    model: Any  # a SentenceTransformer or a SparseEncoder
    batch_size: int
    cosine: bool
    titles: bool
    query_prompt: str
    document_prompt: str
    kind: ClassVar[type[HybridVectors]] = HybridVectors

    @abstractmethod
    def documents(self, docs: Sequence[Document], done: Callable[[int], None]) -> HybridVectors:
        """Encode passages; `done` hears how many."""

    @abstractmethod
    def _vectors(self, encode: Any, texts: list[str], prompt: str) -> Any:
        """The library's vectors of `texts`, in 32 bits."""

    def queries(self, queries: Sequence[Query]) -> HybridQueries:
        """Encode queries: [Q,D] and [Q,V], of which one is empty. Raises InputError for values that are not finite."""
        vectors = self._vectors(self.model.encode_query, [query.text for query in queries], self.query_prompt)
        values: Single = np.ascontiguousarray(np.asarray(vectors), dtype=np.float32)
        if (wrong := ~np.isfinite(values).all(axis=1)).any():
            query_id = queries[int(np.flatnonzero(wrong)[0])].query_id
            raise InputError(f"the vector of query {query_id!r} is not finite. Is the checkpoint damaged?")
        return self._as_queries(values)

    @abstractmethod
    def _as_queries(self, values: Single) -> HybridQueries: ...

    def _pieces(self, docs: Sequence[Document], done: Callable[[int], None]) -> Iterator[tuple[list[int], Any]]:
        """Yield (places, vectors) of passages of near length, the longest first, as the library itself has them."""
        texts = [doc.joined if self.titles else doc.text for doc in docs]
        order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
        step = self.batch_size * _BATCHES
        for start in range(0, len(order), step):
            places = order[start : start + step]
            yield (
                places,
                self._vectors(self.model.encode_document, [texts[place] for place in places], self.document_prompt),
            )
            done(len(places))


@dataclass(frozen=True)
class DenseEncoder(LibraryEncoder):
    """A SentenceTransformer; `truncate_dim` keeps the first values of a vector."""

    truncate_dim: int | None = None

    def documents(self, docs: Sequence[Document], done: Callable[[int], None]) -> HybridVectors:
        """Encode passages: [n,D] in 16 bits. Raises InputError for a vector that is too small for these."""
        dense: npt.NDArray[np.float16] | None = None
        for places, vectors in self._pieces(docs, done):
            if dense is None:
                dense = np.empty((len(docs), vectors.shape[1]), np.float16)
            dense[places] = halves(torch.from_numpy(vectors), [docs[place].doc_id for place in places])
        assert dense is not None  # a shard holds a document at least
        return HybridVectors(dense, np.zeros((len(docs), 0), np.uint16), np.zeros((len(docs), 0), np.float16))

    def _vectors(self, encode: Any, texts: list[str], prompt: str) -> Any:
        found = encode(
            texts,
            prompt=prompt,
            batch_size=self.batch_size,
            show_progress_bar=False,
            convert_to_numpy=True,
            normalize_embeddings=self.cosine,
            truncate_dim=self.truncate_dim,
        )
        return np.asarray(found, dtype=np.float32)

    def _as_queries(self, values: Single) -> HybridQueries:
        return HybridQueries(values, np.zeros((len(values), 0), np.float32))


@dataclass(frozen=True)
class SparseEncoder(LibraryEncoder):
    """A SparseEncoder: a lexical half alone, of whose weights none that is not 0 is left out.

    K of a shard is the most that any of its documents has. `max_active_dims` keeps the largest of a text.
    """

    max_active_dims: int | None = None

    def documents(self, docs: Sequence[Document], done: Callable[[int], None]) -> HybridVectors:
        """Encode passages: term ids, ascending, and weights, both [n,K]. Raises InputError as `DenseEncoder`."""
        found: list[tuple[list[int], TermIds, Single]] = []
        for places, vectors in self._pieces(docs, done):
            found.append((places, *pairs(vectors.numpy())))
        width = max(ids.shape[1] for _, ids, _ in found)
        ids = np.zeros((len(docs), width), found[0][1].dtype)
        weights = np.zeros((len(docs), width), np.float16)
        for places, terms, values in found:
            ids[places, : terms.shape[1]] = terms
            kept = halves(torch.from_numpy(values), [docs[place].doc_id for place in places])
            weights[places, : terms.shape[1]] = kept
        return HybridVectors(np.zeros((len(docs), 0), np.float16), ids, weights)

    def _vectors(self, encode: Any, texts: list[str], prompt: str) -> torch.Tensor:
        found: torch.Tensor = encode(
            texts,
            prompt=prompt,
            batch_size=self.batch_size,
            show_progress_bar=False,
            convert_to_tensor=True,
            convert_to_sparse_tensor=False,
            save_to_cpu=True,
            max_active_dims=self.max_active_dims,
        )
        return torch.nn.functional.normalize(found.float(), dim=1) if self.cosine else found.float()

    def _as_queries(self, values: Single) -> HybridQueries:
        return HybridQueries(np.zeros((len(values), 0), np.float32), values)


def pairs(weights: Single) -> tuple[TermIds, Single]:
    """The weights [n,V] that are not 0 as term ids, ascending, and values, both [n,K]: K is the most of any row."""
    rows, terms = np.nonzero(weights)
    counts = np.bincount(rows, minlength=len(weights))
    places = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)  # within its row
    ids = np.zeros((len(weights), int(counts.max(initial=0))), term_id_type(weights.shape[1]))
    values = np.zeros(ids.shape, np.float32)
    ids[rows, places], values[rows, places] = terms, weights[rows, terms]
    return ids, values
