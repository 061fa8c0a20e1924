"""Is a difference between two runs real? Which queries make it, and how much of it was judged?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.reports.errors import RecordError
from harness.reports.statistics import corrections, effect_size, randomisation
from harness.reports.statistics.format import p_two_digits
from harness.reports.statistics.randomisation import SAME

PerQuery = Mapping[str, float]


@dataclass(frozen=True)
class Comparison:
    """`b` against `a` over the same n queries: mean difference b - a, two-sided p, and queries won, tied, lost."""

    queries: int
    difference: float
    p: float | None  # None where all differences are alike and not 0: without spread there is no t
    wins: int
    ties: int
    losses: int

    @property
    def p_shown(self) -> str:
        """`p` as it is printed."""
        return p_two_digits(self.p)


def paired_t_test(a: PerQuery, b: PerQuery) -> Comparison:
    """Student's paired t-test over the queries' values of one metric.

    Where no query differs p is 1; where all differ by the same there is none. Raises RecordError where the two are not
    over the same queries, or over fewer than 2.
    """
    from scipy import stats

    check_pair(a, b)
    differences = [b[query] - a[query] for query in a]
    mean = sum(differences) / len(differences)
    p: float | None
    if effect_size.alike(differences):
        p = 1.0 if abs(mean) <= SAME else None
    else:
        p = float(stats.ttest_rel(list(b.values()), [a[query] for query in b]).pvalue)
    wins = sum(value > SAME for value in differences)
    losses = sum(value < -SAME for value in differences)
    return Comparison(len(differences), mean, p, wins, len(differences) - wins - losses, losses)


def check_pair(a: PerQuery, b: PerQuery, names: tuple[str, str] = ("the first", "the second")) -> None:
    """Raise RecordError where two are not over the same queries, naming some that differ, or over fewer than 2."""
    if a.keys() == b.keys() and len(a) >= 2:
        return
    lacking = [
        f"{name} lacks {len(missing):,} of the other's ({', '.join(missing[:5])}{', …' * (len(missing) > 5)})"
        for name, missing in zip(names, (sorted(b.keys() - a.keys()), sorted(a.keys() - b.keys())), strict=True)
        if missing
    ]
    raise RecordError(
        f"a paired test needs the same queries, 2 at least; got {len(a):,} and {len(b):,}"
        + (f": {'; '.join(lacking)}" if lacking else "")
        + "."
    )


@dataclass(frozen=True)
class Against:
    """A system against the baseline, in one metric over the same n queries. Every p is two-sided."""

    name: str
    value: float  # mean over the queries
    difference: float  # mean of system - baseline
    low: float | None  # 95 % Student's interval of that mean; None where all differences are alike
    high: float | None
    d_z: float | None  # Cohen's d_z; None where all differences are alike
    detectable: float | None  # the least mean difference at 80 % power, of `effect_size.detectable`
    wins: int
    ties: int
    losses: int
    p_t: float | None  # None as `Comparison.p`
    p_t_holm: float | None
    p_random: float
    p_random_holm: float
    p_max_t: float


@dataclass(frozen=True)
class Significance:
    """Several systems against one baseline."""

    baseline: str
    value: float
    queries: int
    systems: tuple[Against, ...]
    flips: int
    exact: bool


def against_baseline(
    baseline: str, values: Mapping[str, PerQuery], permutations: int = 100_000, seed: int = 42
) -> Significance:
    """Compare every other system of `values` ({name: {query id: value}}) with `baseline`.

    A paired t-test and a randomisation test (`harness.reports.statistics.randomisation`) for each, and both corrected
    for the number of systems: by Holm, and the latter by max-T as well. Queries are taken in order of their ids, so
    that the order of a file changes nothing.

    Raises RecordError where two are not over the same queries, or over fewer than 2.
    """
    base = values[baseline]
    others = {name: rows for name, rows in values.items() if name != baseline}
    for name, rows in others.items():
        check_pair(base, rows, (baseline, name))
    ids = sorted(base)
    differences = {name: [rows[query] - base[query] for query in ids] for name, rows in others.items()}
    t_tests = {name: paired_t_test(base, rows) for name, rows in others.items()}
    t_holm = corrections.holm_of_those([found.p for found in t_tests.values()])
    randomised = randomisation.randomisation_test(list(differences.values()), permutations, seed)
    random_holm = corrections.holm(randomised.p)
    systems = []
    for number, (name, found) in enumerate(t_tests.items()):
        low, high = effect_size.interval(differences[name])
        systems.append(
            Against(
                name=name,
                value=_mean(others[name]),
                difference=found.difference,
                low=low,
                high=high,
                d_z=effect_size.cohens_d_z(differences[name]),
                detectable=effect_size.detectable(differences[name]),
                wins=found.wins,
                ties=found.ties,
                losses=found.losses,
                p_t=found.p,
                p_t_holm=t_holm[number],
                p_random=randomised.p[number],
                p_random_holm=random_holm[number],
                p_max_t=randomised.max_t[number],
            )
        )
    return Significance(baseline, _mean(base), len(ids), tuple(systems), randomised.flips, randomised.exact)


def _mean(rows: PerQuery) -> float:
    return math.fsum(rows.values()) / len(rows)


@dataclass(frozen=True)
class Change:
    """One query's value in the baseline and in a system."""

    query_id: str
    baseline: float
    value: float

    @property
    def difference(self) -> float:
        """How much the system gains."""
        return self.value - self.baseline


def changes(a: PerQuery, b: PerQuery, count: int) -> list[Change]:
    """The `count` queries that differ most between `a` and `b`, greatest first, then by id; those that tie are not."""
    every = [Change(query, a[query], b[query]) for query in a]
    differing = [change for change in every if abs(change.difference) > SAME]
    return sorted(differing, key=lambda change: (-abs(change.difference), change.query_id))[:count]


@dataclass(frozen=True)
class Judged:
    """How many of the documents that a run shows in its first `cutoff` have a judgment, whatever its grade."""

    cutoff: int
    share: float | None  # the mean over the queries that have results; None where none has
    shown: int
    unjudged: int


def judged(ranked: Mapping[str, Sequence[str]], qrels: Mapping[str, Mapping[str, int]], cutoff: int = 10) -> Judged:
    """Judged@cutoff of `ranked`, {query id: document ids, best first}.

    A query's share is of the documents shown, which may be fewer than `cutoff`; a query without results, or without any
    judgment, counts in none of the figures.
    """
    shares, shown, unjudged = [], 0, 0
    for query, doc_ids in ranked.items():
        first = doc_ids[:cutoff]
        if not first or query not in qrels:
            continue
        known = sum(doc_id in qrels[query] for doc_id in first)
        shares.append(known / len(first))
        shown += len(first)
        unjudged += len(first) - known
    return Judged(cutoff, math.fsum(shares) / len(shares) if shares else None, shown, unjudged)
