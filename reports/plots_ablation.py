"""The picture of Table 3: its rows as measured and, in a panel of their own, as printed."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports import style
from reports.errors import RecordError

_WANTED = ("dataset", "row", "metric", "measured", "sd", "published")
_FIRST_BLOCK = 4  # rows of Table 3 about pre-training; the others are about representation


@dataclass(frozen=True)
class Cell:
    """A row of Table 3 by one metric on one collection; `sd` over the training seeds, None for one seed."""

    dataset: str
    row: str
    representation: str
    measured: float
    sd: float | None
    published: float | None


def read_cells(path: Path, metric: str) -> list[Cell]:
    """The cells of one metric from the CSV that `harness ablate` writes, in its order.

    Raises RecordError for a file that is none, or that lacks the metric.
    """
    if not path.exists():
        raise RecordError(f"there is no {path}. Give the table3.csv that `harness ablate` writes, or its folder.")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise RecordError(f"{path}: cannot be read as CSV ({error}).") from error
    if not lines or (missing := [name for name in _WANTED if name not in lines[0]]):
        lacks = f"lacks the columns {', '.join(missing)}" if lines else "holds no rows"
        raise RecordError(f"{path} {lacks}; want the table that `harness ablate` writes.")
    metrics = list(dict.fromkeys(line["metric"] for line in lines))
    if metric not in metrics:
        raise RecordError(f"{path} has no {metric}; there is {', '.join(metrics)}.")
    try:
        return [
            Cell(
                line["dataset"],
                line["row"],
                line.get("representation") or "",
                float(line["measured"]),
                _number(line["sd"]),
                _number(line["published"]),
            )
            for line in lines
            if line["metric"] == metric
        ]
    except (TypeError, ValueError) as error:
        raise RecordError(f"{path}: a number of {metric} cannot be read ({error}).") from error


def _number(text: str | None) -> float | None:
    return float(text) if text else None


def ablation(cells: Sequence[Cell], metric: str) -> Any:
    """Rows of Table 3 from top to bottom: a panel for each collection measured, the last one as published.

    Panels have their own scales, since their collections differ; the order of the rows is what they share. Raises
    RecordError for no cells.
    """
    if not cells:
        raise RecordError(f"there is nothing to draw: no row has {metric}.")
    names = list(dict.fromkeys(cell.dataset for cell in cells))
    rows = list(dict.fromkeys(cell.row for cell in cells))
    printed = {cell.row: cell.published for cell in cells if cell.published is not None}
    panels = len(names) + bool(printed)
    made = style.figure(min(16.0, 2.6 + 3.1 * panels), 1.2 + 0.36 * len(rows))
    grid = made.subplots(1, panels, squeeze=False)[0]
    for name, axes in zip(names, grid, strict=False):
        own = [cell for cell in cells if cell.dataset == name]
        places = [rows.index(cell.row) for cell in own]
        for first, colour, marker in ((True, style.BLUE, "o"), (False, style.ORANGE, "s")):
            some = [(p, cell) for p, cell in zip(places, own, strict=True) if (p < _FIRST_BLOCK) is first]
            axes.errorbar(
                [cell.measured for _, cell in some], [place for place, _ in some],
                xerr=[cell.sd or 0.0 for _, cell in some] if any(cell.sd for _, cell in some) else None,
                linestyle="none", color=colour, marker=marker, markersize=8, markeredgecolor=style.INK,
                ecolor=style.INK, capsize=3,
            )  # fmt: skip
        axes.set_xlim(*_scale([(c.measured, c.sd or 0.0) for c in own]))
        axes.set_title(f"measured: {style.short(name, 26)}")
        low, high = axes.get_xlim()
        for place, cell in zip(places, own, strict=True):
            if cell.representation and cell.representation != cell.row:
                # beside its mark, on the side where there is room
                right = cell.measured < (low + high) / 2
                axes.annotate(
                    cell.representation,
                    (cell.measured + (cell.sd or 0.0) * (1 if right else -1), place),
                    xytext=(8 if right else -8, 0),
                    textcoords="offset points",
                    ha="left" if right else "right",
                    va="center",
                    fontsize=7,
                )
    if printed:
        axes = grid[-1]
        axes.plot(list(printed.values()), [rows.index(row) for row in printed], **style.PUBLISHED)
        axes.set_xlim(*_scale([(value, 0.0) for value in printed.values()]))
        axes.set_title("published: MS MARCO, H = 768")
        axes.set_facecolor("#F4F4F4")
    for n, axes in enumerate(grid):
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_yticks(range(len(rows)), rows if n == 0 else [""] * len(rows))
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.axhline(_FIRST_BLOCK - 0.5, color=style.FAINT, linewidth=0.8)
        axes.set_xlabel(metric + (", scale does not begin at 0" if axes.get_xlim()[0] > 0 else ""))
        axes.locator_params(axis="x", nbins=5)
    if any(cell.sd is not None for cell in cells):
        made.suptitle("mean and standard deviation over training seeds", fontsize=9)
    return made


def _scale(values: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """From where to where an axis goes so that rows can be told apart: not from 0 where they are close."""
    low, high = min(v - sd for v, sd in values), max(v + sd for v, sd in values)
    room = max(high - low, 0.002)
    return max(0.0, low - 0.6 * room), high + 0.15 * room
