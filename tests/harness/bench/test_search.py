"""`harness bench search`: what is searched, that it is checked before it is timed, and what is written."""

import json

import numpy as np
import pytest
import torch

from harness.bench import search, vectors
from harness.bench.options import BenchOptions
from harness.models import hybrid
from harness.models.checkpoints import checkpoint
from harness.retrievers.encoding.encode import TextEncoder
from harness.retrievers.encoding.huge_pages import roomy
from harness.retrievers.errors import InputError
from harness.retrievers.search import exact, quantised
from harness.retrievers.types import Document
from tests.support import tiny

TEXTS = [
    f"red apples grow on tree {number} and the water runs to the sea from bank {number % 7}" for number in range(60)
]


@pytest.fixture
def corpus(tmp_path):
    """60 distinct passages, each twice."""
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"_id": str(n), "text": text}) + "\n" for n, text in enumerate(TEXTS * 2)))
    return path


@pytest.fixture
def model(tmp_path):
    return tiny.save_hybrid(tmp_path / "model", query_length=16, passage_length=24)


def test_every_case_is_compared_and_described(cli, model, corpus, tmp_path, monkeypatch, one_thread):
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    words = ["--model", model, "--dataset", corpus, "--docs", 50, "--queries", 5, "--k", 10, "--rounds", 1]
    answer = cli("bench", "search", *words, "--threads", 1, "--json", tmp_path / "found.json")
    assert answer.code == 0, answer.err
    found = json.loads((tmp_path / "found.json").read_text())["search"]
    assert list(found) == ["hybrid/real", "lexical/real", "hybrid/uniform", "lexical/uniform", "dense/normal"]
    assert [entry["peer"] for entry in found.values()] == [
        "faiss-flat-768", "scipy-csr", "faiss-flat-768", "scipy-csr", "faiss-flat-768"
    ]  # fmt: skip
    real, uniform = found["hybrid/real"], found["hybrid/uniform"]
    assert (real["dense"], real["lexical"], real["docs"], real["queries"], real["k"]) == (16, 12, 50, 5, 10)
    assert (uniform["dense"], uniform["lexical"], uniform["vocabulary"]) == (384, 384, 30_522)
    assert found["dense/normal"]["dense"] == 768
    assert "postings" not in found["dense/normal"]
    for entry in found.values():
        assert entry["ratio"]["median"] == pytest.approx(entry["ours"]["median"] / entry["theirs"]["median"])
        assert 10 <= entry["candidates"] <= 50
    assert "hybrid/real: 50 documents of 16 + 12" in answer.out


def test_a_wrong_result_is_not_timed(monkeypatch, one_thread):
    inner = exact.search

    def wrong(*words):
        found = inner(*words)
        return [(rows, scores * np.float32(1.001)) for rows, scores in found]

    monkeypatch.setattr(exact, "search", wrong)
    with pytest.raises(RuntimeError, match=r"hybrid/uniform: query 0 is not the float64 oracle's"):
        search.search(BenchOptions(docs=80, queries=3, k=5, threads=1, rounds=1), print)


def test_a_better_document_left_out_is_noticed(monkeypatch, one_thread):
    inner = exact.search

    def short(queries, parts, k, *words):
        return [(rows[1:], scores[1:]) for rows, scores in inner(queries, parts, k + 1, *words)]

    monkeypatch.setattr(exact, "search", short)
    with pytest.raises(RuntimeError, match="not the float64 oracle's"):
        search.search(BenchOptions(docs=80, queries=3, k=5, threads=1, rounds=1), print)


def test_real_vectors_are_the_encoders_and_are_kept(model, corpus, tmp_path, monkeypatch, one_thread):
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    found, asked = vectors.real(model, str(corpus), 50, 10, 1)
    loaded = checkpoint.load(model, hybrid.read(model), quantised.dense_type())
    encoder = TextEncoder(loaded, torch.device("cpu"))
    expected = encoder.documents([Document(str(n), "", text) for n, text in enumerate(TEXTS[:50])], lambda _: None)
    for name in ("dense", "term_ids", "term_weights"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert asked.lexical.shape == (10, len(set(tiny.VOCABULARY)))
    assert ((asked.lexical != 0).sum(axis=1) > 12).all()  # full: no query is cut to its K best terms
    monkeypatch.setattr(TextEncoder, "documents", lambda *words: pytest.fail("encoded twice"))
    again, _ = vectors.real(model, str(corpus), 50, 10, 1)
    np.testing.assert_array_equal(again.dense, found.dense)


def test_bad_input(bad, model, corpus, tmp_path):
    words = ["bench", "search", "--model", model, "--dataset", corpus]
    assert "holds 60 distinct passages; 55 documents and 10 queries" in bad(*words, "--docs", 55, "--queries", 10)
    assert "belong together" in bad("bench", "search", "--model", model)
    tiny.save_hybrid(tmp_path / "dense", lexical=0)
    said = bad("bench", "search", "--model", tmp_path / "dense", "--dataset", corpus, "--docs", 5, "--queries", 5)
    assert "no hybrid.json with both halves" in said


def test_uniform_terms_are_distinct_and_ascend():
    found = vectors.uniform(300, 4, 384)
    ids = found.term_ids.astype(int)
    assert (np.diff(ids, axis=1) > 0).all()
    assert 29_000 < ids.max() < vectors.VOCABULARY
    assert np.bincount(ids.reshape(-1) // 3_053, minlength=10).min() > 10_000  # of 11,520 in each tenth
    assert (found.term_weights > 0).mean() > 0.99


def test_concentration_by_hand():
    """Four documents of two terms: term 1 in all, term 5 in three, term 9 in one."""
    found = vectors.concentration(np.array([[1, 5], [1, 5], [1, 5], [1, 9]], np.uint16))
    assert found["terms"] == 3
    assert found["share of the 100 commonest"] == 1.0
    assert found["terms in a tenth of the documents"] == 3
    many = vectors.concentration(np.arange(400, dtype=np.uint16).reshape(100, 4))
    assert many["share of the 100 commonest"] == 0.25
    assert many["terms in a tenth of the documents"] == 0


def test_roomy_arrays_are_arrays():
    for shape in ((3, 5), (700, 1_500), (0, 4)):
        found = roomy(shape, np.float32)
        assert found.shape == shape
        assert found.flags.c_contiguous
        assert found.flags.writeable
        assert not found.any()
        found[:] = 1
        assert found.sum() == found.size


def test_only_a_model_with_a_corpus(tmp_path):
    with pytest.raises(InputError, match="belong together"):
        search.search(BenchOptions(dataset="mini"), print)
