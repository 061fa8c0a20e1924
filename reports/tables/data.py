"""A built table as data: a DataFrame and CSV, a line for each cell; and the words that its other forms share."""

import json
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.reports.tables.cells import STATUSES, Cells, Status

if TYPE_CHECKING:
    import pandas as pd

# "" or NaN where a cell has none; `low` and `high` bound the 95 % bootstrap interval of `measured` over queries;
# `compared_with` is what `difference` is against: `published`, or for an average the mean of the same published cells;
# the ranks, 1 and 2, are among all systems of one test, measured and published each on its own
COLUMNS = (
    *("table", "system", "test", "metric", "measured", "low", "high", "queries", "published", "compared_with"),
    *("difference", "tolerance", "status", "reasons", "cells", "measured_rank", "published_rank"),
    *("dataset", "record", "created", "checkpoint"),
)
SIGNS: dict[Status, str] = {
    "reproduced": "=",
    "gap": "!",
    "not comparable": "~",
    "data unavailable": "x",
    "not run": "",
}
INTERVAL = "95 % interval of the mean over queries: percentile bootstrap, 10,000 samples, seeded"


def frame(table: Cells) -> "pd.DataFrame":
    """One row a cell, systems in printed order, `COLUMNS` as columns; `published` keeps the printed digits as text."""
    import pandas as pd

    return pd.DataFrame(_rows(table), columns=list(COLUMNS)).astype(
        {"queries": "Int64", "cells": "Int64", "measured_rank": "Int64", "published_rank": "Int64"}
    )


def as_csv(table: Cells) -> str:
    """`frame` as CSV: scores with six decimals, published ones as printed."""
    return str(frame(table).to_csv(index=False, float_format="%.6f", lineterminator="\n"))


def as_json(table: Cells) -> str:
    """Every cell with all digits, and what is said of the table."""
    whole = {
        "table": table.published.number,
        "caption": table.published.caption,
        "tolerance": table.tolerance,
        "cells": _rows(table),
        "notes": list(table.notes),
        "remarks": list(table.remarks),
    }
    return json.dumps(whole, indent=1, ensure_ascii=False, default=str) + "\n"


def _rows(table: Cells) -> list[dict[str, Any]]:
    found = []
    for test in table.tests:
        measured, published = table.measured_ranks(test), table.published_ranks(test)
        for system in table.published.systems:
            cell = table.cells[system, test]
            found.append(
                {
                    "table": table.published.number,
                    **{name: getattr(cell, name) for name in ("system", "test", "metric", "measured", "low", "high")},
                    "queries": cell.queries,
                    "published": cell.printed,
                    "compared_with": cell.against,
                    "difference": cell.difference,
                    "tolerance": cell.tolerance,
                    "status": cell.status,
                    "reasons": "; ".join(cell.reasons),
                    "cells": cell.cells,
                    "measured_rank": measured.get(system),
                    "published_rank": published.get(system),
                    "dataset": cell.record.manifest.data.name if cell.record else "",
                    "record": str(cell.record.folder) if cell.record else "",
                    "created": cell.record.manifest.created if cell.record else "",
                    "checkpoint": (cell.record.manifest.system.checkpoint or "") if cell.record else "",
                }
            )
    return found


@dataclass(frozen=True)
class Details:
    """The measured cells in words, a line each under `HEADS`; what is against them stands below, by its letter."""

    lines: list[tuple[str, ...]]
    footnotes: list[str]


HEADS = ("system", "test", "measured", "95 % interval", "published", "difference", "status")


def details(table: Cells) -> Details:
    """Every measured cell with all that it shows; the same reasons are told once."""
    lines: list[tuple[str, ...]] = []
    reasons: dict[str, str] = {}
    for test in table.tests:
        for system in table.published.systems:
            cell = table.cells[system, test]
            if cell.measured is None or cell.low is None or cell.high is None:
                continue
            published = cell.printed
            if cell.cells is not None and cell.against is not None:
                published += f"; {cell.against:.4f} of the same cells"
            status: str = cell.status
            if cell.reasons:
                why = "; ".join(cell.reasons)
                status += f", see {reasons.setdefault(why, _letter(len(reasons)))}"
            elif status == "gap" and cell.against is not None:
                inside = cell.low <= cell.against <= cell.high
                status += f", the printed number is {'inside' if inside else 'outside'} the interval"
            lines.append(
                (
                    system,
                    test if cell.cells is None else f"{test} of {cell.cells}",
                    f"{cell.measured:.4f}",
                    f"[{cell.low:.4f}, {cell.high:.4f}]",
                    published or "none",
                    "" if cell.difference is None else f"{cell.difference:+.4f}",
                    status,
                )
            )
    return Details(lines, [f"{letter}: {why}" for why, letter in reasons.items()])


def _letter(number: int) -> str:
    """a to z, then aa, ab, …"""
    more, last = divmod(number, 26)
    return (_letter(more - 1) if more else "") + string.ascii_lowercase[last]


def summary(table: Cells) -> str:
    """How many cells have which status, the average's cells left out."""
    kinds = [cell.status for cell in table.cells.values() if cell.cells is None]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in STATUSES)


def _same(text: str) -> str:
    return text


def grid(table: Cells, marked: Callable[[str, int], str], escaped: Callable[[str], str] = _same) -> list[list[str]]:
    """The table in its printed shape, header first: measured scores, the sign of their status, published in brackets.

    `marked` shows a score's rank (1, 2 or 0), `escaped` makes any other word safe.
    """
    published = table.published
    words = list(published.labels)
    corner = "Datasets" if published.number == 2 else "Methods"
    heads = published.systems if published.number == 2 else table.tests
    lines = [[escaped(word) for word in (corner, *words, *heads)]]
    ranks = {test: (table.measured_ranks(test), table.published_ranks(test)) for test in table.tests}

    def shown(system: str, test: str) -> str:
        cell = table.cells[system, test]
        ours, theirs = (found.get(system, 0) for found in ranks[test])
        paper = f"({marked(cell.printed, theirs)})" if cell.printed else ""
        sign = escaped(SIGNS[cell.status])
        measured = "" if cell.measured is None else marked(f"{cell.measured:.4f}", ours)
        over = f"over {cell.cells}" if cell.cells and cell.reasons else ""  # not the cells of the printed average
        return " ".join(part for part in (measured, over, sign, paper) if part) or "-"

    if published.number == 2:
        return lines + [[escaped(test), *(shown(system, test) for system in heads)] for test in table.tests]
    return lines + [
        [
            *(escaped(word) for word in (system, *(published.labels[word][system] for word in words))),
            *(shown(system, test) for test in heads),
        ]
        for system in published.systems
    ]


def legend(table: Cells, best: str, second: str) -> list[str]:
    """What the grid's signs mean, in words."""
    paper = f"(in round brackets): printed in the paper; never in brackets: measured here; best {best}, second {second}"
    if table.tolerance is None:
        means = "reproduced: the printed digits, but for rounding; gap: any greater difference"
    else:
        means = f"reproduced: at most {table.tolerance:g} from the printed number, as asked for; gap: more"
    moved = [f"measured on {there} in the place of {name}" for name, there in table.instead.items()]
    signs = "; ".join(f"{sign} {status}" for status, sign in SIGNS.items() if sign)
    return [f"{paper}, measured and printed each on its own", f"{signs}; no sign: not run. {means}", *moved]
