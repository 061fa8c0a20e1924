"""Scores by a provider of ir_measures, for what ranx and we do not know."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.metrics.measure import Levels, Metric, Values
from harness.metrics.trec_eval import blocks
from harness.retrievers.types import Run


def by_ir_measures(
    run: Run,
    qrels: Mapping[str, Mapping[str, int]],
    query_ids: Sequence[str],
    metrics: Sequence[Metric],
    levels: Levels,
) -> dict[str, Values]:
    """Return metric → [Q] in the order of `query_ids`. A query without results scores 0.

    Scores are ranks here, so that no provider orders ties as it likes.
    """
    import ir_measures

    places = {query_id: number for number, query_id in enumerate(query_ids)}
    found = {str(metric): np.zeros(len(query_ids)) for metric in metrics}
    for every in (False, True):  # whether a document with a grade below 0 counts as judged
        chosen = [metric for metric in metrics if metric.family.counts_marks == every]
        asked = {measure_of(metric, levels): str(metric) for metric in chosen}
        for results, judged in blocks(run, qrels, every) if asked else ():
            ranked = {q: {doc: float(-rank) for rank, doc in enumerate(docs)} for q, docs in results.items()}
            for value in ir_measures.evaluator([*asked], judged).iter_calc(ranked):
                found[asked[value.measure]][places[value.query_id]] = value.value
    return found


def measure_of(metric: Metric, levels: Levels) -> Any:
    """The measure of ir_measures that a metric is, with the level written out where its family has one."""
    import ir_measures

    measure = getattr(ir_measures, metric.family.ir_measures)
    settings = dict(metric.settings)
    if "rel" in metric.family.options and metric.family.binary:
        settings["rel"] = metric.level(levels)
    if settings:
        measure = measure(**settings)
    return measure @ metric.cutoff if metric.cutoff else measure
