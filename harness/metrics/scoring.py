"""Runs become scores: ranx computes them, trec_eval checks every one.

The order of a run is fixed before either sees it (`harness.retrievers.types.Run`: one tie rule). ranx is handed arrays
in its documented array form instead of its `Run`, whose construction from dictionaries takes thirty times as long as
the evaluation and sorts ties as it likes. In the arrays a judged document has a number of its own and every other
document is a placeholder, so each keeps its rank.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.retrievers.errors import InputError, unknown
from harness.retrievers.types import Run

TOLERANCE = 1e-6  # of a metric's value per query, between ranx and trec_eval
DEFAULT_METRICS = ("MRR@10", "MRR@100", "R@10", "R@50", "R@100", "R@1000", "NDCG@10")
_UNJUDGED, _PADDING_GRADE = -1.0, -1.0
_CHECKED_AT_ONCE = 256  # queries that are held as trec_eval's dictionaries, which take fifteen times a run's bytes
Values = npt.NDArray[np.float64]


class EvaluatorsDisagree(RuntimeError):
    """ranx and trec_eval give one query different values: a bug in one of them or in ours, such as a tie rule."""


@dataclass(frozen=True)
class Family:
    """One metric at any cutoff: its name here, in ranx and in trec_eval."""

    name: str
    ranx: str
    trec_eval: str
    binary: bool  # counts grades from `binary_level` up; otherwise uses the grades themselves


FAMILIES = {
    family.name.casefold(): family
    for family in (
        Family("MRR", "mrr", "recip_rank", binary=True),  # trec_eval has no cutoff here; see _trec_eval
        Family("R", "recall", "recall", binary=True),
        Family("P", "precision", "P", binary=True),
        Family("MAP", "map", "map_cut", binary=True),
        Family("NDCG", "ndcg", "ndcg_cut", binary=False),  # linear gain, as trec_eval's
    )
}
_SYNONYMS = {"recall": "r", "precision": "p", "rr": "mrr"}


@dataclass(frozen=True)
class Metric:
    """A family and its cutoff, such as NDCG@10."""

    family: Family
    cutoff: int

    def __str__(self) -> str:
        return f"{self.family.name}@{self.cutoff}"


def parse_metrics(names: Iterable[str]) -> list[Metric]:
    """Parse names such as `ndcg@10` or `Recall@50`, in any case, each once.

    Raises InputError for a family that is not there or a cutoff that is no number from 1 up.
    """
    found: dict[str, Metric] = {}
    for name in names:
        family, at, cutoff = name.strip().partition("@")
        key = _SYNONYMS.get(family.casefold(), family.casefold())
        if key not in FAMILIES:
            allowed = [f"{family.name}@k" for family in FAMILIES.values()]
            raise unknown("metric", name, allowed, "k is a rank from 1 up.")
        if not at or not re.fullmatch(r"[1-9]\d{0,8}", cutoff):
            raise InputError(f"the metric {name!r} needs a cutoff: {FAMILIES[key].name}@k with k a rank from 1 up.")
        metric = Metric(FAMILIES[key], int(cutoff))
        found[str(metric)] = metric
    return list(found.values())


@dataclass(frozen=True)
class Scores:
    """Values of each metric for each judged query (also those that have no results: 0)."""

    query_ids: tuple[str, ...]
    values: dict[str, Values]  # metric → [Q]

    def mean(self) -> dict[str, float]:
        """The mean over all judged queries."""
        return {name: float(np.mean(values)) for name, values in self.values.items()}


def score(run: Run, qrels: Mapping[str, Mapping[str, int]], metrics: Sequence[Metric], binary_level: int = 1) -> Scores:
    """Score `run` by ranx, and check every value against trec_eval.

    Queries of the run without judgments are left out; judged queries without results score 0. `binary_level` is the
    least grade that counts as relevant for the binary metrics.

    Raises EvaluatorsDisagree where the two differ by more than 1e-6.
    """
    query_ids = tuple(sorted(qrels))
    values = by_ranx(run, qrels, query_ids, metrics, binary_level)
    check(query_ids, values, _trec_eval(run, qrels, query_ids, metrics, binary_level))
    return Scores(query_ids, values)


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


def _trec_eval(
    run: Run, qrels: Mapping[str, Mapping[str, int]], query_ids: Sequence[str], metrics: Sequence[Metric], level: int
) -> dict[str, Values]:
    import pytrec_eval

    found: dict[str, dict[str, float]] = {}
    for low in range(0, len(run), _CHECKED_AT_ONCE):
        results = trec_results(run, qrels, range(low, min(low + _CHECKED_AT_ONCE, len(run))))
        judged = {query_id: dict(qrels[query_id]) for query_id in results}
        for binary in (True, False):
            names = {trec_name(metric) for metric in metrics if metric.family.binary is binary}
            if not names or not results:
                continue
            evaluator = pytrec_eval.RelevanceEvaluator(judged, names, relevance_level=level if binary else 1)
            for query_id, values in evaluator.evaluate(results).items():
                found.setdefault(query_id, {}).update(values)
    return trec_values(found, query_ids, metrics)


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
    family = metric.family.trec_eval
    return family if family == "recip_rank" else f"{family}.{metric.cutoff}"


def _trec_value(values: Mapping[str, float], metric: Metric) -> float:
    value = values.get(trec_name(metric).replace(".", "_"), 0.0)
    if metric.family.trec_eval == "recip_rank" and value * (metric.cutoff + 0.5) < 1:
        return 0.0  # the first relevant document lies below the cutoff
    return float(value)


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
