"""Re-ranking: the scores of sentence-transformers' own CrossEncoder, the order, the record, and bad input."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder as Theirs
from torch import nn
from transformers import (
    BertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from harness.datasets.rules import FORUMS
from harness.models.checkpoints.weights import quiet
from harness.models.cross_encoder import reranker
from harness.models.cross_encoder import teacher as cross_encoder
from harness.models.cross_encoder.teacher import Joiner
from harness.models.errors import CheckpointError
from harness.models.training.tokens import Ragged
from harness.reports.records import records
from harness.retrievers import registry
from harness.retrievers.errors import InputError
from harness.retrievers.rerank import Reranker, RerankOptions, below
from harness.retrievers.run_files import trec
from harness.retrievers.types import Document, Query, Run
from harness.runs.config import build
from harness.runs.runner import run
from tests.support import tiny
from tests.support.cross_encoders import own, tokenizer
from tests.support.datasets import DOCS, write_beir
from tests.support.retrievers import Fixed, registered

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
SIZE = len(dict.fromkeys(tiny.VOCABULARY))
LONG = " ".join(["green pears"] * 120)
PAIRS = [
    ("red apples", "water runs to the sea"),
    ("what is a river bank", "money"),
    ("a", ""),
    ("fish", LONG),
    (LONG, "a bank"),
]


def foreign(folder, outputs=1, kind="bert", seed=0):
    torch.manual_seed(seed)
    if kind == "roberta":
        small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
        config = RobertaConfig(
            vocab_size=SIZE, max_position_embeddings=82, pad_token_id=0, initializer_range=0.3, num_labels=outputs,
            **small,
        )  # fmt: skip
        model = RobertaForSequenceClassification(config)
    else:
        model = BertForSequenceClassification(tiny.config(num_labels=outputs))
    with quiet():
        model.eval().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def scores(folder, pairs=PAIRS, length=None):
    return reranker.PairScorer(reranker.read(folder, length), CPU).score(pairs)


# --- scores


@pytest.mark.parametrize(("outputs", "kind"), [(1, "bert"), (2, "bert"), (1, "roberta")])
def test_scores_are_those_of_sentence_transformers(tmp_path, outputs, kind):
    """Its logits are ours, of two the difference; its sigmoid or softmax is the sigmoid of ours. Also of cut pairs."""
    folder = foreign(tmp_path / "ce", outputs, kind)
    with quiet():
        theirs = Theirs(str(folder), device="cpu", max_length=80, local_files_only=True)
    found = scores(folder, length=80)
    assert len(set(found.round(4).tolist())) == len(PAIRS)
    logits = theirs.predict(PAIRS, activation_fn=nn.Identity())
    np.testing.assert_allclose(found, logits if outputs == 1 else logits[:, 1] - logits[:, 0], rtol=1e-5, atol=1e-5)
    shown = theirs.predict(PAIRS) if outputs == 1 else theirs.predict(PAIRS, apply_softmax=True)[:, 1]
    np.testing.assert_allclose(1 / (1 + np.exp(-found)), shown, atol=1e-5)


def test_a_folder_that_sentence_transformers_saved(tmp_path):
    folder = foreign(tmp_path / "ce")
    with quiet():
        theirs = Theirs(str(folder), device="cpu", max_length=40, local_files_only=True)
        theirs.save_pretrained(str(tmp_path / "saved"))
    assert reranker.read(tmp_path / "saved").length == 40
    expected = theirs.predict(PAIRS, activation_fn=nn.Identity())
    np.testing.assert_allclose(scores(tmp_path / "saved"), expected, rtol=1e-5, atol=1e-5)


def test_our_teacher_scores_as_in_its_training(tmp_path):
    """As `teacher.score` on tokens cut at half the length and the length, as the stage `score` cuts them."""
    folder = own(tmp_path / "teacher", length=24)
    assert reranker.read(folder) == reranker.About(folder, True, 1, 24)
    plain = tokenizer()

    def cut(text, most):
        return plain(text, add_special_tokens=False, truncation=True, max_length=most)["input_ids"]

    queries, passages = Ragged.of(cut(q, 12) for q, _ in PAIRS), Ragged.of(cut(p, 24) for _, p in PAIRS)
    rows = Ragged.of([n] for n in range(len(PAIRS)))
    joiner = Joiner((plain.cls_token_id, plain.sep_token_id, plain.pad_token_id), 24)
    expected = cross_encoder.score(cross_encoder.load(folder), queries, passages, rows, joiner, CPU)
    np.testing.assert_allclose(scores(folder), expected.flat, atol=1e-5)


def test_batches_do_not_matter(tmp_path, monkeypatch):
    folder = foreign(tmp_path / "ce")
    whole = scores(folder)
    monkeypatch.setattr(reranker, "_TOKENS_AT_ONCE", 1)
    np.testing.assert_allclose(scores(folder), whole, atol=1e-5)
    assert scores(folder, []).shape == (0,)


# --- order


class Corpus:
    name, content_hash = "here", "abc"

    def __init__(self, docs):
        self.docs, self.read = docs, 0

    @property
    def count(self):
        return len(self.docs)

    def documents(self):
        self.read += 1
        return (Document(*doc) for doc in self.docs)


RUN = Run.of({"q1": {"d1": 9.0, "d2": 8.0, "d3": 7.0}, "q2": {}, "q3": {"d3": 2.0}})
ASKED = [Query("q1", "red apples"), Query("q2", "nothing"), Query("q3", "sea water")]


def ids(run, number):
    return [doc.decode() for doc in run.rows(number)[0]]


def test_the_first_are_re_ranked_and_the_rest_stay_below(tmp_path, job):
    made = Reranker(RerankOptions(checkpoint=str(foreign(tmp_path / "ce")), depth=2))
    found = made.rerank(RUN, Corpus(DOCS), ASKED, job)
    joined = {doc_id: f"{title} {text}" for doc_id, title, text in DOCS}
    expected = dict(
        zip(["d1", "d2"], scores(made.folder, [("red apples", joined[d]) for d in ("d1", "d2")]), strict=True)
    )
    best = sorted(expected, key=expected.__getitem__, reverse=True)
    assert ids(found, 0) == [*best, "d3"]
    values = found.rows(0)[1].tolist()
    assert values == pytest.approx([*(expected[d] for d in best), min(expected.values()) - 1], abs=1e-5)
    assert (ids(found, 1), ids(found, 2)) == ([], ["d3"])
    assert found.query_ids == RUN.query_ids


@pytest.mark.parametrize("least", [0.0, -3.25, 1e6, -4e7, 3e30])
def test_what_is_below_keeps_its_order_whatever_the_scores(least):
    made = below(least, 100_000)
    assert made[0] < np.float32(least)
    assert (np.diff(made) < 0).all()


def test_titles_are_read_or_not(tmp_path, job):
    folder = str(foreign(tmp_path / "ce"))
    values = [
        Reranker(RerankOptions(checkpoint=folder, titles=titles)).rerank(RUN, Corpus(DOCS), ASKED, job).scores[0]
        for titles in (True, False)
    ]
    assert values[0] != values[1]


def test_what_is_scored_is_kept_by_blocks(tmp_path, job, monkeypatch):
    """Stopped after the first of three blocks, the second call scores the other two; a damaged one is scored again."""
    monkeypatch.setattr("harness.retrievers.rerank._QUERIES_AT_ONCE", 1)
    made = Reranker(RerankOptions(checkpoint=str(foreign(tmp_path / "ce"))))
    truth = made.rerank(RUN, Corpus(DOCS), ASKED, job)
    files = sorted(job.cache.glob("rerank/*/*.npy"))
    assert len(files) == 2  # a query without results has nothing to score
    calls, score = [], reranker.PairScorer.score

    def counted(self, pairs, done):
        calls.append(len(pairs))
        return score(self, pairs, done)

    monkeypatch.setattr(reranker.PairScorer, "score", counted)
    corpus = Corpus(DOCS)
    again = made.rerank(RUN, corpus, ASKED, job)
    assert (calls, corpus.read) == ([], 0)
    np.testing.assert_array_equal(again.scores, truth.scores)
    files[0].write_bytes(files[0].read_bytes()[:-2])
    again = made.rerank(RUN, corpus, ASKED, job)
    assert (len(calls), corpus.read) == (1, 1)
    np.testing.assert_array_equal(again.scores, truth.scores)
    other = Reranker(RerankOptions(checkpoint=str(foreign(tmp_path / "other", seed=1))))
    assert other.rerank(RUN, Corpus(DOCS), ASKED, job).scores[0] != truth.scores[0]


# --- the record


@pytest.fixture
def fixed():
    class Here(Fixed):
        results = {"q1": {"d1": 2.0, "d2": 1.0}, "q2": {"d1": 1.0}}  # noqa: RUF012

    registry.available()  # ours are registered when they are first asked for
    with registered(fixed=Here):
        yield Here


def go(tmp_path, dataset, folder, **changes):
    asked = {"name": "fixed", "rerank": {"checkpoint": str(folder), "depth": 5}}
    values = {"retrievers": [asked], "datasets": [str(dataset)], "results": tmp_path / "results"}
    return run(build(values | changes, "test"), ["test"])


def test_the_record_says_so(beir, tmp_path, fixed):
    dataset, folder = beir(), own(tmp_path / "teacher")
    first, second = go(tmp_path, dataset, folder)
    assert (first.found, second.found, fixed.searches) == (False, False, 1)
    assert first.record.manifest.system.reranked is None
    system = second.record.manifest.system
    assert (system.retriever, system.system, system.paper_rows) == ("fixed+rerank", "fixed, re-ranked", ())
    said = system.reranked
    assert (said.checkpoint, said.depth, said.length, said.outputs) == (str(folder), 5, 24, 1)
    assert said.first_stage == first.record.folder.name
    assert said.first_run_hash == first.record.manifest.files[records.RUN]
    assert second.record.folder.parts[-2] == "fixed+rerank"
    again = trec.read(second.record.folder / records.RUN)
    assert sorted(ids(again, 0)) == ["d1", "d2"]
    assert [outcome.found for outcome in go(tmp_path, dataset, folder)] == [True, True]
    # a depth, a checkpoint and a first stage of their own are records of their own
    deeper = go(tmp_path, dataset, folder, retrievers=[{"name": "fixed", "rerank": {"checkpoint": str(folder)}}])
    other = go(tmp_path, dataset, own(tmp_path / "other", seed=1))
    assert len({o.record.folder for o in (second, deeper[1], other[1])}) == 3
    assert {o[0].record.folder for o in (deeper, other)} == {first.record.folder}
    forced = go(tmp_path, dataset, folder, force=True)
    assert ([o.found for o in forced], fixed.searches) == ([False, False], 2)


def test_a_mean_of_collections_is_re_ranked_part_by_part(tmp_path, monkeypatch, fixed):
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    for forum in FORUMS:
        write_beir(tmp_path / "home" / "datasets" / "beir" / "cqadupstack" / forum)
    found = [outcome.record for outcome in go(tmp_path, "beir/cqadupstack", own(tmp_path / "teacher"))]
    assert len(found) == 2 * 13
    plain, again = found[12], found[25]
    assert [record.manifest.system.retriever for record in (plain, again)] == ["fixed", "fixed+rerank"]
    assert len(again.manifest.parts) == 12
    firsts = {record.manifest.system.reranked.first_stage for record in found[13:25]}
    assert firsts == {record.folder.name for record in found[:12]}


def test_a_querys_own_document_is_dropped_before_the_depth_counts(tmp_path, monkeypatch, fixed):
    """ArguAna: the first stage returns the query's own document on top; the one behind it is re-ranked."""
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    docs = [("q1", "", "red apples"), *DOCS]
    write_beir(tmp_path / "home" / "datasets" / "beir" / "arguana", docs=docs)
    fixed.results = {"q1": {"q1": 9.0, "d1": 2.0, "d2": 1.0}}
    asked = [{"name": "fixed", "rerank": {"checkpoint": str(own(tmp_path / "teacher")), "depth": 1}}]
    _, second = go(tmp_path, "beir/arguana", None, retrievers=asked)
    run_ = trec.read(second.record.folder / records.RUN)
    assert ids(run_, 0) == ["d1", "d2"]
    assert run_.rows(0)[1][0] != 2.0


