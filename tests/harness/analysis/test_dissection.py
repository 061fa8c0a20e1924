"""A hybrid taken apart: the same scores as its halves have in runs of their own, and fewer terms by brute force."""

import csv
import dataclasses

import numpy as np
import pytest

from harness.analysis.dissection import dissect, first_ranks
from harness.datasets.loader import resolve
from harness.metrics.names import parse_metrics
from harness.reports.dissection import (
    ALIKE,
    BOTH,
    DENSE,
    LEXICAL,
    NEITHER,
    Dissection,
    Scored,
    as_markdown,
    quality,
    write,
)
from harness.retrievers.encoding.encode import TextEncoder
from harness.retrievers.encoding.vectors import HybridVectors
from harness.retrievers.neural import halves
from harness.retrievers.neural.halves import narrowed
from harness.retrievers.neural.views import View
from harness.retrievers.run_files import trec
from harness.retrievers.types import Run
from harness.runs.config import RetrieverSpec, build, make_retriever
from harness.runs.runner import run
from tests.support import tiny
from tests.support.datasets import write_beir
from tests.support.neural import DOCS, QRELS, QUERIES

D, K = 16, 12
METRICS = parse_metrics(["NDCG@10", "MRR@10"])


@pytest.fixture
def folder(tmp_path):
    return write_beir(tmp_path / "toy", docs=DOCS, queries=QUERIES, qrels=QRELS)


@pytest.fixture
def model(tmp_path):
    """With a scale and a temperature that are not 1."""
    return tiny.save_hybrid(tmp_path / "m", dense=D, lexical=K, lexical_scale=0.03, temperature=7.5)


def retriever_of(model, **options):
    return make_retriever(RetrieverSpec(name="dupmae", options={"checkpoint": str(model), **options}))


def search(model, folder, job, views, **options):
    [dataset] = resolve(str(folder))
    dataset.open(job)
    return halves.search(retriever_of(model, **options), dataset, dataset.queries, views, 5, job)


# --- narrowed


def test_the_largest_by_value_stay_in_order_of_their_ids():
    """Of (2: 1, 5: -3, 7: 4, 9: 2) the two largest are 7 and 9; of (1: 2, 3: 2, 4: 2, 0: 0) the lower ids, 1 and 3."""
    vectors = HybridVectors(
        np.ones((2, 3), np.float16),
        np.array([[2, 5, 7, 9], [1, 3, 4, 0]], np.uint16),
        np.array([[1, -3, 4, 2], [2, 2, 2, 0]], np.float16),
    )
    found = narrowed(vectors, View(True, 2))
    assert found.term_ids.tolist() == [[7, 9], [1, 3]]
    assert found.term_weights.tolist() == [[4, 2], [2, 2]]
    assert found.dense.shape == (2, 3)
    assert narrowed(vectors, View(False, 3)).term_ids.tolist() == [[2, 7, 9], [1, 3, 4]]
    assert narrowed(vectors, View(False, 4)).dense.shape == (2, 0)
    assert narrowed(vectors, View(True, 0)).term_ids.shape == (2, 0)
    assert narrowed(vectors, View(True, 5)).term_ids.shape == (2, 4)  # there are no more


# --- one store against runs of their own


def same(one, other):
    return (
        one.query_ids == other.query_ids
        and one.offsets.tolist() == other.offsets.tolist()
        and one.doc_ids.tolist() == other.doc_ids.tolist()
        and one.scores.tobytes() == other.scores.tobytes()
    )


def test_each_half_scores_as_in_a_run_without_the_other(tmp_path, folder, model, job):
    """To the last bit: `--dense 0` leaves the lexical half its scale, `--lexical 0` the dense one its projection."""
    found = search(model, folder, job, [View(True, K), View(True, 0), View(False, K)])
    for view, options in ((View(True, K), {}), (View(True, 0), {"lexical": 0}), (View(False, K), {"dense": 0})):
        config = {"retrievers": [{"name": "dupmae", "options": {"checkpoint": str(model), **options}}], "top_k": 5}
        [outcome] = run(build({**config, "datasets": [str(folder)], "results": tmp_path / "r"}, "test"), ["test"])
        assert same(found[view], trec.read(outcome.record.folder / "run.trec.gz")), view


