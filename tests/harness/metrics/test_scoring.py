"""Scores: by hand, against trec_eval, and against ranx's own way in."""

import numba
import numpy as np
import pytest

from harness.metrics import scoring, trec_eval
from harness.metrics.measure import Levels
from harness.metrics.names import DEFAULT_METRICS, Measured, parse_metrics
from harness.metrics.scoring import score
from harness.retrievers.errors import InputError
from harness.retrievers.types import Run

QRELS = {"q": {"a": 3, "b": 0, "c": 1, "x": 2}}
RUN = Run.of({"q": [("b", 5.0), ("n", 4.0), ("c", 3.0), ("a", 2.0)]})


@pytest.mark.parametrize(
    ("name", "level", "expected"),
    [
        # ranking b(0) n(-) c(1) a(3), and x(2) is not retrieved
        ("MRR@10", 1, 1 / 3),  # c at rank 3
        ("MRR@2", 1, 0.0),  # cut before it
        ("MRR@10", 2, 1 / 4),  # only a (grade 3) counts, at rank 4
        ("R@3", 1, 1 / 3),  # c of {a, c, x}
        ("R@4", 2, 1 / 2),  # a of {a, x}
        ("P@4", 1, 2 / 4),
        ("MAP@4", 1, (1 / 3 + 2 / 4) / 3),
        # gain 1 at rank 3 and 3 at rank 4 over the ideal 3, 2, 1; gain is linear
        ("NDCG@10", 1, (1 / np.log2(4) + 3 / np.log2(5)) / (3 + 2 / np.log2(3) + 1 / np.log2(4))),
        ("NDCG@10", 2, (1 / np.log2(4) + 3 / np.log2(5)) / (3 + 2 / np.log2(3) + 1 / np.log2(4))),  # grades stay
    ],
)
def test_by_hand(name, level, expected):
    assert score(RUN, QRELS, parse_metrics([name]), Levels(level)).mean()[name] == pytest.approx(expected, abs=1e-12)


def test_a_level_of_its_own_for_mrr():
    """Of b(0) n(-) c(1) a(3): from grade 1 up c is first, at rank 3; from 2 up a, at rank 4. Recall stays."""
    found = score(RUN, QRELS, parse_metrics(["MRR@10", "R@4", "NDCG@1"]), Levels(1, mrr=2)).mean()
    assert found == pytest.approx({"MRR@10": 1 / 4, "R@4": 2 / 3, "NDCG@1": 0})
    found = score(RUN, QRELS, parse_metrics(["MRR@10", "R@4"]), Levels(2, mrr=1)).mean()
    assert found == pytest.approx({"MRR@10": 1 / 3, "R@4": 1 / 2})


def _random_case(rng):
    """Few documents and scores, so ties abound; queries only judged, only run, without results; negative grades."""
    documents = [f"d{n}" for n in range(rng.integers(1, 40))]

    def some():
        return rng.choice(documents, rng.integers(0, len(documents) + 1), replace=False)

    queries = [f"q{n}" for n in range(12)]
    judged = rng.choice(queries, rng.integers(1, 9), replace=False)
    qrels = {q: {d: int(rng.integers(-1, 4)) for d in some()} or {documents[0]: 1} for q in judged}
    ran = rng.choice(queries, rng.integers(1, 9), replace=False)
    run = {q: [(str(d), float(rng.integers(0, 4))) for d in some()] for q in map(str, ran)}
    return Run.of(run), {str(q): {str(d): g for d, g in grades.items()} for q, grades in qrels.items()}


def test_ranx_and_trec_eval_agree_on_a_thousand_random_runs():
    """`score` raises where they differ by more than 1e-6 on any metric of any query."""
    rng = np.random.default_rng(20261121)
    metrics = parse_metrics([*DEFAULT_METRICS, "NDCG@3", "NDCG@1000", "MRR@1", "MAP@5", "MAP@1000", "P@3", "R@1"])
    seen = 0
    for _ in range(1000):
        run, qrels = _random_case(rng)
        scores = score(run, qrels, metrics, Levels(int(rng.integers(1, 4)), [None, 1, 2, 3][rng.integers(0, 4)]))
        assert scores.query_ids == tuple(sorted(qrels))
        seen += sum(float(values.sum()) > 0 for values in scores.values.values())
    assert seen > 5000  # the cases are not all zeros