def test_the_command(beir, tmp_path, cli):
    folder = foreign(tmp_path / "ce")
    answer = cli("run", "-r", "bm25", "-d", beir(), "--rerank", folder, "--depth", "2", "-m", "mrr@10")
    assert answer.code == 0, answer.err
    rows = answer.out.splitlines()[1:3]
    assert "bm25 (flat)" in rows[0]
    assert "bm25+rerank (flat, top 2 by ce)" in rows[1]


# --- bad input


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rerank", "ce3"], r"ce3 has 3 outputs .*has 1, the relevance, or 2"),
        (["--rerank", "encoder"], r"encoder holds a BertForMaskedLM.*scores no pairs"),
        (["--rerank", "gone/away/far"], "gone/away/far is not a folder"),
        (["--rerank", "ce1", "--depth", "0"], r"--rerank: depth: .*greater than or equal to 1, got 0"),
        (["--rerank", "ce1", "--depth", "9", "--top-k", "5"], "a depth of 9 cannot be re-ranked in runs of 5"),
        (["--depth", "5"], "--depth says how far to re-rank, and nothing re-ranks"),
    ],
)
def test_bad_input(tmp_path, bad, beir, words, message):
    foreign(tmp_path / "ce3", outputs=3)
    foreign(tmp_path / "ce1")
    tiny.save_hybrid(tmp_path / "encoder")
    assert re.search(message, bad("run", "-r", "bm25", "-d", beir(), *words))