def test_fewer_terms_score_as_by_brute_force(folder, model, job):
    """Sums over the k largest stored pairs, straight from the shard and the query's weights, in float64."""
    retriever = retriever_of(model)
    [dataset] = resolve(str(folder))
    dataset.open(job)
    [shard] = retriever.shards(dataset, job)
    asked = retriever.encoder.queries(dataset.queries)
    names = [doc_id for doc_id, _, _ in DOCS]
    for terms, with_dense in ((1, True), (5, True), (5, False)):
        run = halves.search(retriever, dataset, dataset.queries, [View(with_dense, terms)], 99, job)
        [found] = run.values()
        for number in range(len(dataset.queries)):
            found_ids, scores = found.rows(number)
            got = dict(zip([i.decode() for i in found_ids], scores.tolist(), strict=True))
            for row, name in enumerate(names):
                weights, ids = shard.vectors.term_weights[row].tolist(), shard.vectors.term_ids[row].tolist()
                best = sorted(zip(weights, ids, strict=True), key=lambda pair: (-pair[0], pair[1]))[:terms]
                expected = sum(weight * float(asked.lexical[number][term]) for weight, term in best)
                if with_dense:
                    expected += float(
                        asked.dense[number].astype(np.float64) @ shard.vectors.dense[row].astype(np.float64)
                    )
                assert got[name] == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_shards_and_groups_do_not_matter_and_nothing_is_encoded_twice(folder, model, job, monkeypatch):
    views = [View(True, K), View(True, 0), View(False, 4)]
    whole = search(model, folder, job, views)
    search(model, folder, job, views, shard_documents=2)
    monkeypatch.setattr(TextEncoder, "documents", lambda *a: pytest.fail("a passage was encoded again"))
    monkeypatch.setattr(halves, "_DOCUMENTS_AT_ONCE", 3)
    parted = search(model, folder, job, views, shard_documents=2)
    for view in views:  # other shards are other batches: the encoder's last bits may differ
        assert parted[view].query_ids == whole[view].query_ids
        for number in range(len(QUERIES)):
            theirs = dict(zip(*map(np.ndarray.tolist, whole[view].rows(number)), strict=True))
            ours = dict(zip(*map(np.ndarray.tolist, parted[view].rows(number)), strict=True))
            assert ours == pytest.approx(theirs, rel=2e-3, abs=2e-3)


def test_a_checkpoint_without_a_half_or_with_fewer_terms_is_refused(tmp_path, folder, job):
    tiny.save_hybrid(tmp_path / "d", dense=32, lexical=0)
    with pytest.raises(Exception, match="has no lexical half"):
        search(tmp_path / "d", folder, job, [View(True, 0)])
    tiny.save_hybrid(tmp_path / "h", dense=D, lexical=K)
    with pytest.raises(Exception, match="13: more terms than the 12"):
        search(tmp_path / "h", folder, job, [View(True, 13)])


# --- what is made of it


def test_the_rank_of_the_first_relevant_document_by_hand():
    """q1: b (grade 2) is second; at level 1 a (grade 1) is first. q2: nothing relevant found. q3: not in the run."""
    run = Run.of({"q1": {"a": 3.0, "b": 2.0}, "q2": {"a": 1.0}})
    qrels = {"q1": {"a": 1, "b": 2}, "q2": {"b": 1, "a": 0}, "q3": {"a": 1}}
    assert first_ranks(run, qrels, ["q1", "q2", "q3"], 1) == [1, 0, 0]
    assert first_ranks(run, qrels, ["q1", "q2", "q3"], 2) == [2, 0, 0]


def made(**ranks):
    """Three queries; D = 2, K = 16, and K' = 8."""
    values = {BOTH: [1.0, 1.0, 0.5], DENSE: [1.0, 0.5, 0.0], LEXICAL: [0.5, 1.0, 0.0]}
    scored = [
        Scored(halves, terms, 4.0, 8.0, {"NDCG@10": [v * (1 if terms in (0, 16) else 0.5) for v in values[halves]]})
        for halves, terms in ((BOTH, 16), (DENSE, 0), (LEXICAL, 16), (BOTH, 8), (LEXICAL, 8))
    ]
    ranks = {BOTH: [1, 1, 0, 0], DENSE: [1, 2, 0], LEXICAL: [3, 1, 0]} | ranks
    return Dissection("toy", "S", 2, 16, 100, ("q1", "q2", "q3"), tuple(scored), ranks)


def test_which_half_was_first_by_hand():
    """1 before 3: dense; 2 behind 1: lexical; none found by either: neither. A half that found none is behind."""
    assert made().first == ("dense", "lexical", NEITHER)
    assert made(**{DENSE: [0, 4, 7], LEXICAL: [9, 0, 7]}).first == ("lexical", "dense", ALIKE)