def test_the_check_in_blocks_of_queries_misses_none(monkeypatch):
    """Blocks of 2 out of 5 queries; each has its own relevant rank, and the last block is short."""
    monkeypatch.setattr(trec_eval, "_CHECKED_AT_ONCE", 2)
    run = Run.of({f"q{n}": [(f"d{m}", -float(m)) for m in range(6)] for n in range(5)})
    qrels = {f"q{n}": {f"d{n}": 1} for n in range(5)}
    found = trec_eval.by_trec_eval(run, qrels, list(qrels), parse_metrics(["MRR@10", "NDCG@10"]), Levels())
    assert found["MRR@10"] == pytest.approx([1 / n for n in range(1, 6)])
    assert found["NDCG@10"] == pytest.approx([1 / np.log2(n + 1) for n in range(1, 6)])


# ranx's own hashing of ids; where colorama is installed (tox brings it) numba's text begins with a colour
@pytest.mark.filterwarnings("ignore:.*unsafe cast from uint64")
def test_the_array_form_gives_what_ranx_gives_for_its_own_types():
    """Without ties, ranx's Run and Qrels from dictionaries are a second way to the same numbers."""
    from ranx import Qrels, evaluate
    from ranx import Run as RanxRun

    rng = np.random.default_rng(1)
    docs = [f"d{n}" for n in range(30)]
    qrels = {f"q{n}": {str(d): int(rng.integers(1, 4)) for d in rng.choice(docs, 5, replace=False)} for n in range(12)}
    results = {q: {d: float(s) for d, s in zip(docs, rng.permutation(30), strict=True)} for q in qrels}
    theirs = evaluate(Qrels(qrels), RanxRun(results), ["mrr@10", "recall@10", "ndcg@10"])
    ours = score(Run.of(results), qrels, parse_metrics(["MRR@10", "R@10", "NDCG@10"])).mean()
    assert list(ours.values()) == pytest.approx(list(theirs.values()), abs=1e-12)


def test_every_rank_stays():
    """The only relevant document lies at rank 700 behind unjudged ones."""
    run = Run.of({"q": [(f"d{n:04}", float(-n)) for n in range(1000)]})
    scores = score(run, {"q": {"d0699": 1}}, parse_metrics(["MRR@1000", "R@699", "R@700"])).mean()
    assert scores == pytest.approx({"MRR@1000": 1 / 700, "R@699": 0, "R@700": 1})


def test_judged_queries_without_results_score_zero_and_unjudged_ones_are_left_out():
    run = Run.of({"q": [("a", 1.0)], "extra": [("a", 1.0)]})
    scores = score(run, {"q": {"a": 1}, "silent": {"a": 1}}, parse_metrics(["NDCG@10"]))
    assert scores.query_ids == ("q", "silent")
    assert scores.mean() == {"NDCG@10": 0.5}


def test_ids_that_hash_alike_are_told_apart():
    """ranx compares 64-bit hashes as floats; ours are numbers of their own. Prefixes and widths differ on purpose."""
    run = Run.of({"q": [("a" * n, float(n)) for n in range(1, 30)]})
    assert score(run, {"q": {"a" * 29: 1}}, parse_metrics(["MRR@10"])).mean()["MRR@10"] == 1.0
    assert score(run, {"q": {"a" * 30: 1}}, parse_metrics(["MRR@10"])).mean()["MRR@10"] == 0.0


def test_few_queries_do_not_leave_numba_on_one_thread():
    before = numba.get_num_threads()
    score(RUN, QRELS, parse_metrics(["NDCG@10"]))
    assert numba.get_num_threads() == before


def test_a_disagreement_is_an_error(monkeypatch):
    monkeypatch.setattr(scoring, "by_trec_eval", lambda *a: {"NDCG@10": np.array([0.5])})
    with pytest.raises(RuntimeError, match=r"disagree on NDCG@10 of query 'q'"):
        score(RUN, QRELS, parse_metrics(["NDCG@10"]))


def test_metric_names_are_read_in_any_case_and_once():
    assert [str(m) for m in parse_metrics(["ndcg@10", "Recall@5", "R@5", "rr@3", "NDCG@10"])] == [
        "NDCG@10",
        "R@5",
        "MRR@3",
    ]


