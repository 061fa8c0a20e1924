"""Every compiled loop of the exact search, called once on a small store; see `harness.retrievers.compile_ahead`."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.retrievers.encoding import store
from harness.retrievers.encoding.vectors import HybridQueries, HybridVectors
from harness.retrievers.search import exact, loops
from harness.retrievers.search.final import Part

_DOCUMENTS, _QUERIES, _WIDTH, _TERMS, _VOCABULARY = 96, 3, 16, 8, 64


def first_kernel() -> Any:
    """One of the compiled functions."""
    return loops.final


def compile_all(*halves: str) -> None:
    """Search with the `halves`, "dense" and "lexical" or one of them, as a run does: from shards that are mapped."""
    draw = np.random.default_rng(0)
    width, terms = _WIDTH * ("dense" in halves), _TERMS * ("lexical" in halves)
    ids = [np.sort(draw.choice(_VOCABULARY, terms, replace=False)) for _ in range(_DOCUMENTS)]
    vectors = HybridVectors(
        draw.standard_normal((_DOCUMENTS, width)).astype(np.float16),
        np.array(ids, dtype=np.uint16).reshape(_DOCUMENTS, terms),
        draw.uniform(0.5, 1, (_DOCUMENTS, terms)).astype(np.float16),
    )
    weights = draw.uniform(0.5, 1, (_QUERIES, _VOCABULARY if terms else 0)).astype(np.float32)
    queries = HybridQueries(draw.standard_normal((_QUERIES, width)).astype(np.float32), weights)
    header = store.Header("", "", {}, "", {}, "", _DOCUMENTS, _DOCUMENTS)
    with tempfile.TemporaryDirectory() as folder:
        store.write(Path(folder), header, 0, vectors, [f"d{number}" for number in range(_DOCUMENTS)])
        shard = store.read(Path(folder), header, 0, HybridVectors)
        parts, names = [Part(0, shard.vectors)], store.Ids({0: shard})
        exact.search(queries, parts, 4, exact.path_for(parts, torch.device("cpu"), 1, "compiled"), names, 1)
