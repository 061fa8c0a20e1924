"""What an ablation measured, sorted into the rows of Table 3 by the records' manifests, and what stands beside them."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from harness.reports.ablation.rows import REFERENCE, ROWS, rows_of
from harness.reports.errors import RecordError
from harness.reports.records.exposure import KINDS, Exposure
from harness.reports.records.records import Record

_COMPARABLE = ("msmarco-passage/dev/small", 768)


@dataclass(frozen=True)
class Measured:
    """A system on one collection: its records, one a training seed; a single one where nothing is trained."""

    records: tuple[Record, ...]

    @property
    def halves(self) -> tuple[int, int]:
        """(D, K) as run."""
        options = self.records[0].manifest.system.options
        return int(options["dense"]), int(options["lexical"])

    def by_seed(self, metric: str) -> list[float]:
        """The mean over the collection for each seed."""
        return [record.metrics[metric] for record in self.records]

    def mean(self, metric: str) -> float:
        """Mean over the seeds."""
        return statistics.fmean(self.by_seed(metric))

    def sd(self, metric: str) -> float | None:
        """Sample standard deviation over the seeds (n - 1 in the denominator); None for one seed."""
        return sd(self.by_seed(metric))

    @cached_property
    def tables(self) -> list[dict[str, dict[str, float]]]:
        """{query: {metric: value}} for each seed."""
        return [record.per_query() for record in self.records]

    def per_query(self, metric: str) -> dict[str, float]:
        """{query: the metric's mean over the seeds}."""
        return {q: statistics.fmean(table[q][metric] for table in self.tables) for q in self.tables[0]}


def sd(values: Sequence[float]) -> float | None:
    """Sample standard deviation (n - 1 in the denominator); None for a single value."""
    return statistics.stdev(values) if len(values) > 1 else None


class Ablation:
    """What was measured on one collection, {row of Table 3: `Measured`}, and {name: `Measured`} of other systems."""

    def __init__(
        self,
        rows: Mapping[str, Measured],
        others: Mapping[str, Measured] | None = None,
        exposure: Exposure | None = None,
    ) -> None:
        self.rows, self.others, self.exposure = dict(rows), dict(others or {}), exposure or Exposure()
        self.first = next(iter(self.rows.values())).records[0].manifest
        self.name = self.first.data.name
        self.hidden = int(self.first.system.model["hidden"])
        self.seeds = seeds_of(next(iter(self.rows.values())).records)

    @property
    def systems(self) -> dict[str, Measured]:
        """The rows, then the others."""
        return self.rows | self.others

    @property
    def comparable(self) -> bool:
        """Whether the printed numbers are of this collection and of a model so wide."""
        return (self.first.data.dataset_id, self.hidden) == _COMPARABLE

    def is_whole(self, system: str) -> bool:
        """Whether a system is "CLS and OT decoding", which stands in the table twice."""
        return self.systems[system].records == self.rows[REFERENCE].records


def seeds_of(records: Iterable[Record]) -> tuple[int, ...]:
    """The training seeds of checkpoints, as these say."""
    return tuple(int(record.manifest.system.trained["seed"]) for record in records)


def gather(
    records: Sequence[Record],
    others: Mapping[str, Sequence[Record]] | None = None,
    exposures: Mapping[str, Exposure] | None = None,
) -> list[Ablation]:
    """Sort records by collection, row and seed, by their manifests alone.

    `others` are the records of what stands beside the rows, by name, on every collection; `exposures` what training saw
    of each collection, by its name. Collections come by kind, in the order of `KINDS`.

    Raises RecordError for a record that is no row of Table 3, a row or other system that is missing, two records for
    one seed, or rows whose seeds differ.
    """
    found: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        names = rows_of(record)
        if not names:
            raise RecordError(f"{record.folder}: its manifest makes it no row of Table 3 (stage 2 of an ablation).")
        for name in names:
            found.setdefault(record.manifest.data.name, {}).setdefault(name, []).append(record)
    made = []
    for dataset, rows in found.items():
        if missing := [row.name for row in ROWS if row.name not in rows]:
            raise RecordError(f"{dataset}: no record for {', '.join(missing)}. Run the ablation to its end.")
        wanted = sorted(set(seeds_of(rows[REFERENCE])))
        if odd := [name for name, those in rows.items() if sorted(seeds_of(those)) != wanted]:
            raise RecordError(f"{dataset}: {', '.join(odd)} want one record for each of the seeds {wanted}.")
        measured = {row.name: Measured(tuple(sorted(rows[row.name], key=lambda r: seeds_of([r])))) for row in ROWS}
        made.append(Ablation(measured, _others(dataset, others or {}), (exposures or {}).get(dataset)))
    return sorted(made, key=lambda one: (*KINDS, "").index(one.exposure.kind))


def _others(dataset: str, others: Mapping[str, Sequence[Record]]) -> dict[str, Measured]:
    found = {}
    for name, records in others.items():
        here = tuple(record for record in records if record.manifest.data.name == dataset)
        if not here:
            raise RecordError(f"{dataset}: no record for {name}. Run the ablation to its end.")
        found[name] = Measured(here)
    return found