def test_text_and_files_say_the_same(tmp_path):
    found = made()
    text = as_markdown(found)
    assert "| both halves | 16 | 4 | 8 | 0.8333 |" in text
    assert "| dense alone | - | 4 | 8 | 0.5000 |" in text
    assert "| lexical alone | 8 | 4 | 8 | 0.2500 |" in text
    assert "| the dense half | 1 | 33.3 % |" in text
    # both - dense = 0, 0.5, 0.5: mean 0.3333, t = 2 with 2 degrees of freedom, p = 1 - 2 / √6 = 0.18
    assert "| dense alone | NDCG@10 | +0.3333 | 0.18 | 2 | 1 | 0 |" in text
    write(found, tmp_path / "out")
    with (tmp_path / "out" / "queries.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["higher"] for row in rows] == ["dense", "lexical", "neither"]
    assert (rows[2]["dense_rank"], rows[0]["lexical_rank"], rows[1]["NDCG@10 dense"]) == ("", "3", "0.5")
    with (tmp_path / "out" / "scores.csv").open() as file:
        means = {(row["searched"], row["terms"]): float(row["NDCG@10"]) for row in csv.DictReader(file)}
    assert means[BOTH, "8"] == pytest.approx(2.5 / 6)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "quality.png", "quality.svg", "queries.csv", "scores.csv",
    ]  # fmt: skip


def test_quality_against_k_shows_both_halves_and_the_dense_level():
    [axes] = quality(made()).axes
    assert [tuple(map(list, line.get_data())) for line in axes.lines[:2]] == [
        ([8, 16], [pytest.approx(2.5 / 6), pytest.approx(2.5 / 3)]),
        ([8, 16], [0.25, 0.5]),
    ]
    assert list(axes.lines[2].get_ydata()) == [0.5, 0.5]


def test_every_panel_begins_at_zero():
    """Also where all scores are close to each other, and where one metric is 0 throughout."""
    scored = [
        Scored(halves, terms, 9, 9, {"NDCG@10": [value], "MRR@10": [value], "R@10": [0.0]})
        for halves, terms, value in (
            (BOTH, 8, 0.5), (BOTH, 4, 0.49), (LEXICAL, 8, 0.48), (LEXICAL, 4, 0.47), (DENSE, 0, 0.46),
        )
    ]  # fmt: skip
    figure = quality(Dissection("x", "$x_1$", 4, 8, 10, ("q",), tuple(scored), {}))
    limits = [axes.get_ylim() for axes in figure.axes]
    assert limits == [(0, pytest.approx(0.54)), (0, pytest.approx(0.54)), (0, 1)]


def test_the_command(tmp_path, folder, model, cli):
    answer = cli("dissect", "--checkpoint", model, "-d", folder, "--k-terms", "4,8", "-O", tmp_path / "out")
    assert answer.code == 0, answer.err
    assert answer.out.startswith("## DupMAE on toy/test\n")
    assert answer.out.count("| both halves |") == 3
    assert "wrote" in answer.err
    [line] = [line for line in answer.out.splitlines() if line.startswith("| both halves | 12 |")]
    record = cli("run", "-r", "dupmae", "--checkpoint", model, "-d", folder, "--metric", "NDCG@10")
    assert record.out.splitlines()[1].split()[-1] == line.split(" | ")[4]


def test_a_querys_own_document_is_dropped_where_the_collection_says_so(tmp_path, model, job):
    """q1's only relevant document is q1 itself: every half finds it, and none where it is dropped."""
    place = write_beir(
        tmp_path / "own",
        docs=[("q1", "", QUERIES[0][1]), *DOCS],
        queries=QUERIES,
        qrels={"test": [("q1", "q1", 1), ("q2", "d0", 1)]},
    )
    for drop in (False, True):
        [dataset] = resolve(str(place))
        dataset.rules = dataclasses.replace(dataset.rules, drop_self=drop)
        found = dissect(retriever_of(model), dataset, [4], METRICS, 99, job)
        assert {halves: ranks[0] > 0 for halves, ranks in found.ranks.items()} == dict.fromkeys(found.ranks, not drop)
        assert all(ranks[1] > 0 for ranks in found.ranks.values())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no checkpoint named"),
        (("--checkpoint", "m", "--k-terms", "x"), "--k-terms 'x'"),
        (("--checkpoint", "m", "--k-terms", "0"), "--k-terms '0'"),
        (("--checkpoint", "m", "--k-terms", "400", "-d", "toy"), "400: more terms than the 12"),
        (("--checkpoint", "m", "--metric", "NDCG@9", "-k", "5"), "cannot be measured on runs of 5"),
        (("--checkpoint", "m", "--device", "tpu"), "device"),
        (("--checkpoint", "nowhere"), "nowhere"),
    ],
)
def test_bad_input(tmp_path, folder, model, bad, words, message):
    assert message in bad("dissect", *words)
