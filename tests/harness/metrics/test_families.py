"""Every family by hand, against ir_measures, and against gdeval where Perl is present."""

import math
import shutil

import ir_measures
import numpy as np
import pytest

from harness.metrics.measure import PLAIN, Levels, families
from harness.metrics.names import parse_metric, parse_metrics
from harness.metrics.provider import measure_of
from harness.metrics.scoring import score
from harness.retrievers.types import Run

# ranking b(0) n(-) c(1) m(-) a(3); x(2) and y(0) are judged and not retrieved
QRELS = {"q": {"a": 3, "b": 0, "c": 1, "x": 2, "y": 0}}
RUN = Run.of({"q": [("b", 9.0), ("n", 7.0), ("c", 5.0), ("m", 4.0), ("a", 2.0)]})
LOG = np.log2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("MRR", 1 / 3),  # c at rank 3
        ("RR(rel=2)", 1 / 5),  # a at rank 5
        ("RR(rel=2)@4", 0),
        ("RR(judged_only=True)", 1 / 2),  # b c a
        ("P@4", 1 / 4),
        ("P(rel=2)@5", 1 / 5),
        ("P(judged_only=True)@3", 2 / 3),  # b c a
        ("P@10", 2 / 10),  # of ten places, though there are five results
        ("R@5", 2 / 3),
        ("R(rel=3)@5", 1),
        ("AP", (1 / 3 + 2 / 5) / 3),
        ("AP@4", (1 / 3) / 3),
        ("AP(rel=2)", (1 / 5) / 2),
        ("NDCG", (1 / LOG(4) + 3 / LOG(6)) / (3 + 2 / LOG(3) + 1 / LOG(4))),
        ("NDCG@2", 0),
        ("nDCG(dcg='exp-log2')@5", (1 / LOG(4) + 7 / LOG(6)) / (7 + 3 / LOG(3) + 1 / LOG(4))),
        ("nDCG(judged_only=True)", (1 / LOG(3) + 3 / LOG(4)) / (3 + 2 / LOG(3) + 1 / LOG(4))),
        ("Success@2", 0),
        ("Success@3", 1),
        ("Success(rel=2)@4", 0),
        ("Judged@2", 1 / 2),  # b, n
        ("Judged@10", 3 / 5),  # of the five there are
        ("RBP", 0.2 * (0.8**2 + 0.8**4)),
        ("RBP(p=0.5,rel=2)", 0.5 * 0.5**4),
        ("RBP(p=0.5)@3", 0.5 * 0.5**2),
        # R = 1/16 of c, 7/16 of a
        ("ERR", 1 / 3 * 1 / 16 + 1 / 5 * 7 / 16 * 15 / 16),
        ("ERR@3", 1 / 3 * 1 / 16),
        # R = 3 relevant, 2 judged not; above c one of those (b), above a one: (2 - 2 * 1/2) / 3
        ("Bpref", (1 - 1 / 2 + 1 - 1 / 2) / 3),
        ("Rprec", 1 / 3),  # c among the first three
        ("Rprec(rel=2)", 0),
        ("SetP", 2 / 5),
        ("SetP(judged_only=True)", 2 / 3),
        ("SetR", 2 / 3),
        ("SetR(rel=2)", 1 / 2),
        ("SetF", 2 * (2 / 5) * (2 / 3) / (2 / 5 + 2 / 3)),
        ("SetF(beta=2.0)", 3 * (2 / 5) * (2 / 3) / (2 * (2 / 5) + 2 / 3)),  # beta is not squared in trec_eval
        ("NumRet", 5),
        ("num_rel_ret", 2),
        ("NumRet(rel=3)", 1),
    ],
)
def test_by_hand(name, expected):
    [found] = score(RUN, QRELS, parse_metrics([name])).mean().values()
    assert found == pytest.approx(expected, abs=1e-6)


def test_every_family_is_derived_by_hand():
    [mark] = test_by_hand.pytestmark
    assert {parse_metric(name).family.name for name, _ in mark.args[1]} == set(families())


def test_a_name_takes_the_collections_level_and_rel_comes_before_it():
    """Level 2 of the collection, 3 of MRR: of c(1) at rank 3 and a(3) at rank 5 only a counts."""
    names = ["R@5", "R(rel=1)@5", "MRR", "MRR(rel=1)", "RBP(p=0.5)", "SetR", "NumRet", "NDCG@2", "Rprec"]
    found = score(RUN, QRELS, parse_metrics(names), Levels(2, mrr=3)).mean()
    values = [1 / 2, 2 / 3, 1 / 5, 1 / 3, 0.5**5, 1 / 2, 5, 0, 0]
    assert [*found.values()] == pytest.approx(values, abs=1e-9)
    assert [str(parse_metric(name).at(Levels(2, mrr=3))) for name in names] == [
        "R(rel=2)@5", "R@5", "MRR(rel=3)", "MRR", "RBP(p=0.5,rel=2)", "SetR(rel=2)", "NumRet", "NDCG@2", "Rprec(rel=2)",
    ]  # fmt: skip


MANY = [
    "RR", "RR@3", "RR(judged_only=True)", "AP", "AP@5", "AP(judged_only=True)", "P@1", "P@30",
    "P(judged_only=True)@5", "R@5", "R(judged_only=True)@5", "nDCG", "nDCG@10", "nDCG(judged_only=True)@3",
    "Success@1", "Success@10", "Judged@3", "Judged@40", "Bpref", "Rprec", "Rprec(judged_only=True)", "SetP", "SetR",
    "SetF", "SetF(beta=0.5)", "NumRet", "NumRet(rel=2)", "SetP(judged_only=True)",
]  # fmt: skip


