"""Vectors to search: real ones, encoded from distinct passages and kept, and uniform ones, the worst case."""

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from harness.models import hybrid
from harness.models.checkpoints import checkpoint, hub
from harness.retrievers.encoding import encode
from harness.retrievers.encoding.huge_pages import roomy
from harness.retrievers.encoding.store import Header
from harness.retrievers.encoding.vectors import HybridQueries, HybridVectors
from harness.retrievers.errors import InputError
from harness.retrievers.places import cache
from harness.retrievers.search import quantised
from harness.retrievers.types import Document, Query
from harness.runtime.job import HarnessJob
from harness.training.data.corpora import texts
from harness.training.recipe_data import CorpusPart

VOCABULARY = 30_522  # of BERT, uncased
_WORDS = slice(5, 15)  # of a passage that is not searched: its query


@dataclass(frozen=True)
class _Passages:
    """Texts as a corpus: what `encoding.build` asks for."""

    name: str
    found: list[str]

    @property
    def count(self) -> int:
        return len(self.found)

    @property
    def content_hash(self) -> str:
        return hashlib.sha256("\0".join(self.found).encode()).hexdigest()

    def documents(self) -> Iterator[Document]:
        return (Document(f"{number:08}", "", text) for number, text in enumerate(self.found))


def real(model: Path, corpus: str, count: int, queries: int, threads: int) -> tuple[HybridVectors, HybridQueries]:
    """Encode `count` distinct passages of a corpus, and `queries` from words of the passages that come after them.

    The corpus is what a recipe may name: .jsonl or .txt (.gz, .xz), a BEIR folder or an ir_datasets id. The vectors are
    kept in the cache, shard by shard. Raises InputError for a corpus that is too small, or a model without both halves.
    """
    torch.set_num_threads(threads)
    found = list(itertools.islice(_distinct(corpus), count + queries))
    if len(found) < count + queries:
        raise InputError(
            f"--dataset {corpus} holds {len(found):,} distinct passages; {count:,} documents and {queries:,} "
            "queries are wanted. Give fewer, or a larger corpus."
        )
    spec = hybrid.read(model)
    if spec is None or not spec.lexical or not spec.dense:
        raise InputError(
            f"--model {model} has no hybrid.json with both halves. Name a checkpoint that a recipe trained."
        )
    dtype = quantised.dense_type()
    loaded = checkpoint.load(model, spec, dtype)
    encoder = encode.TextEncoder(loaded, torch.device("cpu"))
    passages = _Passages(corpus, found[:count])
    job = HarnessJob(cache(), threads)
    header = Header(
        checkpoint_hash=hub.content_hash(model),
        corpus_hash=passages.content_hash,
        spec={name: getattr(spec, name) for name in ("dense", "lexical", "passage_length", "passage_prefix")},
        precision=f"{dtype} on cpu",
        libraries={name: version(name) for name in ("tokenizers", "torch", "transformers")},
        batch_rule=encode.batch_rule(encoder.device.type),
        documents=count,
        shard_documents=16_384,
    )
    shards = encode.build(cache() / "bench" / header.key[:20], header, encoder, passages, job)
    vectors = [shard.vectors for shard in shards.values()]
    words = [" ".join(text.split()[_WORDS]) for text in found[count:]]
    asked = encoder.queries([Query(str(number), text) for number, text in enumerate(words)])
    names = ("dense", "term_ids", "term_weights")
    return HybridVectors(*(_joined([getattr(part, name) for part in vectors]) for name in names)), asked


def _distinct(corpus: str) -> Iterator[str]:
    seen: set[str] = set()
    for text in texts(CorpusPart(name=corpus), corpus):
        if text not in seen:
            seen.add(text)
            yield text


def _joined(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """In memory, as Faiss holds its vectors."""
    whole = roomy((sum(map(len, parts)), *parts[0].shape[1:]), parts[0].dtype)
    np.concatenate(parts, out=whole)
    return whole


def uniform(count: int, dense: int, lexical: int, seed: int = 0) -> HybridVectors:
    """Normal dense values; each document's terms are as likely as any other's, their weights exponential."""
    rng = np.random.default_rng(seed)
    vectors = HybridVectors(
        roomy((count, dense), np.float16), roomy((count, lexical), np.uint16), roomy((count, lexical), np.float16)
    )
    for start in range(0, count, 8_192):
        n = min(8_192, count - start)
        here = slice(start, start + n)
        vectors.dense[here] = rng.standard_normal((n, dense), np.float32)
        if lexical:
            # sorted draws with repetition, made distinct by adding 0, 1, 2, …
            drawn = np.sort(rng.integers(0, VOCABULARY - lexical + 1, (n, lexical), np.int32), axis=1)
            vectors.term_ids[here] = drawn + np.arange(lexical, dtype=np.int32)
            vectors.term_weights[here] = rng.standard_exponential((n, lexical), np.float32)
    return vectors


def full_queries(count: int, dense: int, lexical: int, seed: int = 1) -> HybridQueries:
    """Queries with a weight on every term."""
    rng = np.random.default_rng(seed)
    weights = roomy((count, VOCABULARY if lexical else 0), np.float32)
    weights[:] = rng.standard_exponential(weights.shape, np.float32)
    return HybridQueries(rng.standard_normal((count, dense), np.float32), weights)


def concentration(term_ids: npt.NDArray[np.unsignedinteger[Any]]) -> dict[str, float]:
    """How postings are spread: terms in use, and the share of all postings that the commonest hold."""
    counts = np.sort(np.bincount(term_ids.reshape(-1)))[::-1]
    shares = np.cumsum(counts) / counts.sum()
    found: dict[str, float] = {"terms": int((counts > 0).sum())}
    for most in (100, 1_000, 4_000):
        found[f"share of the {most:,} commonest"] = round(float(shares[min(most, len(shares)) - 1]), 4)
    found["terms in a tenth of the documents"] = int((counts >= 0.1 * len(term_ids)).sum())
    return found
