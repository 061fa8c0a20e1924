"""What an ablation measured, sorted into the rows of Table 3 by the records' manifests, and the orders of its rows."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

from reports.ablation import CLAIMS, REFERENCE, ROWS, rows_of
from reports.compare import Comparison, paired_t_test
from reports.errors import RecordError
from reports.paper import published
from reports.records import Record

HEADLINE = "MRR@10"  # section 4.2 argues by it
PRINTED_ON = "MS MARCO Dev"
LEVEL = 0.05
_COMPARABLE = ("msmarco-passage/dev/small", 768)


@dataclass(frozen=True)
class Measured:
    """A row of Table 3 on one collection: its records, one a training seed."""

    records: tuple[Record, ...]

    @property
    def halves(self) -> tuple[int, int]:
        """(D, K) as run."""
        options = self.records[0].manifest.system.options
        return int(options["dense"]), int(options["lexical"])

    def mean(self, metric: str) -> float:
        """Mean over the seeds."""
        return statistics.fmean(record.metrics[metric] for record in self.records)

    def sd(self, metric: str) -> float | None:
        """Sample standard deviation over the seeds (n - 1 in the denominator); None for one seed."""
        values = [record.metrics[metric] for record in self.records]
        return statistics.stdev(values) if len(values) > 1 else None

    @cached_property
    def _tables(self) -> list[dict[str, dict[str, float]]]:
        return [record.per_query() for record in self.records]

    def per_query(self, metric: str) -> dict[str, float]:
        """{query: the metric's mean over the seeds}."""
        return {q: statistics.fmean(table[q][metric] for table in self._tables) for q in self._tables[0]}


class Ablation:
    """What was measured on one collection, {row of Table 3: `Measured`}."""

    def __init__(self, rows: Mapping[str, Measured]) -> None:
        self.rows = dict(rows)
        self.first = next(iter(self.rows.values())).records[0].manifest
        self.hidden = int(self.first.system.model["hidden"])
        self.seeds = seeds_of(next(iter(self.rows.values())).records)

    @property
    def comparable(self) -> bool:
        """Whether the printed numbers are of this collection and of a model so wide."""
        return (self.first.data.dataset_id, self.hidden) == _COMPARABLE

    def compare(self, a: str, b: str, metric: str) -> Comparison:
        """Row `b` against row `a`, by a paired t-test over the queries' means over the seeds."""
        return paired_t_test(self.rows[a].per_query(metric), self.rows[b].per_query(metric))

    def against_whole(self, row: str, metric: str) -> Comparison | None:
        """A row against "CLS and OT decoding"; None for that itself, which stands in the table twice."""
        same = self.rows[row].records == self.rows[REFERENCE].records
        return None if same else self.compare(REFERENCE, row, metric)

    def claims(self) -> list["Claim"]:
        """Each order of rows that section 4.2 states."""
        return [Claim(better, worse, self.compare(worse, better, HEADLINE)) for better, worse in CLAIMS]


@dataclass(frozen=True)
class Claim:
    """`better` is above `worse` by MRR@10, says the paper; `test` is of the former against the latter."""

    better: str
    worse: str
    test: Comparison

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
        return self.test.difference > 0

    @property
    def significant(self) -> bool:
        """Whether the difference, whichever way it goes, has p < 0.05."""
        return self.test.p < LEVEL


def seeds_of(records: Iterable[Record]) -> tuple[int, ...]:
    """The training seeds of checkpoints, as these say."""
    return tuple(int(record.manifest.system.trained["seed"]) for record in records)


def gather(records: Sequence[Record]) -> list[Ablation]:
    """Sort records by collection, row and seed, by their manifests alone.

    Raises RecordError for a record that is no row of Table 3, a row that is missing, two records for one seed, or rows
    whose seeds differ.
    """
    found: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        names = rows_of(record)
        if not names:
            raise RecordError(f"{record.folder}: its manifest makes it no row of Table 3 (stage 2 of an ablation).")
        for name in names:
            found.setdefault(record.manifest.data.name, {}).setdefault(name, []).append(record)
    for dataset, rows in found.items():
        if missing := [row.name for row in ROWS if row.name not in rows]:
            raise RecordError(f"{dataset}: no record for {', '.join(missing)}. Run the ablation to its end.")
        wanted = sorted(set(seeds_of(rows[REFERENCE])))
        if odd := [name for name, those in rows.items() if sorted(seeds_of(those)) != wanted]:
            raise RecordError(f"{dataset}: {', '.join(odd)} want one record for each of the seeds {wanted}.")
    return [
        Ablation({row.name: Measured(tuple(sorted(rows[row.name], key=lambda r: seeds_of([r])))) for row in ROWS})
        for rows in found.values()
    ]
