"""Runs become scores: ranx computes them, trec_eval checks every one.

The order of a run is fixed before either sees it (`harness.retrievers.types.Run`: one tie rule).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.metrics.names import PLAIN, Levels, Metric, Values
from harness.metrics.ranx import by_ranx
from harness.metrics.trec_eval import by_trec_eval
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
    """Score `run` by ranx, and check every value against trec_eval.

    Queries of the run without judgments are left out; judged queries without results score 0. `levels` say from
    which grade up a document is relevant.

    Raises EvaluatorsDisagree where the two differ by more than 1e-6.
    """
    query_ids = tuple(sorted(qrels))
    values = by_ranx(run, qrels, query_ids, metrics, levels)
    try:
        check(query_ids, values, by_trec_eval(run, qrels, query_ids, metrics, levels))
    except EvaluatorsDisagree as error:
        error.run = run
        raise
    return Scores(query_ids, values)


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
