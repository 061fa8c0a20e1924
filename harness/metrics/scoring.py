"""Runs become scores: ranx computes what it knows, and trec_eval checks every value that both know.

What ranx does not know is our own (RBP, ERR) or comes from a provider of ir_measures. The order of a run is fixed
before any of them sees it (`harness.retrievers.types.Run`: one tie rule).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.metrics.measure import PLAIN, Levels, Metric, Values
from harness.metrics.provider import by_ir_measures
from harness.metrics.ranx import as_judged, by_ranx, name_of
from harness.metrics.trec_eval import by_trec_eval, trec_name
from harness.retrievers.types import Run

TOLERANCE = 1e-6  # of a metric's value per query, between ranx and trec_eval


class EvaluatorsDisagree(RuntimeError):
    """ranx and trec_eval give one query different values: a bug in one of them or in ours, such as a tie rule.

    `run` is the run that they were to score.
    """

    run: Run | None = None


@dataclass(frozen=True)
class Scores:
    """Values of each metric for each judged query (also those that have no results: 0)."""

    query_ids: tuple[str, ...]
    values: dict[str, Values]  # metric → [Q]

    def mean(self) -> dict[str, float]:
        """The mean over all judged queries."""
        return {name: float(np.mean(values)) for name, values in self.values.items()}


def score(
    run: Run, qrels: Mapping[str, Mapping[str, int]], metrics: Sequence[Metric], levels: Levels = PLAIN
) -> Scores:
    """Score `run`: by ranx, each value checked against trec_eval where that has the metric, or by what knows it.

    Queries of the run without judgments are left out; judged queries without results score 0. `levels` say from
    which grade up a document is relevant.

    Raises EvaluatorsDisagree where the two differ by more than 1e-6.
    """
    query_ids = tuple(sorted(qrels))
    values: dict[str, Values] = {}
    for judged_only in (False, True):
        chosen = [metric for metric in metrics if metric.judged_only == judged_only]
        if chosen:
            scored = only_judged(run, qrels) if judged_only else run
            values |= _by_all(scored, qrels, query_ids, chosen, levels)
    return Scores(query_ids, {str(metric): values[str(metric)] for metric in metrics})


def _by_all(
    run: Run,
    qrels: Mapping[str, Mapping[str, int]],
    query_ids: tuple[str, ...],
    metrics: Sequence[Metric],
    levels: Levels,
) -> dict[str, Values]:
    """Each metric by the scorer that is its."""
    asked = (run, qrels, query_ids)
    of_ranx = [metric for metric in metrics if metric.family.ranx]
    ours = [metric for metric in metrics if metric.family.ours and not metric.family.ranx]
    others = [metric for metric in metrics if not (metric.family.ranx or metric.family.ours)]
    values = by_ranx(*asked, of_ranx, levels) if of_ranx else {}
    if both := [metric for metric in of_ranx if name_of(metric) == metric.family.ranx and trec_name(metric)]:
        try:
            check(query_ids, {str(m): values[str(m)] for m in both}, by_trec_eval(*asked, both, levels))
        except EvaluatorsDisagree as error:
            error.run = run
            raise
    if ours:
        ranked = as_judged(*asked)
        for metric in ours:
            assert metric.family.ours is not None
            values[str(metric)] = metric.family.ours(ranked, metric, metric.level(levels))
    return values | (by_ir_measures(*asked, others, levels) if others else {})


def only_judged(run: Run, qrels: Mapping[str, Mapping[str, int]]) -> Run:
    """The run without results that nobody judged."""
    kept = []
    for number, query_id in enumerate(run.query_ids):
        doc_ids, scores = run.rows(number)
        grades = qrels.get(query_id, {})
        judged = np.array([doc.encode() for doc, grade in grades.items() if grade >= 0], dtype=np.bytes_)
        stays = np.isin(doc_ids, judged) if len(judged) else np.zeros(len(doc_ids), dtype=bool)
        kept.append((np.full(int(stays.sum()), number), doc_ids[stays], scores[stays]))
    return Run.from_blocks(list(run.query_ids), kept)


def check(query_ids: Sequence[str], ours: Mapping[str, Values], theirs: Mapping[str, Values]) -> None:
    """Raise EvaluatorsDisagree where a value of a query [Q] differs by more than 1e-6 between ranx and trec_eval."""
    for name, values in ours.items():
        apart = np.abs(values - theirs[name])
        if not (apart <= TOLERANCE).all():
            worst = int(np.argmax(np.nan_to_num(apart, nan=np.inf)))
            raise EvaluatorsDisagree(
                f"ranx and trec_eval disagree on {name} of query {query_ids[worst]!r}: {values[worst]:.9f} "
                f"against {theirs[name][worst]:.9f}. Neither is to be trusted; please report it."
            )