def test_bad_checkpoints(tmp_path):
    def broken(name, change):
        folder = foreign(tmp_path / name)
        change(folder)
        return folder

    def edit(folder, file, **values):
        path = folder / file
        found = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps(found | values))

    def without(prefix):
        def change(folder):
            kept = {n: w for n, w in load_file(folder / "model.safetensors").items() if not n.startswith(prefix)}
            save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})

        return change

    def endless(folder):
        state = load_file(folder / "model.safetensors")
        state["classifier.bias"] += torch.inf
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    for name, change, message in (
        ("headless", without("classifier"), "lacks classifier.bias.*without the layer that scores a pair"),
        ("torn", without("bert.pooler"), "lacks bert.pooler.*it is damaged"),
        ("endless", endless, "classifier.bias holds values that are not finite"),
        ("prompted", lambda f: edit(f, "config_sentence_transformers.json", default_prompt_name="q"), "puts a prompt"),
    ):
        with pytest.raises(CheckpointError, match=message):
            scores(broken(name, change))
    with pytest.raises(CheckpointError, match=r"a length of 999 was asked for.*160 tokens at most"):
        reranker.read(foreign(tmp_path / "ce"), 999)


def test_a_document_that_the_corpus_lacks(tmp_path, job):
    made = Reranker(RerankOptions(checkpoint=str(foreign(tmp_path / "ce"))))
    with pytest.raises(InputError, match=r"1 documents of the run to re-rank are not in here \(d3\)"):
        made.rerank(RUN, Corpus(DOCS[:2]), ASKED, job)


