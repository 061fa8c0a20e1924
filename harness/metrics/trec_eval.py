"""Scores by trec_eval, from dictionaries: the cross-check of ranx's."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from harness.metrics.measure import Levels, Metric, Values
from harness.retrievers.types import Run

_CHECKED_AT_ONCE = 256  # queries that are held as trec_eval's dictionaries, which take fifteen times a run's bytes


def trec_results(run: Run, qrels: Mapping[str, object], numbers: Iterable[int]) -> dict[str, dict[str, float]]:
    """Return {query: {document: score}}, as trec_eval wants it, of those queries `numbers` that are judged.

    Queries without results are left out.
    """
    results = {}
    for number in numbers:
        query_id, (doc_ids, scores) = run.query_ids[number], run.rows(number)
        if query_id in qrels and len(doc_ids):
            results[query_id] = dict(zip((d.decode() for d in doc_ids.tolist()), scores.tolist(), strict=True))
    return results


def blocks(
    run: Run, qrels: Mapping[str, Mapping[str, int]], every: bool = False
) -> Iterable[tuple[dict[str, dict[str, float]], dict[str, dict[str, int]]]]:
    """The run and its judgments as dictionaries, some queries at a time, those without results left out.

    A grade below 0 is TREC's mark for what was not judged, and is left out, as trec_eval does. A query that has no
    other keeps its documents as not relevant: trec_eval would write beside its arrays for one without any. With
    `every` all documents stay, whatever their grades.
    """
    for low in range(0, len(run), _CHECKED_AT_ONCE):
        results = trec_results(run, qrels, range(low, min(low + _CHECKED_AT_ONCE, len(run))))
        if results:
            yield results, {q: dict(qrels[q]) if every else _known(qrels[q]) for q in results}


def _known(grades: Mapping[str, int]) -> dict[str, int]:
    return {doc: grade for doc, grade in grades.items() if grade >= 0} or dict.fromkeys(grades, 0)


def by_trec_eval(
    run: Run,
    qrels: Mapping[str, Mapping[str, int]],
    query_ids: Sequence[str],
    metrics: Sequence[Metric],
    levels: Levels,
) -> dict[str, Values]:
    """Return metric → [Q] in the order of `query_ids`, by trec_eval alone."""
    import pytrec_eval

    found: dict[int, dict[str, dict[str, float]]] = {}  # by level, query and trec_eval's name
    for results, judged in blocks(run, qrels):
        for level in {metric.level(levels) for metric in metrics}:
            names = {trec_name(metric) for metric in metrics if metric.level(levels) == level}
            evaluator = pytrec_eval.RelevanceEvaluator(judged, names, relevance_level=level)
            found.setdefault(level, {}).update(evaluator.evaluate(results))
    return {
        str(metric): trec_values(found.get(metric.level(levels), {}), query_ids, [metric])[str(metric)]
        for metric in metrics
    }


def trec_values(
    found: Mapping[str, Mapping[str, float]], query_ids: Sequence[str], metrics: Sequence[Metric]
) -> dict[str, Values]:
    """Return metric → [Q] of what trec_eval found, in the order of `query_ids`; a query that it lacks scores 0."""
    return {
        str(metric): np.array([_trec_value(found.get(query_id, {}), metric) for query_id in query_ids])
        for metric in metrics
    }


def trec_name(metric: Metric) -> str:
    """Return what trec_eval calls the metric; its reciprocal rank has no cutoff."""
    family = metric.family
    if metric.cutoff and family.trec_eval:
        return f"{family.trec_eval}.{metric.cutoff}"
    return str(family.trec_eval_whole)


def _trec_value(values: Mapping[str, float], metric: Metric) -> float:
    value = values.get(trec_name(metric).replace(".", "_"), 0.0)
    if metric.cutoff and metric.family.trec_eval_whole == "recip_rank" and value * (metric.cutoff + 0.5) < 1:
        return 0.0  # the first relevant document lies below the cutoff
    return float(value)
