"""Scores by ranx, from arrays.

ranx is handed arrays in its documented array form instead of its `Run`, whose construction from dictionaries takes
thirty times as long as the evaluation and sorts ties as it likes. In the arrays a judged document has a number of its
own and every other document is a placeholder, so each keeps its rank.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from harness.metrics.families.ndcg import EXPONENTIAL
from harness.metrics.measure import Levels, Metric, Ranked, Values
from harness.retrievers import compile_ahead
from harness.retrievers.run_files.ranx_parts import part
from harness.retrievers.types import Run

# ranx's functions are parallel loops on numba's workqueue, which ends the process where two threads call any of them
_one_at_a_time = threading.Lock()
_UNJUDGED, _PADDING_GRADE = -1.0, -1.0


def by_ranx(
    run: Run,
    qrels: Mapping[str, Mapping[str, int]],
    query_ids: Sequence[str],
    metrics: Sequence[Metric],
    levels: Levels,
) -> dict[str, Values]:
    """Return metric → [Q] in the order of `query_ids`, by ranx alone and unchecked."""
    compile_ahead.wait(__name__)
    judged, ranked = ranx_arrays(run, qrels, query_ids)
    found = {}
    with _one_at_a_time:
        metric_switch = part("ranx.metrics").metric_switch
        for metric in metrics:
            # without a cutoff, 0, ranx takes all there is
            values = metric_switch(name_of(metric))(judged, ranked, metric.cutoff or 0, metric.level(levels))
            found[str(metric)] = np.asarray(values, np.float64)
    return found


def name_of(metric: Metric) -> str:
    """What ranx calls a metric that it knows."""
    return "ndcg_burges" if metric.setting("dcg") == EXPONENTIAL else str(metric.family.ranx)


def start_compiling(metrics: Iterable[Metric]) -> None:
    """Have ranx's functions for these metrics compiled by another process, unless they are."""
    names = dict.fromkeys(name_of(metric) for metric in metrics if metric.family.ranx)
    compile_ahead.start(__name__, *names)


def compiling() -> bool:
    """Whether scores would have to wait for that process."""
    return compile_ahead.running(__name__)


def first_kernel() -> Any:
    """A compiled function of ranx."""
    globals_of = part("ranx.metrics").metric_switch("ndcg").__globals__
    return next(value for value in globals_of.values() if hasattr(value, "py_func"))


def compile_all(*names: str) -> None:
    """Call ranx's functions of these names with arrays as `ranx_arrays` makes them."""
    metric_switch = part("ranx.metrics").metric_switch
    for name in names:
        metric_switch(name)(np.zeros((2, 1, 2)), np.zeros((2, 1, 2)), 1, 1)


def ranx_arrays(run: Run, qrels: Mapping[str, Mapping[str, int]], query_ids: Sequence[str]) -> tuple[Values, Values]:
    """Return ranx's array form of judgments [Q,J,2] and of a run [Q,R,2]: (document number, grade or score).

    J and R are the most judgments and results of a query, and at least 1, R at least J (R-precision looks as far);
    judgments descend by grade, since ranx takes their order for the ideal one. Shorter rows are filled with grade -1
    (never relevant) and with placeholders.
    """
    index = {query_id: number for number, query_id in enumerate(run.query_ids)}
    most_judged = max(1, max((len(qrels[q]) for q in query_ids), default=1))
    most_ranked = max(most_judged, int(np.max(np.diff(run.offsets), initial=1)))
    judged = np.zeros((len(query_ids), most_judged, 2))
    judged[:, :, 1] = _PADDING_GRADE
    ranked = np.full((len(query_ids), most_ranked, 2), _UNJUDGED)
    ranked[:, :, 1] = -np.arange(most_ranked)  # ranx ranks by position; the scores only say the same
    for row, query_id in enumerate(query_ids):
        grades = sorted(qrels[query_id].items(), key=lambda item: -item[1])
        judged[row, : len(grades), 0] = np.arange(1, len(grades) + 1)
        judged[row, : len(grades), 1] = [grade for _, grade in grades]
        if query_id not in index:
            continue
        doc_ids, _ = run.rows(index[query_id])
        known = np.array([doc_id.encode() for doc_id, _ in grades], dtype=np.bytes_)
        by_id = np.argsort(known)
        place = np.minimum(np.searchsorted(known[by_id], doc_ids), len(known) - 1)
        hit = known[by_id][place] == doc_ids
        ranked[row, : len(doc_ids), 0][hit] = by_id[place[hit]] + 1
    return judged, ranked


def as_judged(run: Run, qrels: Mapping[str, Mapping[str, int]], query_ids: Sequence[str]) -> Ranked:
    """The run as the judgments see it, in the order of `query_ids`."""
    judged, ranked = ranx_arrays(run, qrels, query_ids)
    numbers = ranked[:, :, 0].astype(np.int64)  # [Q,R], of a judged document from 1 up
    known = numbers > 0
    grades = np.take_along_axis(judged[:, :, 1].astype(np.int64), np.maximum(numbers - 1, 0), axis=1)
    index = {query_id: number for number, query_id in enumerate(run.query_ids)}
    lengths = np.diff(run.offsets)
    counts = np.array([lengths[index[q]] if q in index else 0 for q in query_ids], dtype=np.int64)
    return Ranked(np.where(known, grades, 0), known, counts)