def random_case(rng):
    documents = [f"d{n}" for n in range(rng.integers(2, 40))]
    qrels = {
        f"q{n}": {str(d): int(rng.integers(0, 4)) for d in rng.choice(documents, rng.integers(1, len(documents)))}
        for n in range(10)
    }
    # no score twice: the provider of Judged orders ties otherwise
    run = {
        f"q{n}": {str(d): float(s) for d, s in zip(some, rng.permutation(len(some)), strict=True)}
        for n in range(1, 11)
        if len(some := rng.choice(documents, rng.integers(0, len(documents) + 1), replace=False))
    }
    return run, qrels


def test_ir_measures_agrees_on_a_thousand_random_runs():
    """With the level written out, as the issue of levels is ours: ir_measures knows 1 alone where none is named."""
    rng = np.random.default_rng(20261201)
    metrics, seen = parse_metrics(MANY), 0
    for number in range(1000):
        run, qrels = random_case(rng)
        levels = Levels(1 + number % 3)
        ours = score(Run.of(run), qrels, metrics, levels)
        asked = {measure_of(metric, levels): str(metric) for metric in metrics}
        assert len(asked) == len(metrics)
        # beside measures of judged documents alone its NumRet without a level may count those alone as well
        whole, others = ([m for m in asked if (str(m) == "NumRet") == alone] for alone in (True, False))
        for chosen in (whole, others):
            for value in ir_measures.evaluator(chosen, qrels).iter_calc(run):
                found = ours.values[asked[value.measure]][ours.query_ids.index(value.query_id)]
                assert found == pytest.approx(value.value, abs=1e-6), (value, number)
                seen += value.value > 0
    assert seen > 100_000


@pytest.mark.skipif(shutil.which("perl") is None, reason="gdeval is a Perl program, and there is no Perl")
def test_gdeval_agrees_on_err_and_on_exponential_gain():
    """To the five digits that it prints, on numbered queries; it knows grades from 0 to 4."""
    rng = np.random.default_rng(4)
    documents = [f"d{n}" for n in range(60)]
    qrels = {
        str(q): {d: int(rng.integers(0, 5)) for d in rng.choice(documents, 30, replace=False)} for q in range(1, 40)
    }
    run = {q: {d: float(s) for d, s in zip(documents, rng.permutation(60), strict=True)} for q in qrels}
    names = ["ERR@20", "ERR@5", "nDCG(dcg='exp-log2')@20", "nDCG(dcg='exp-log2')@5"]
    metrics = parse_metrics(names)
    ours = score(Run.of(run), qrels, metrics)
    asked = {measure_of(metric, PLAIN): str(metric) for metric in metrics}
    count = 0
    for value in ir_measures.gdeval.evaluator([*asked], qrels).iter_calc(run):
        found = ours.values[asked[value.measure]][ours.query_ids.index(value.query_id)]
        assert found == pytest.approx(value.value, abs=6e-6)
        count += 1
    assert count == 4 * 39


def test_a_grade_below_0_is_not_judged():
    """As in trec_eval and ir_measures, where it was a judgment of not relevant: Cranfield has 225 of them."""
    qrels = {"q": {"a": -1, "b": 1, "c": 0}, "r": {"a": -1, "b": -2}}
    run = Run.of({"q": {"a": 4.0, "c": 3.0, "n": 2.0, "b": 1.0}, "r": {"a": 1.0}})
    names = ["Bpref", "AP(judged_only=True)", "P(judged_only=True)@2", "SetP(judged_only=True)", "AP", "Judged@1"]
    found = score(run, qrels, parse_metrics(names)).values
    # of q c and b are judged: b second, behind a document that is not relevant
    wanted = {
        "Bpref": 0,
        "MAP(judged_only=True)": 1 / 2,
        "P(judged_only=True)@2": 1 / 2,
        "SetP(judged_only=True)": 1 / 2,
    }
    for name, value in wanted.items():
        assert found[name].tolist() == pytest.approx([value, 0]), name
    assert found["MAP"].tolist() == pytest.approx([1 / 4, 0])
    theirs = ir_measures.evaluator(
        [ir_measures.Bpref(rel=1), ir_measures.AP(rel=1, judged_only=True)], {"q": qrels["q"]}
    )
    values = {str(one.measure): one.value for one in theirs.iter_calc({"q": {"a": 4.0, "c": 3.0, "n": 2.0, "b": 1.0}})}
    assert set(values.values()) == {0.0, 0.5}


def test_grades_that_are_no_gain_and_grades_above_4():
    """A grade below 0 is no gain; ERR's scale ends at 4."""
    run = Run.of({"q": [("a", 3.0), ("b", 2.0)]})
    assert score(run, {"q": {"a": -2, "b": 7}}, parse_metrics(["ERR"])).mean()["ERR"] == pytest.approx(15 / 16 / 2)
    found = score(run, {"q": {"a": -2, "b": 1}}, parse_metrics(["SetP", "Judged@1", "Bpref", "NumRet"])).mean()
    assert found == pytest.approx({"SetP": 1 / 2, "Judged@1": 1, "Bpref": 1, "NumRet": 2})


def test_queries_without_results_score_0_in_every_family():
    names = [family.spelling.replace("@k", "@10") for family in families().values()]
    found = score(Run.of({"other": {"a": 1.0}}), {"q": {"a": 1}}, parse_metrics(names)).mean()
    assert found == dict.fromkeys(map(str, parse_metrics(names)), 0.0)
    assert not math.isnan(sum(found.values()))