@pytest.mark.parametrize(
    ("ours", "others"),
    [
        ("MRR", ["RR", "recip_rank", "mrr", "RR(judged_only=False)"]),
        ("MRR@10", ["rr@10", "RR @ 10"]),
        ("MRR(rel=2)@10", ["RR(rel=2)@10", "MRR( rel = 2 )@10"]),
        ("R@1000", ["recall_1000", "recall.1000", "Recall@1000"]),
        ("P@5", ["P_5", "precision@5"]),
        ("MAP", ["AP", "map"]),
        ("MAP@100", ["AP@100", "map_cut_100"]),
        ("NDCG@10", ["nDCG@10", "ndcg_cut_10", "ndcg_cut.10", "nDCG(dcg='log2')@10", "nDCG(dcg=log2)@10"]),
        ("NDCG(dcg='exp-log2')@10", ["nDCG(dcg='exp-log2')@10"]),
        ("Success@1", ["success_1", "hit_rate@1", "hits@1"]),
        ("RBP", ["RBP(p=0.8)", "rbp"]),
        ("RBP(p=0.5,rel=2)", ["RBP(rel=2,p=0.5)", "RBP(rel=2, p=.5)"]),
        ("Rprec", ["rprec", "RPrecision"]),
        ("SetR", ["set_recall"]),
        ("SetF", ["set_F", "SetF(beta=1)"]),
        ("NumRet(rel=1)", ["num_rel_ret"]),
    ],
)
def test_other_tools_names_mean_the_same(ours, others):
    assert {str(metric) for metric in parse_metrics([ours, *others])} == {ours}


def test_values_are_found_under_any_name():
    found = Measured({"MRR@10": 0.5, "MRR(rel=1)@10": 0.75, "NDCG@10": 0.25, "NumRet": 3.0}, Levels(2))
    assert (found["RR@10"], found["MRR(rel=2)@10"], found["MRR(rel=1)@10"], found["ndcg_cut_10"]) == (
        0.5,
        0.5,
        0.75,
        0.25,
    )
    assert list(found) == ["MRR@10", "MRR(rel=1)@10", "NDCG@10", "NumRet"]
    assert "nDCG@10" in found
    assert "R@10" not in found
    assert "no metric" not in found
    assert dict(found) == {"MRR@10": 0.5, "MRR(rel=1)@10": 0.75, "NDCG@10": 0.25, "NumRet": 3.0}
    with pytest.raises(KeyError, match=r"R@10; there is MRR@10"):
        found["R@10"]
    with pytest.raises(InputError, match="unknown metric"):
        found["no metric"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "ndgc@10",
            r"unknown metric 'ndgc@10'.*Did you mean NDCG@k\? There is: Bpref, ERR@k.*RBP do without it too",
        ),
        ("recal_10", r"unknown metric 'recal_10'. Did you mean R@k"),
        ("P(rel=2)(x)@5", "unknown metric"),
        ("", "unknown metric"),
        ("R", r"'R' needs a cutoff: R@k"),
        ("NDCG@0", "is no rank"),
        ("Bpref@10", "'Bpref@10' has no cutoff: write Bpref"),
        ("ndcg_cut_10@5", r"names its cutoff twice.*write NDCG@k"),
        ("P_5(rel=2)", "names its cutoff twice, or a setting behind"),
        ("P(lev=2)@5", r"has no setting 'lev=2'; P takes rel=, judged_only="),
        ("P(rel)@5", r"has no setting 'rel'; P takes"),
        ("Judged(rel=2)@5", r"has no setting 'rel=2'; Judged takes none"),
        ("P(rel=x)@5", r"rel is 'x'; want a whole number from 1 up"),
        ("P(rel=0)@5", r"rel is '0'; want a whole number from 1 up"),
        ("P(rel=1,rel=2)@5", "names rel twice"),
        ("P(judged_only=yes)@5", r"judged_only is 'yes'; want True or False"),
        ("RBP(p=1)", r"p is '1'; want a number above 0 and below 1"),
        ("SetF(beta=nan)", r"beta is 'nan'; want a number above 0"),
        ("nDCG(dcg='log')@5", r"dcg is \"'log'\"; want log2 or exp-log2"),
        ("R@0", "the cutoff .0. is no rank from 1 up: write one metric, R@k"),
        ("R@-5", "is no rank"),
        ("R@ten", "is no rank"),
        ("P@5@5", "the cutoff .5@5. is no rank"),
    ],
)
def test_bad_metric_names(name, message):
    with pytest.raises(InputError, match=message):
        parse_metrics([name])
