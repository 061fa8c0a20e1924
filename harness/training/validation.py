"""Scores of a model under training, on a collection held out for it."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from harness.datasets.dataset import Dataset
from harness.metrics.names import parse_metrics
from harness.metrics.scoring import Scores, score
from harness.models.checkpoints.checkpoint import Loaded
from harness.models.finetuning.task import FinetuneTask
from harness.retrievers.encoding import rarity
from harness.retrievers.encoding.encode import TextEncoder
from harness.retrievers.encoding.vectors import HybridQueries, HybridVectors
from harness.retrievers.search import exact
from harness.retrievers.search.final import Part
from harness.retrievers.types import Document, Query, Run

_METRICS = ("MRR@10", "NDCG@10")
_TOP = 10
_DOCUMENTS_AT_ONCE, _QUERIES_AT_ONCE = 4_096, 256


def _silent(_count: int) -> None:
    """Progress is the training's."""


class _Names:
    """Document ids by their place, as the search asks for them."""

    def __init__(self, docs: list[Document]) -> None:
        self._ids = np.array([doc.doc_id.encode() for doc in docs], dtype=np.bytes_)

    def __call__(self, rows: Any) -> Any:
        return self._ids[rows]


@dataclass(frozen=True)
class Encoded:
    """A held-out collection as one state of a model encodes it."""

    parts: list[Part]
    queries: list[HybridQueries]  # in blocks


class Validator:
    """Encodes a held-out collection with the weights of now, searches it exactly, scores the run.

    With `most` only the judged documents and the first others up to that number are searched: good for following a
    training, not comparable with scores on the whole.
    """

    def __init__(self, dataset: Dataset, most: int | None) -> None:
        self.dataset = dataset  # opened
        self.docs = list(self._documents(most))
        self.names = _Names(self.docs)

    def _documents(self, most: int | None) -> Iterator[Document]:
        if most is None:
            return self.dataset.documents()
        judged = {doc_id for grades in self.dataset.qrels.values() for doc_id in grades}
        wanted = (doc for doc in self.dataset.documents() if doc.doc_id in judged)
        others = (doc for doc in self.dataset.documents() if doc.doc_id not in judged)
        return itertools.chain(wanted, itertools.islice(others, max(0, most - len(judged))))

    def scores(self, student: Loaded, device: torch.device) -> dict[str, float]:
        """MRR@10 and NDCG@10, by metric and collection."""
        found = self.scored(self.encode(student, device), device).mean()
        return {f"{name} on {self.dataset.name}": value for name, value in found.items()}

    def encode(self, student: Loaded, device: torch.device) -> Encoded:
        """All documents and all queries."""
        encoder, queries = TextEncoder(student, device), self.dataset.queries
        parts = []
        for start in range(0, len(self.docs), _DOCUMENTS_AT_ONCE):
            vectors: HybridVectors = encoder.documents(self.docs[start : start + _DOCUMENTS_AT_ONCE], _silent)
            parts.append(Part(start, vectors))
        encode: Callable[[Sequence[Query]], HybridQueries] = encoder.queries
        spec = student.spec
        if spec.lexical_idf and spec.lexical:
            frequency = rarity.frequencies((part.vectors for part in parts), student.vocabulary)
            encode = rarity.weighed(encode, rarity.weights(frequency, len(self.docs), spec.lexical_idf))
        starts = range(0, len(queries), _QUERIES_AT_ONCE)
        return Encoded(parts, [encode(queries[start : start + _QUERIES_AT_ONCE]) for start in starts])

    def scored(self, encoded: Encoded, device: torch.device, factor: float = 1.0) -> Scores:
        """MRR@10 and NDCG@10 of the exact search, the lexical half weighed by `factor` times the model's own scale."""
        threads = torch.get_num_threads()
        path = exact.path_for(encoded.parts, device, threads)
        blocks: list[tuple[Any, Any, Any]] = []
        for block in encoded.queries:
            weighed = HybridQueries(block.dense, block.lexical * np.float32(factor))
            found = exact.named(exact.search(weighed, encoded.parts, _TOP, path, self.names, threads), self.names)
            blocks += [(np.full(len(ids), n), ids, values) for n, (ids, values) in enumerate(found, len(blocks))]
        run = Run.from_blocks([query.query_id for query in self.dataset.queries], blocks)
        return score(run, self.dataset.qrels, parse_metrics(_METRICS), self.dataset.rules.levels)


class Validated(FinetuneTask):
    """Fine-tuning that is followed on a held-out collection, where there is one."""

    _held_out: tuple[Validator, Loaded] | None = None

    def hold_out(self, validator: Validator, student: Loaded) -> None:
        """Score `student`, whose weights are those under training, on a collection."""
        self._held_out = validator, student

    def validate(self, accelerator: Any) -> dict[str, float]:
        """Scores of the weights, the temperature and the scale of now."""
        if self._held_out is None:
            return {}
        validator, student = self._held_out
        now = dataclasses.replace(student, spec=student.spec.replace(**self.extra()))
        return validator.scores(now, accelerator.device)
