"""A comparison over a suite as Markdown, CSV or JSON: a line a collection, and the mean."""

import csv
import dataclasses
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from harness.reports.markdown import table
from harness.reports.statistics.format import p_value


@dataclass(frozen=True)
class Difference:
    """A system against the baseline: difference of the means, two-sided p, and p corrected for several tests."""

    value: float
    p: float
    corrected: float


@dataclass(frozen=True)
class Row:
    """A collection, or the mean over all: the mean of each system, the baseline first, and what differs from it."""

    collection: str
    queries: int
    means: tuple[float, ...]
    differences: tuple[Difference, ...]  # of each system but the baseline


@dataclass(frozen=True)
class OverSuite:
    """Several systems on the collections of a suite."""

    suite: str
    metric: str
    systems: tuple[str, ...]  # the baseline first
    rows: tuple[Row, ...]
    whole: Row
    of: int  # collections of the suite

    @property
    def counted(self) -> str:
        """`12 of 13 collections`."""
        return f"{len(self.rows)} of {self.of} collections"


def as_markdown(found: OverSuite) -> str:
    """One table. The p of a collection is over its queries and corrected by Holm; that of the mean over collections."""
    columns = ["collection", "queries", *found.systems]
    for name in found.systems[1:]:
        of = f" of {name}" if len(found.systems) > 2 else ""
        columns += [f"difference{of}", f"p{of}", f"p corrected{of}"]
    rows = [_cells(row, row.collection) for row in found.rows]
    rows.append(_cells(found.whole, f"mean, {found.counted}"))
    return table(columns, rows, columns[1:])


def _cells(row: Row, name: str) -> list[str]:
    cells = [name, f"{row.queries:,}", *(f"{mean:.4f}" for mean in row.means)]
    for difference in row.differences:
        cells += [f"{difference.value:+.4f}", p_value(difference.p), p_value(difference.corrected)]
    return cells


def _plain(found: OverSuite) -> Iterator[dict[str, Any]]:
    for row in (*found.rows, found.whole):
        nothing: list[Difference | None] = [None]
        for name, mean, of_one in zip(found.systems, row.means, nothing + list(row.differences), strict=True):
            yield {
                "collection": row.collection,
                "queries": row.queries,
                "system": name,
                "value": mean,
                "difference": of_one and of_one.value,
                "p": of_one and of_one.p,
                "p_corrected": of_one and of_one.corrected,
            }


def as_csv(found: OverSuite) -> str:
    """A line for each system on each collection and in the mean, with all digits."""
    rows = [{"suite": found.suite, "metric": found.metric} | row for row in _plain(found)]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def as_json(found: OverSuite, **more: object) -> str:
    """Everything with all digits; `more` are further keys, such as the seed."""
    whole = {
        "suite": found.suite,
        "metric": found.metric,
        "baseline": found.systems[0],
        "systems": list(found.systems),
        "of": found.of,
        **more,
        "collections": [dataclasses.asdict(row) for row in found.rows],
        "mean": dataclasses.asdict(found.whole),
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"
