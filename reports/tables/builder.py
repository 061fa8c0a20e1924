"""The paper's Tables 1 to 3 from records, with the published numbers beside them.

A cell compares a measured score with a printed one, and says what the comparison is worth (`Status`). `reproduced` is
strict: the same system on the same collection must give the same digits, so the difference may be no more than
rounding, half a unit of the last printed digit and half a unit of the fourth decimal (trec_eval prints four, and who
copies its figures rounds them again). The bootstrap interval says how far the score could be another with other
queries; it is no licence to be another with the same ones, so a gap inside the interval is a gap, and is said to be
inside. A model that is trained anew is not the authors' to the last digit: `tolerance` names a wider difference to
accept, and every table says which it was made with.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import numpy as np

from harness.reports.errors import RecordError
from harness.reports.paper import claims, rows
from harness.reports.paper.collections import COLLECTIONS, LICENSED, Collection, against
from harness.reports.paper.published import AVERAGE, PublishedTable, published
from harness.reports.records.comparable import unlike
from harness.reports.records.labels import label
from harness.reports.records.records import Record
from harness.reports.statistics.bootstrap import SEED, Values, interval, means
from harness.reports.tables.cells import COMPARABLE, Cell, Status
from harness.reports.tables.table import Table

__all__ = ["Cell", "Status", "Table", "build", "collection_and_metric", "rounding"]
_FOURTH = 0.5e-4
_EXACT = 1e-9  # of sums of floats
_SOME = 3


def build(
    table: int, records: Iterable[Record], tolerance: float | None = None, instead: Mapping[str, str] | None = None
) -> Table:
    """Table 1, 2 or 3 from `records`.

    `tolerance` is the greatest difference that is `reproduced`; rounding alone where None. `instead` puts other
    collections in the place of the columns' own, {"MS MARCO Dev": data set id or name}: nothing there is comparable.

    Raises RecordError for a table that there is not, or a collection that the table does not have.
    """
    printed = published(table)
    return _Builder(printed, tuple(records), tolerance, dict(instead or {})).build()


def rounding(printed: str) -> float:
    """How far a score may be from `printed` and still be the same number."""
    last = int(Decimal(printed).as_tuple().exponent)
    return 0.5 * 10.0**last + _FOURTH


def collection_and_metric(table: PublishedTable, test: str) -> tuple[str, str]:
    """What a test of a table is on and by."""
    if table.number == 2:
        return test, "NDCG@10"
    name, _, metric = test.rpartition(" ")
    return name, metric


@dataclass
class _Builder:
    printed: PublishedTable
    records: tuple[Record, ...]
    tolerance: float | None
    instead: dict[str, str]
    used: set[int] = field(default_factory=set)  # numbers of records
    remarks: list[str] = field(default_factory=list)
    _draws: dict[tuple[str, str], Values] = field(default_factory=dict)
    _values: dict[Path, dict[str, list[list[float]]]] = field(default_factory=dict)

    def build(self) -> Table:
        tests = claims.tests(self.printed)
        there = {collection_and_metric(self.printed, test)[0] for test in tests}
        if unknown := sorted(set(self.instead) - there):
            raise RecordError(f"Table {self.printed.number} has no {', '.join(unknown)}; there is {', '.join(there)}.")
        cells = {(system, test): self._cell(system, test) for system in self.printed.systems for test in tests}
        if AVERAGE in self.printed.rows:
            cells |= {(s, AVERAGE): self._average(s, [cells[s, test] for test in tests]) for s in self.printed.systems}
            tests = (*tests, AVERAGE)

        def measured(system: str, test: str) -> float | None:
            cell = cells[system, test]
            return cell.measured if cell.ranks else None

        for test in tests:
            self._check_column([cells[system, test] for system in self.printed.systems])
        notes = [*claims.flags(self.printed), *claims.verdicts(self.printed, measured)]
        self._tell_unused()
        remarks = tuple(dict.fromkeys(self.remarks))
        return Table(self.printed, cells, tests, tuple(notes), remarks, self.tolerance, self.instead)

    def _check_column(self, cells: Sequence[Cell]) -> None:
        """Raise RecordError for cells of different collections, unless a cell says already what is against it."""
        place = self.instead.get(collection_and_metric(self.printed, cells[0].test)[0])
        silent = [cell.record for cell in cells if cell.record is not None and (place or not cell.reasons)]
        if fault := unlike(silent):
            raise RecordError(
                f"{fault} Keep the records of one of them in a folder of their own, and name it --results."
            )

    def _cell(self, system: str, test: str) -> Cell:
        name, metric = collection_and_metric(self.printed, test)
        printed = claims.printed_text(self.printed, system, test)
        wanted, place = COLLECTIONS[name], self.instead.get(name)
        plain = Cell(system, test, metric, printed, "not run")
        found = self._candidates(system, wanted)
        scored = [(record, reasons) for record, reasons in found if metric in record.metrics]
        if not scored:
            if found:
                folder = found[0][0].folder
                return dataclasses.replace(plain, reasons=(f"{folder} has no {metric}: run it with --metric {metric}",))
            unavailable = wanted.licensed and place is None
            return dataclasses.replace(plain, status="data unavailable", reasons=(LICENSED,)) if unavailable else plain
        (record, reasons), *others = scored
        if others:
            which = "newest" if bool(others[0][1]) == bool(reasons) else "newest comparable"
            left = ", ".join(str(other.folder) for other, _ in others)
            where = f"{place or name}, {metric}"
            self.remarks.append(f"{system} on {where}: {record.folder} is the {which} record; left out: {left}")
        groups = self._groups(record, metric)
        # seeded by the column, so that the collections of an average are drawn independently
        seed = (SEED, claims.tests(self.printed).index(test))
        self._draws[system, test] = draws = means(groups, seed)
        low, high = interval(draws)
        measured = record.metrics[metric]
        value = float(printed) if printed else None
        within = None if value is None else (rounding(printed) if self.tolerance is None else self.tolerance)
        ranks = not reasons or place is not None
        if not printed:
            reasons = [*reasons, "the paper has no number here"]
        return Cell(
            system=system,
            test=test,
            metric=metric,
            printed=printed,
            status=_status(reasons, None if value is None else measured - value, within),
            reasons=tuple(reasons),
            measured=measured,
            low=low,
            high=high,
            queries=sum(map(len, groups)),
            against=value,
            tolerance=within,
            ranks=ranks,
            record=record,
        )

    def _candidates(self, system: str, wanted: Collection) -> list[tuple[Record, list[str]]]:
        """Records that may fill a cell of `system`, each with what is against it: comparable ones first, then newer."""
        place = self.instead.get(wanted.name)
        found = []
        for number, record in enumerate(self.records):
            data, run = record.manifest.data, record.manifest.system
            fits = place in (data.dataset_id, data.name) if place else data.dataset_id == wanted.dataset_id
            if fits and system in rows.rows_of(self.printed.number, run):
                reasons = [
                    *against(wanted, data, stand_in=place is not None),
                    *rows.against(self.printed.number, system, run),
                ]
                found.append((record, list(dict.fromkeys(reasons))))
                self.used.add(number)
        newest = sorted(found, key=lambda pair: (pair[0].manifest.created, str(pair[0].folder)), reverse=True)
        return sorted(newest, key=lambda pair: bool(pair[1]))

    def _average(self, system: str, cells: Sequence[Cell]) -> Cell:
        """Over the cells that both sides have, comparable ones only; beside it the mean of the same printed cells."""
        printed = self.printed.printed(AVERAGE, system)
        both = [cell for cell in cells if cell.status in COMPARABLE]
        plain = Cell(system, AVERAGE, "NDCG@10", printed, "not run", cells=len(both))
        if not both:
            return plain
        measured = float(np.mean([cell.measured for cell in both]))
        same = float(np.mean([cell.against for cell in both]))
        low, high = interval(np.mean([self._draws[system, cell.test] for cell in both], axis=0))
        reasons = []
        if len(both) < len(cells):
            reasons.append(f"{len(both)} of {len(cells)} collections, beside the same printed cells")
        within = rounding(printed) if self.tolerance is None else self.tolerance
        return dataclasses.replace(
            plain,
            status=_status(reasons, measured - same, within),
            reasons=tuple(reasons),
            measured=measured,
            low=low,
            high=high,
            queries=sum(cell.queries or 0 for cell in both),
            against=same,
            tolerance=within,
            ranks=not reasons,
        )

    def _groups(self, record: Record, metric: str) -> list[list[float]]:
        """The queries' values of a metric: of all, or of each part of a composite, whose means are averaged."""
        if record.folder not in self._values:
            parts: dict[str, dict[str, list[float]]] = {}
            for query_id, values in record.per_query().items():
                part = parts.setdefault(query_id.partition(":")[0] if record.manifest.parts else "", {})
                for name, value in values.items():
                    part.setdefault(name, []).append(value)
            names = next(iter(parts.values()), {})
            self._values[record.folder] = {name: [part[name] for part in parts.values()] for name in names}
        return self._values[record.folder][metric]

    def _tell_unused(self) -> None:
        left = [record for number, record in enumerate(self.records) if number not in self.used]
        if not left:
            return
        some = "; ".join(_label(r) + _why(r) for r in left[:_SOME]) + ("; …" if len(left) > _SOME else "")
        count = f"{len(left)} record{'s fill' if len(left) > 1 else ' fills'}"
        self.remarks.append(f"{count} no cell of Table {self.printed.number} by what the manifest says: {some}")


def _why(record: Record) -> str:
    reason = rows.silence(record.manifest.system)
    return f" ({reason})" if reason else ""


def _label(record: Record) -> str:
    return f"{label(record.manifest)} on {record.manifest.data.name}"


def _status(reasons: Sequence[str], difference: float | None, tolerance: float | None) -> Status:
    if reasons or difference is None or tolerance is None:
        return "not comparable"
    return "reproduced" if abs(difference) <= tolerance + _EXACT else "gap"
