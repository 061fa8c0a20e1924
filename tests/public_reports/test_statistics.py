"""Statistics that have no answer: other tools print one all the same."""

import json

import numpy as np
import pytest
from scipy import stats

from harness.reports.statistics import corrections
from harness.reports.statistics.effect_size import detectable, interval
from harness.reports.statistics.paired import against_baseline, paired_t_test

DOCS = [(f"d{n}", "", text) for n, text in enumerate(("apple pie", "pear tart", "plum", "fig"), 1)]
QUERIES = [("q1", "apple"), ("q2", "pear")]
QRELS = {"test": [("q1", "d1", 1), ("q2", "d2", 1)]}


@pytest.mark.parametrize("count", [2, 3, 50])
def test_equal_differences_have_no_t(count):
    """scipy gives t = infinity and p = 0 where all queries lose 0.5: without spread nothing can be said."""
    first = {f"q{n}": 1.0 for n in range(count)}
    second = dict.fromkeys(first, 0.5)
    found = paired_t_test(first, second)
    assert (found.difference, found.p, found.p_shown, found.losses) == (-0.5, None, "", count)
    assert paired_t_test(first, first).p == 1.0
    assert interval([-0.5] * count) == (None, None)
    assert paired_t_test(first, second | {"q0": 0.4}).p is not None


def test_holm_passes_over_what_has_no_p():
    """Of .01, none and .04 the two are corrected as two: .02 and .04."""
    assert corrections.holm_of_those([0.01, None, 0.04]) == [0.02, None, 0.04]
    assert corrections.holm_of_those([None]) == [None]
    base = {"q1": 1.0, "q2": 0.5, "q3": 0.0}
    shifted, other = {q: v - 0.1 for q, v in base.items()}, {"q1": 0.2, "q2": 0.5, "q3": 0.3}
    first, second = against_baseline("a", {"a": base, "b": shifted, "c": other}).systems
    assert (first.p_t, first.p_t_holm, first.low, first.high, first.d_z) == (None,) * 5
    assert second.p_t == second.p_t_holm
    assert 0 < first.p_random <= 1


def test_compare_leaves_the_cells_empty(beir, cli, tmp_path):
    folder = beir("small", docs=DOCS, queries=QUERIES, qrels=QRELS)
    runs = {
        "a": ("q1 Q0 d1 1 2 t", "q2 Q0 d2 1 2 t"),
        "b": ("q1 Q0 d3 1 3 t", "q1 Q0 d1 2 2 t", "q2 Q0 d3 1 3 t", "q2 Q0 d2 2 2 t"),
    }
    for name, lines in runs.items():
        (tmp_path / f"{name}.trec").write_text("\n".join(lines) + "\n")
        assert cli("score", f"{name}.trec", "-d", folder, "-n", name, "-m", "mrr@10").code == 0
    answer = cli("compare", "small-test/a", "small-test/b", "-m", "mrr@10")
    assert answer.code == 0, answer.err
    heads, _, _, row = ([cell.strip() for cell in line.split("|")[1:-1]] for line in answer.out.splitlines()[:4])
    cells = dict(zip(heads, row, strict=True))
    assert cells["difference"] == "-0.5000"
    assert (cells["p (t-test)"], cells["95 % interval"], cells["d_z"]) == ("", "", "")
    assert cells["p (randomisation)"] == "0.5000"  # of the four sign flips two are as far from 0
    found = json.loads(cli("compare", "small-test/a", "small-test/b", "-m", "mrr@10", "--json").out)
    assert '"p_t": null' in json.dumps(found)
    assert "nan" not in json.dumps(found).lower()


@pytest.mark.parametrize(("count", "d_z"), [(34, 0.5), (33, 0.5), (199, 0.2), (198, 0.2), (15, 0.8), (14, 0.8)])
def test_what_so_many_queries_could_have_shown(count, d_z):
    """Cohen's sizes of a paired t-test, two-sided at 5 %, for 80 %: 34 pairs for d_z 0.5, 199 for 0.2, 15 for 0.8."""
    values = np.random.default_rng(count).standard_normal(count)
    differences = (values - values.mean()) / values.std(ddof=1) + 3.0  # the mean that was measured changes nothing
    found = detectable(differences.tolist())
    assert (found <= d_z) == (count in (34, 199, 15))
    assert found == pytest.approx(d_z, rel=0.04)
    assert detectable((differences * 0.1 - 7).tolist()) == pytest.approx(0.1 * found)


def test_it_is_shown_four_times_of_five():
    """By drawing: of samples whose true mean is the detectable one, four of five are significant."""
    draw = np.random.default_rng(3)
    count, rounds = 12, 4_000
    unit = np.linspace(-1, 1, count)
    true = detectable((unit / unit.std(ddof=1)).tolist())  # of a spread of 1
    samples = draw.standard_normal((rounds, count)) + true
    p = stats.ttest_1samp(samples, 0, axis=1).pvalue
    assert np.mean(p < 0.05) == pytest.approx(0.8, abs=3 * (0.8 * 0.2 / rounds) ** 0.5)
    assert detectable([0.2] * 9) is None
    assert detectable([0.1, 0.2]) > 0.5  # two queries show next to nothing: ten times their spread
