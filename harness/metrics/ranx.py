"""Scores by ranx, from arrays.

ranx is handed arrays in its documented array form instead of its `Run`, whose construction from dictionaries takes
thirty times as long as the evaluation and sorts ties as it likes. In the arrays a judged document has a number of its
own and every other document is a placeholder, so each keeps its rank.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from harness.metrics.names import Metric, Values
from harness.retrievers.types import Run

_UNJUDGED, _PADDING_GRADE = -1.0, -1.0


def by_ranx(
    run: Run, qrels: Mapping[str, Mapping[str, int]], query_ids: Sequence[str], metrics: Sequence[Metric], level: int
) -> dict[str, Values]:
    """Return metric → [Q] in the order of `query_ids`, by ranx alone and unchecked; `level` is the binary level."""
    import numba
    from ranx import evaluate

    judged, ranked = ranx_arrays(run, qrels, query_ids)
    names = [_ranx_name(metric, level) for metric in metrics]
    threads = numba.get_num_threads()
    try:
        # twice the first name: asked for one metric per query, ranx 0.3.21 fails with a KeyError
        found = evaluate(judged, ranked, [*names, names[0]], return_mean=False)
    finally:
        numba.set_num_threads(threads)  # ranx leaves numba on one thread after a call with fewer than 10 queries
    return {str(metric): np.asarray(found[name], np.float64) for metric, name in zip(metrics, names, strict=True)}


def _ranx_name(metric: Metric, level: int) -> str:
    suffix = f"-l{level}" if metric.family.binary and level != 1 else ""
    return f"{metric.family.ranx}@{metric.cutoff}{suffix}"


def ranx_arrays(run: Run, qrels: Mapping[str, Mapping[str, int]], query_ids: Sequence[str]) -> tuple[Values, Values]:
    """Return ranx's array form of judgments [Q,J,2] and of a run [Q,R,2]: (document number, grade or score).

    J and R are the most judgments and results of a query, and at least 1; judgments descend by grade, since ranx takes
    their order for the ideal one. Shorter rows are filled with grade -1 (never relevant) and with placeholders.
    """
    index = {query_id: number for number, query_id in enumerate(run.query_ids)}
    most_judged = max(1, max((len(qrels[q]) for q in query_ids), default=1))
    most_ranked = max(1, int(np.max(np.diff(run.offsets), initial=1)))
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
