"""Terms weighed by their rarity in the collection: by hand, in the search, and in a dissection."""

import json
import math

import numpy as np
import pytest
import torch

import harness
from harness.models import hybrid
from harness.models.checkpoints import checkpoint
from harness.retrievers.encoding import rarity
from harness.retrievers.encoding.vectors import HybridVectors
from harness.retrievers.registry import get
from harness.training.validation import Validator
from tests.support import tiny
from tests.support.datasets import opened, write_beir

pytestmark = pytest.mark.usefixtures("one_thread")
PAIRS = list(zip(tiny.WORDS, tiny.WORDS[5:], strict=False))
DOCS = [(f"d{n}", "", f"{one} {other} fish") for n, (one, other) in enumerate(PAIRS)]
QUERIES = [("q0", "red fish"), ("q1", "what is green"), ("q2", "river bank")]


def stored(rows):
    """Vectors of documents, each {term: weight}."""
    width = max(len(row) for row in rows)
    ids, weights = np.zeros((len(rows), width), np.uint16), np.zeros((len(rows), width), np.float16)
    for place, row in enumerate(rows):
        ids[place, : len(row)], weights[place, : len(row)] = list(row), list(row.values())
    return HybridVectors(np.zeros((len(rows), 0), np.float16), ids, weights)


def test_by_hand():
    """Term 0 is in both documents, term 2 in one; the padding (id 0, weight 0) and a weight below 0 do not count."""
    parts = [stored([{0: 1.0, 2: 3.0}]), stored([{0: 2.0, 3: -1.0}])]
    found = rarity.frequencies(parts, 4)
    assert found.tolist() == [2, 0, 1, 0]
    idf = [math.log(1 + 0.5 / 2.5), math.log(1 + 2.5 / 0.5), math.log(1 + 1.5 / 1.5), math.log(1 + 2.5 / 0.5)]
    for power in (0.5, 1.0):
        mean = (2 * idf[0] ** power + idf[2] ** power) / 3  # over the three terms that documents have
        expected = [one**power / mean for one in idf]
        assert rarity.weights(found, 2, power).tolist() == pytest.approx(expected, rel=1e-6)
    assert rarity.weights(found, 2, 0.0).tolist() == pytest.approx([1, 1, 1, 1])
    assert rarity.weights(np.zeros(3, np.int64), 2, 0.5).tolist() == [1, 1, 1]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.save_hybrid(tmp_path / "m", activation="log1p_relu", passage_length=32)
    write_beir(tmp_path / "col", DOCS, QUERIES, {"test": [(q, "d1", 1) for q, _ in QUERIES]})
    return tmp_path


def scores_by_hand(place, job, power):
    """Equation 12 with weighed queries, from the vectors that the encoder gives."""
    cls = get("dupmae")
    made = cls(cls.Options(checkpoint=str(place / "m")))
    corpus = opened(place / "col", job)
    docs = list(corpus.documents())
    vectors = made.encoder.documents(docs, lambda _: None)
    asked = made.query_encoder.queries(corpus.queries)
    weights = rarity.weights(rarity.frequencies([vectors], asked.lexical.shape[1]), len(docs), power)
    full = np.zeros((len(docs), asked.lexical.shape[1]))
    np.put_along_axis(full, vectors.term_ids.astype(np.int64), vectors.term_weights.astype(float), 1)
    lexical = (asked.lexical * weights).astype(float) @ full.T
    return asked.dense.astype(float) @ vectors.dense.astype(float).T, lexical, corpus


def test_the_search_weighs_queries(place, job):
    dense, lexical, corpus = scores_by_hand(place, job, 0.7)
    found = harness.run("dupmae", "col", checkpoint="m", lexical_idf=0.7)
    for number, query in enumerate(corpus.queries):
        expected = {doc_id: dense[number, n] + lexical[number, n] for n, (doc_id, _, _) in enumerate(DOCS)}
        assert found.to_dict()[query.query_id] == pytest.approx(expected, rel=1e-4)
    assert found.manifest.system.options["lexical_idf"] == 0.7
    plain = harness.run("dupmae", "col", checkpoint="m")
    assert plain.manifest.system.options["lexical_idf"] == 0.0
    assert plain.to_dict() != found.to_dict()
    assert plain.to_dict() == harness.run("dupmae", "col", checkpoint="m", lexical_idf=0.0).to_dict()


def test_shards_count_together(place):
    """Whatever the shards are, the frequencies are those of the collection."""
    whole = harness.run("dupmae", "col", checkpoint="m", lexical_idf=0.7)
    parts = harness.run("dupmae", "col", checkpoint="m", lexical_idf=0.7, shard_documents=4)
    for query_id, scores in whole.to_dict().items():
        assert parts.to_dict()[query_id] == pytest.approx(scores, rel=1e-5)


def test_a_checkpoint_may_say_so(place, job, cli):
    """Searched, taken apart and validated in training, it scores alike."""
    tiny.save_hybrid(place / "own", activation="log1p_relu", passage_length=32, lexical_idf=0.7)
    found = harness.run("dupmae", "col", checkpoint="own", metrics=["NDCG@10"])
    assert found.to_dict() == harness.run("dupmae", "col", checkpoint="m", lexical_idf=0.7).to_dict()
    answer = cli("dissect", "--checkpoint", "own", "-d", "col", "--json")
    assert answer.code == 0, answer.err
    [both] = [row for row in json.loads(answer.out)[0]["scores"] if row["searched"] == "both halves"][:1]
    assert both["metrics"]["NDCG@10"] == pytest.approx(found.metrics["NDCG@10"])
    student = checkpoint.load(place / "own", hybrid.read(place / "own"))
    validated = Validator(opened(place / "col", job), None).scores(student, torch.device("cpu"))
    assert validated["NDCG@10 on col/test"] == pytest.approx(found.metrics["NDCG@10"])


@pytest.mark.parametrize("value", [-0.1, 5, "x", True])
def test_what_no_power_is(place, value):
    with pytest.raises(ValueError, match="lexical_idf"):
        tiny.save_hybrid(place / "n", lexical_idf=value)
