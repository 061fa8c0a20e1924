"""Text → token vectors: queries filled up with mask tokens, documents without punctuation, batched by length."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch

from harness.models.checkpoints.late import LoadedLate
from harness.models.training.batching import pad
from harness.retrievers.encoding.encode import batches, halves, longer
from harness.retrievers.encoding.text_form import Form, Text, passage_texts
from harness.retrievers.encoding.token_vectors import TokenQueries, TokenVectors
from harness.retrievers.errors import InputError
from harness.retrievers.types import Document, Query


@dataclass(frozen=True)
class TokenEncoder:
    """A loaded checkpoint on a device; `titles` says how a passage's title comes before its text, see `text_form`."""

    loaded: LoadedLate
    device: torch.device
    titles: Form = "space"
    missing_title: str = ""
    cut: list[int] = field(default_factory=list, compare=False)  # see `TextEncoder`
    kind: ClassVar[type[TokenVectors]] = TokenVectors

    def documents(self, docs: Sequence[Document], done: Callable[[int], None]) -> TokenVectors:
        """Encode passages: a vector of every token [T,D] but those that are skipped."""
        tokens = self._passages(docs)
        texts = self._texts(docs)
        room = self.loaded.spec.passage_length - len(self.loaded.passage_marker)
        full = [row[: len(row) - len(self.loaded.passage_marker)] for row in tokens]
        self.cut.append(longer(self.loaded.tokenizer, texts, full, room))
        keep = [self._kept(row) for row in tokens]
        offsets = np.concatenate(([0], np.cumsum([int(kept.sum()) for kept in keep], dtype=np.uint64)))
        found = np.empty((int(offsets[-1]), self.loaded.width), dtype=np.float16)
        for places, vectors in self._encode(tokens, [len(row) for row in tokens]):
            whose = [docs[place].doc_id for place in places for _ in range(vectors.shape[1])]
            stored = halves(vectors.flatten(0, 1), whose).reshape(vectors.shape)
            for place, own in zip(places, stored, strict=True):
                found[int(offsets[place]) : int(offsets[place + 1])] = own[: len(tokens[place])][keep[place]]
            done(len(places))
        return TokenVectors(found, offsets.astype(np.uint64))

    def queries(self, queries: Sequence[Query]) -> TokenQueries:
        """Encode queries: a vector of every token [T,D], of those that fill up as well.

        Raises InputError for vectors that are not finite.
        """
        loaded, spec = self.loaded, self.loaded.spec
        texts = [spec.query_prefix + query.text for query in queries]
        tokens = self._tokens(texts, spec.query_length, loaded.query_marker)
        attended = [max(len(row), spec.query_least) if spec.attend else len(row) for row in tokens]
        tokens = [[*row, *([loaded.filler] * (spec.query_least - len(row)))] for row in tokens]
        offsets = np.concatenate(([0], np.cumsum([len(row) for row in tokens]))).astype(np.int64)
        found = np.empty((int(offsets[-1]), loaded.width), dtype=np.float32)
        for places, vectors in self._encode(tokens, attended):
            for place, own in zip(places, vectors.cpu().numpy(), strict=True):
                found[offsets[place] : offsets[place + 1]] = own[: len(tokens[place])]
        wrong = np.flatnonzero(~np.isfinite(found).all(axis=1))
        if len(wrong):
            query = queries[int(np.searchsorted(offsets, wrong[0], side="right")) - 1]
            raise InputError(f"a vector of query {query.query_id!r} is not finite. Is the checkpoint damaged?")
        return TokenQueries(found, offsets)

    def lengths(self, docs: Sequence[Document]) -> npt.NDArray[np.int64]:
        """How many vectors each passage would have [n]; nothing is encoded."""
        return np.array([int(self._kept(row).sum()) for row in self._passages(docs)], dtype=np.int64)

    def _passages(self, docs: Sequence[Document]) -> list[list[int]]:
        return self._tokens(self._texts(docs), self.loaded.spec.passage_length, self.loaded.passage_marker)

    def _texts(self, docs: Sequence[Document]) -> list[Text]:
        separator, prefix = self.loaded.tokenizer.sep_token, self.loaded.spec.passage_prefix
        return passage_texts(docs, self.titles, self.missing_title, separator, prefix)

    def _kept(self, tokens: Sequence[int]) -> npt.NDArray[np.bool_]:
        return ~np.isin(tokens, self.loaded.skipped)

    def _tokens(self, texts: Sequence[Text], length: int, marker: tuple[int, ...]) -> list[list[int]]:
        """Token ids, at most `length` with the marker, which comes behind the first."""
        if not texts:
            return []
        found = self.loaded.tokenizer(
            texts,
            truncation=True,
            max_length=length - len(marker),
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        return [[*row[:1], *marker, *row[1:]] for row in found["input_ids"]]

    @torch.inference_mode()
    def _encode(
        self, tokens: Sequence[Sequence[int]], attended: Sequence[int]
    ) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Yield (places, vectors [B,L,D]) of each batch; of text i its first `attended[i]` tokens are attended to."""
        for places in batches(tokens, self.device.type):
            input_ids, _ = pad([tokens[place] for place in places], self.loaded.tokenizer.pad_token_id or 0)  # [B,L]
            ends = torch.tensor([attended[place] for place in places]).unsqueeze(1)  # [B,1]
            mask = (torch.arange(input_ids.shape[1]) < ends).long()  # [B,L]
            vectors = self.loaded.encoder(input_ids.to(self.device), mask.to(self.device))  # [B,L,D]
            yield places, vectors
