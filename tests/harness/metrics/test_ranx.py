"""ranx by its parts and ranx as a whole: the same functions, the same values, and a way on where parts are not had."""

import os
import subprocess
import sys

import numpy as np
import pytest

from harness.metrics import ranx
from harness.metrics.measure import Levels
from harness.metrics.names import parse_metrics
from harness.metrics.ranx import by_ranx, ranx_arrays
from harness.retrievers.types import Run
from tests.support.paths import ROOT

RUN = Run.of({"q1": {"a": 3.0, "b": 2.0, "c": 1.0}, "q2": {"d": 1.0}})
QRELS = {"q1": {"b": 2, "c": 1, "z": 3}, "q2": {"d": 1, "e": 1}}
NAMES = ("MRR", "R", "P", "MAP", "NDCG", "Success")
METRICS = parse_metrics([f"{name}@{k}" for name in NAMES for k in (1, 2, 10)] + ["MRR", "MAP", "NDCG", "Rprec"])


def test_by_hand():
    """q1: b (2) and c (1) at ranks 2 and 3 of a, b, c; q2: d at rank 1, e not found."""
    found = by_ranx(RUN, QRELS, ["q1", "q2"], parse_metrics(["MRR@2", "R@10", "NDCG@2"]), Levels())
    assert found["MRR@2"] == pytest.approx([0.5, 1])
    assert found["R@10"] == pytest.approx([2 / 3, 0.5])
    ideal = [3 + 2 / np.log2(3), 1 + 1 / np.log2(3)]
    assert found["NDCG@2"] == pytest.approx([2 / np.log2(3) / ideal[0], 1 / ideal[1]])


@pytest.mark.parametrize("level", [1, 2])
def test_parts_give_what_ranx_evaluate_gives(level):
    from ranx import evaluate

    judged, ranked = ranx_arrays(RUN, QRELS, ["q1", "q2"])
    ours = by_ranx(RUN, QRELS, ["q1", "q2"], METRICS, Levels(level))
    for metric in METRICS:
        suffix = f"-l{level}" if metric.family.binary and level != 1 else ""
        name = f"{metric.family.ranx}{f'@{metric.cutoff}' if metric.cutoff else ''}{suffix}"
        theirs = evaluate(judged, ranked, [name, name], return_mean=False)[name]
        np.testing.assert_array_equal(ours[str(metric)], theirs)


SCORE = """
import sys
from harness.metrics import ranx
from harness.metrics.measure import PLAIN
from harness.metrics.names import parse_metrics
from harness.retrievers.run_files import ranx_parts
from harness.retrievers.types import Run
{change}
run, qrels = Run.of({{"q": {{"a": 2.0, "b": 1.0}}}}), {{"q": {{"b": 1}}}}
print(ranx.by_ranx(run, qrels, ["q"], parse_metrics(["MRR@10"]), PLAIN)["MRR@10"][0])
heavy = {{"matplotlib", "seaborn", "scipy.stats", "pandas", "ir_datasets"}} & set(sys.modules)
print(sorted(heavy))
import ranx as whole
qrels, run = whole.Qrels({{"q": {{"b": 1}}}}), whole.Run({{"q": {{"a": 2.0, "b": 1.0}}}})
print(whole.evaluate(qrels, run, "mrr"), whole.metrics.metric_switch("mrr").__name__)
"""


@pytest.mark.process
@pytest.mark.parametrize(
    ("change", "heavy"),
    [
        ("", "[]"),
        # a release of ranx whose metrics cannot be imported alone
        ("ranx_parts._alone = lambda name: sys.nothing", "['ir_datasets', 'matplotlib', 'pandas', "),
    ],
)
def test_scoring_needs_little_of_ranx_and_leaves_the_rest_to_be_imported(change, heavy):
    words = [sys.executable, "-W", "ignore", "-c", SCORE.format(change=change)]
    env = {**os.environ, "NUMBA_DISABLE_JIT": "1"}  # what is imported is the same, and nothing is compiled for it
    ran = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    value, loaded, whole = ran.stdout.splitlines()
    assert value == "0.5"
    assert loaded.startswith(heavy)
    assert whole == "0.5 reciprocal_rank"


def test_functions_are_compiled_for_the_arrays_that_are_scored():
    functions = {name: ranx.part("ranx.metrics").metric_switch(name).__globals__ for name in ("mrr", "recall", "ndcg")}
    compiled = {f for space in functions.values() for f in space.values() if hasattr(f, "signatures")}
    ranx.compile_all("mrr", "recall", "ndcg")
    before = {f: list(f.signatures) for f in compiled}
    by_ranx(RUN, QRELS, ["q1", "q2"], parse_metrics(["MRR@10", "R@5", "NDCG@10"]), Levels(2))
    assert {f: list(f.signatures) for f in compiled} == before
    assert ranx.first_kernel() in compiled
