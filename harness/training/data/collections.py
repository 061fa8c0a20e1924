"""Training collections: opened by the one loader, tokenised once, and turned into rows that training can pick from."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from harness.datasets.dataset import Dataset
from harness.datasets.loader import resolve
from harness.models.finetuning.examples import Examples
from harness.models.training import tokens
from harness.models.training.tokens import Ragged, Tokens
from harness.retrievers.errors import InputError
from harness.retrievers.mining import Rows
from harness.retrievers.types import Job
from harness.runtime.hashing import digest


@dataclass(frozen=True)
class Collection:
    """One training collection: rows of documents, and the rows that answer each of its queries."""

    dataset: Dataset
    rows: Rows
    positives: Ragged


class Training:
    """All collections that a recipe trains on. Documents of the second come after those of the first, and so on."""

    def __init__(self, places: Sequence[str], job: Job) -> None:
        self.job = job
        self.collections = [_collection(dataset) for dataset in opened(places, job)]

    def stamp(self) -> list[Any]:
        """The content hashes of everything that decides the examples."""
        sets = [c.dataset for c in self.collections]
        return [[d.name, d.content_hash, d.queries_hash, d.qrels_hash, d.rules.binary_level] for d in sets]

    @cached_property
    def positives(self) -> Ragged:
        """Rows of all collections that answer each query of all."""
        return self.joined([c.positives for c in self.collections])

    def joined(self, parts: Sequence[Ragged]) -> Ragged:
        """Rows of each collection's own as rows of all."""
        first = np.cumsum([0, *(c.dataset.count for c in self.collections)])
        flat = np.concatenate([part.flat + start for part, start in zip(parts, first, strict=False)])
        return Ragged(flat, np.concatenate(([0], np.concatenate([part.lengths for part in parts]).cumsum())))

    def tokens(
        self, tokenizer: Any, label: str, query_length: int, passage_length: int, prefixes: tuple[str, str] = ("", "")
    ) -> tuple[Tokens, Tokens]:
        """Token ids of all queries and of all documents, lengths without special tokens; cached by their contents.

        `label` is a hash of the tokenizer; `prefixes` come before each query and each document.
        """
        sets = [c.dataset for c in self.collections]
        folder = self.job.cache / "tokens"

        def stored(kind: str, parts: Iterable[str], prefix: str, length: int, hashes: list[str], total: int) -> Tokens:
            key = digest([kind, label, length, hashes, *([prefix] if prefix else [])])
            texts = (prefix + text for text in parts)
            with self.job.phase(f"tokenise {kind}", total, kind) as meter:
                return tokens.write(folder / key, tokenizer, texts, length, done=meter.advance).tokens

        return (
            stored(
                "queries",
                (query.text for d in sets for query in d.queries),
                prefixes[0],
                query_length,
                [d.queries_hash for d in sets],
                sum(len(d.queries) for d in sets),
            ),
            stored(
                "documents",
                (doc.joined for d in sets for doc in d.documents()),
                prefixes[1],
                passage_length,
                [d.content_hash for d in sets],
                sum(d.count for d in sets),
            ),
        )


def opened(places: Iterable[str], job: Job) -> Iterator[Dataset]:
    """The collections at these places, each opened when it comes to it. Raises InputError as the loader."""
    for place in places:
        for dataset in resolve(place, queries_with_text=True):  # nothing is learnt from a query without text
            dataset.open(job)
            yield dataset


def _collection(dataset: Dataset) -> Collection:
    """Rows of the documents. Raises InputError for a query none of whose positives the corpus has."""
    rows = Rows(doc.doc_id for doc in dataset.documents())
    level = dataset.rules.binary_level
    found = []
    for query in dataset.queries:
        wanted = [doc_id for doc_id, grade in dataset.qrels[query.query_id].items() if grade >= level]
        here = rows.of(np.array([doc_id.encode() for doc_id in wanted], dtype=np.bytes_)) if wanted else np.empty(0)
        if not (here >= 0).any():
            what = f"its positives are {', '.join(wanted[:3])}" if wanted else f"no judgment of it reaches {level}"
            raise InputError(
                f"{dataset.name}: the corpus has nothing that answers the training query {query.query_id!r} ({what}). "
                f"Mend the judgments in {dataset.source.location}, or take the query out."
            )
        found.append(here[here >= 0])
    return Collection(dataset, rows, Ragged.of(found))


def examples(
    training: Training, texts: tuple[Tokens, Tokens], negatives: Ragged | None = None, teacher: Ragged | None = None
) -> Examples:
    """Put together what a fine-tuning stage or the teacher learns from."""
    return Examples(texts[0], texts[1], training.positives, negatives, teacher)
