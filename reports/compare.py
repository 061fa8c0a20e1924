"""Is a difference between two runs real?"""

from collections.abc import Mapping
from dataclasses import dataclass

from reports.errors import RecordError


@dataclass(frozen=True)
class Comparison:
    """`b` against `a` over the same n queries: mean difference b - a, two-sided p, and queries won, tied, lost."""

    queries: int
    difference: float
    p: float
    wins: int
    ties: int
    losses: int


def paired_t_test(a: Mapping[str, float], b: Mapping[str, float]) -> Comparison:
    """Student's paired t-test over the queries' values of one metric.

    Where no query differs p is 1. Raises RecordError where the two are not over the same queries, or over fewer than 2.
    """
    from scipy import stats

    if a.keys() != b.keys() or len(a) < 2:
        raise RecordError(f"a paired test needs the same queries, 2 at least; got {len(a):,} and {len(b):,}.")
    differences = [b[query] - a[query] for query in a]
    mean = sum(differences) / len(differences)
    if len(set(differences)) == 1:  # no spread: all alike, or all shifted alike
        p = 1.0 if mean == 0 else 0.0
    else:
        p = float(stats.ttest_rel(list(b.values()), [a[query] for query in b]).pvalue)
    wins = sum(value > 0 for value in differences)
    losses = sum(value < 0 for value in differences)
    return Comparison(len(differences), mean, p, wins, len(differences) - wins - losses, losses)