def test_a_malformed_rerank_in_a_file(tmp_path):
    with pytest.raises(InputError, match=r"rerank.deep: unknown; there is checkpoint, depth, device, length, titles"):
        build({"retrievers": [{"name": "bm25", "rerank": {"checkpoint": "x", "deep": 3}}]}, "test")


def test_a_long_passage_scores_by_its_windows(tmp_path, job):
    """Against the pairs of the query with each window, scored one by one."""
    folder = foreign(tmp_path / "ce")
    text = " ".join(tiny.WORDS * 4)
    words = text.split()
    windows = [" ".join(words[start : start + 20]) for start in range(0, len(words), 10)]
    windows = windows[: next(n for n, one in enumerate(windows) if one.endswith(" ".join(words[-5:]))) + 1]
    pairs = [("red apples", window) for window in windows]
    each = reranker.PairScorer(reranker.read(folder, None), CPU).score(pairs)
    made = Reranker(RerankOptions(checkpoint=str(folder), windows="22/10"))  # 20 words, CLS and SEP
    got = made._by_passage([("red apples", text), ("red apples", "fish")], 1, Silent())
    assert got[0] == pytest.approx(max(each), abs=1e-5)
    for score, expected in (("first", each[0]), ("sum", sum(each)), ("top3", np.mean(sorted(each)[-3:]))):
        other = Reranker(RerankOptions(checkpoint=str(folder), windows="22/10", window_score=score))
        assert other._by_passage([("red apples", text)], 1, Silent())[0] == pytest.approx(expected, abs=1e-4)
    plain = Reranker(RerankOptions(checkpoint=str(folder)))
    assert plain._by_passage([("red apples", "fish")], 1, Silent())[0] == pytest.approx(got[1], abs=1e-5)
    assert "windows" in made.fingerprint()
    assert "windows" not in plain.fingerprint()
    with pytest.raises(ValueError, match="window_score says how windows make a score"):
        RerankOptions(checkpoint="x", window_score="sum")


class Silent:
    def advance(self, amount=1):
        pass
