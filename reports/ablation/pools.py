"""The tests of an ablation: of a collection, or of several whose queries are pooled, corrected for several orders.

Every test is of paired queries; with several seeds a query's value is its mean over them. Where queries are pooled,
each query counts alike, so that a collection counts by its queries; beside that stands the mean over the collections,
in which each collection counts alike.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from harness.reports.ablation.results import Ablation, sd
from harness.reports.ablation.rows import CLAIMS, REFERENCE
from harness.reports.paper.published import published
from harness.reports.records.exposure import KINDS
from harness.reports.statistics.paired import Comparison, paired_t_test
from harness.reports.statistics.randomisation import randomisation_test

HEADLINE = "MRR@10"  # section 4.2 argues by it
TESTED = (HEADLINE, "NDCG@10")
PRINTED_ON = "MS MARCO Dev"
LEVEL = 0.05
PERMUTATIONS = 20_000


@dataclass(frozen=True)
class Test:
    """One system against another by one metric."""

    pooled: Comparison  # over all queries, each counting alike; p of a paired t-test, not corrected
    p_max_t: float  # of the same difference by sign flips, corrected for all that were tested together
    alike: float  # the mean of the collections' differences, each collection counting alike
    alike_p_max_t: float


class Pool:
    """One collection or several, their queries together."""

    def __init__(self, name: str, parts: Sequence[Ablation]) -> None:
        self.name, self.parts = name, tuple(parts)

    @property
    def systems(self) -> list[str]:
        """The rows of Table 3 and what stands beside them."""
        return list(self.parts[0].systems)

    @property
    def counts(self) -> dict[str, int]:
        """{collection: queries}."""
        return {part.name: len(part.rows[REFERENCE].tables[0]) for part in self.parts}

    @property
    def queries(self) -> int:
        """Of all collections."""
        return sum(self.counts.values())

    def per_query(self, system: str, metric: str) -> dict[str, float]:
        """{collection and query: the metric's mean over the seeds}; query ids of two collections may be alike."""
        return {
            f"{part.name}\t{query}": value
            for part in self.parts
            for query, value in part.systems[system].per_query(metric).items()
        }

    def pooled(self, system: str, metric: str) -> tuple[float, float | None]:
        """Mean over all queries, over the seeds; and the standard deviation of that mean over the seeds."""
        seeds = zip(*(part.systems[system].tables for part in self.parts), strict=True)
        return _over([statistics.fmean(row[metric] for table in of_one for row in table.values()) for of_one in seeds])

    def alike(self, system: str, metric: str) -> tuple[float, float | None]:
        """Mean over the collections' means, each counting alike, and its standard deviation over the seeds."""
        seeds = zip(*(part.systems[system].by_seed(metric) for part in self.parts), strict=True)
        return _over([statistics.fmean(of_one) for of_one in seeds])

    def tests(self, pairs: Sequence[tuple[str, str]], metric: str) -> list[Test]:
        """Test the first of each pair against the second, corrected (max-T) for the number of pairs.

        The signs of a query's differences are flipped in all pairs at once. The mean in which collections count alike
        is tested by the same flips, of differences that weigh N / (C n) for one of n queries among C collections with
        N queries together, so that their mean is that mean. Raises RecordError for fewer than 2 queries.
        """
        return _tests(self.parts, tuple(pairs), metric)

    def against_whole(self, metric: str) -> dict[str, Test]:
        """Every row and every other system against "CLS and OT decoding", which itself is left out."""
        return dict(zip(self._others, self.tests([(one, REFERENCE) for one in self._others], metric), strict=True))

    def t_tests(self, metric: str) -> dict[str, Comparison]:
        """As `against_whole`, by a paired t-test alone, not corrected."""
        whole = self.per_query(REFERENCE, metric)
        return {system: paired_t_test(whole, self.per_query(system, metric)) for system in self._others}

    @property
    def _others(self) -> list[str]:
        return [system for system in self.systems if not all(part.is_whole(system) for part in self.parts)]

    def claims(self, metric: str = HEADLINE) -> list["Claim"]:
        """Each order of rows that section 4.2 states."""
        return [Claim(*pair, test) for pair, test in zip(CLAIMS, self.tests(CLAIMS, metric), strict=True)]


@dataclass(frozen=True)
class Claim:
    """`better` is above `worse` by MRR@10, says the paper; `test` is of the former against the latter."""

    better: str
    worse: str
    test: Test

    @property
    def order(self) -> str:
        """In words."""
        return f"{self.better} > {self.worse}"

    @property
    def published(self) -> Decimal:
        """The difference as printed."""
        column = f"{PRINTED_ON} {HEADLINE}"
        high, low = (published(3).cell(row, column) for row in (self.better, self.worse))
        assert high is not None
        assert low is not None
        return high - low

    @property
    def holds(self) -> bool:
        """Whether the order is the paper's."""
        return self.test.pooled.difference > 0

    @property
    def significant(self) -> bool:
        """Whether the difference, whichever way it goes, has a corrected p < 0.05."""
        return self.test.p_max_t < LEVEL


def pools(found: Sequence[Ablation]) -> list[Pool]:
    """The collections of each kind together, where there are several; a mean of collections is not one of them."""
    made = []
    for kind in KINDS:
        parts = [one for one in found if one.exposure.kind == kind and not one.first.data.rules.mean_of]
        if len(parts) > 1:
            made.append(Pool(kind, parts))
    return made


@lru_cache(maxsize=1024)  # the same stands in several tables
def _tests(parts: tuple[Ablation, ...], pairs: tuple[tuple[str, str], ...], metric: str) -> list[Test]:
    pool = Pool("", parts)
    values = {system: pool.per_query(system, metric) for system in dict.fromkeys(s for pair in pairs for s in pair)}
    compared = [paired_t_test(values[worse], values[better]) for better, worse in pairs]
    queries = sorted(values[pairs[0][0]])
    differences = [[values[better][q] - values[worse][q] for q in queries] for better, worse in pairs]
    flipped = randomisation_test(differences, PERMUTATIONS)
    if len(parts) == 1:
        again, means = flipped, [found.difference for found in compared]
    else:
        weights = {name: pool.queries / (len(parts) * n) for name, n in pool.counts.items()}
        weighed = [[weights[q.split("\t")[0]] * d for q, d in zip(queries, row, strict=True)] for row in differences]
        again, means = randomisation_test(weighed, PERMUTATIONS), [statistics.fmean(row) for row in weighed]
    return [Test(*found) for found in zip(compared, flipped.max_t, means, again.max_t, strict=True)]


def _over(by_seed: Sequence[float]) -> tuple[float, float | None]:
    return statistics.fmean(by_seed), sd(by_seed)
