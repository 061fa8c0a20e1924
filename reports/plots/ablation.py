"""The picture of Table 3: its rows as measured and, in a panel of their own, as printed."""

import csv
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.reports.ablation.rows import ROWS
from harness.reports.errors import RecordError
from harness.reports.plots import style

_WANTED = ("dataset", "row", "metric", "measured", "sd", "published")
_ROWS = [row.name for row in ROWS]
_ACROSS = 4  # panels beside each other
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
    kind: str = ""  # what training saw of the collection; "" where the table does not say
    by_seed: tuple[float, ...] = ()


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
                line.get("kind") or "",
                tuple(map(float, (line.get("by_seed") or line["measured"]).split())),
            )
            for line in lines
            if line["metric"] == metric
        ]
    except (TypeError, ValueError) as error:
        raise RecordError(f"{path}: a number of {metric} cannot be read ({error}).") from error


def _number(text: str | None) -> float | None:
    return float(text) if text else None


@dataclass(frozen=True)
class _Panel:
    """What is drawn beside each other: one collection, or the mean over those of a kind."""

    title: str
    under: str  # what the axis says besides the metric
    cells: Sequence[Cell]


def ablation(cells: Sequence[Cell], metric: str, each: bool = False) -> Any:
    """Rows of Table 3 from top to bottom: in domain beside zero-shot, the last panel as published.

    A kind of collections (in domain, seen in part, zero-shot) that has several is one panel with their mean, in which
    each collection counts alike; with `each` every collection is a panel of its own. Panels have own scales, since
    their collections differ; the order of the rows is what they share. What stands beside the rows (BM25, the untrained
    base) is drawn below them, at the panel's edge with its value where it is far from all rows. Raises RecordError for
    no cells, or where collections of a kind lack a row or a seed that others have.
    """
    if not cells:
        raise RecordError(f"there is nothing to draw: no row has {metric}.")
    panels = _panels(cells, each)
    rows = list(dict.fromkeys(cell.row for cell in cells))
    ours = [row for row in rows if row in _ROWS]
    printed = {cell.row: cell.published for cell in cells if cell.published is not None}
    count = len(panels) + bool(printed)
    across = min(_ACROSS, count)
    down = -(-count // across)
    made = style.figure(2.6 + 3.1 * across, 0.2 + down * (1.2 + 0.36 * len(rows)))
    places = made.subplots(down, across, squeeze=False).flat
    grid = [next(places) for _ in range(count)]
    for spare in places:
        spare.remove()
    for panel, axes in zip(panels, grid, strict=False):
        _draw(axes, panel, rows)
        axes.set_title(style.wrapped(panel.title, 3.0, 10, bold=True))
        scaled = ", scale does not begin at 0" if axes.get_xlim()[0] > 0 else ""
        axes.set_xlabel(f"{metric}{scaled}{panel.under}")
    if printed:
        axes = grid[-1]
        axes.plot(list(printed.values()), [rows.index(row) for row in printed], **style.PUBLISHED)
        axes.set_xlim(*_scale([(value, 0.0) for value in printed.values()]))
        axes.set_title("published: MS MARCO, H = 768")
        axes.set_facecolor("#F4F4F4")
        axes.set_xlabel(metric + (", scale does not begin at 0" if axes.get_xlim()[0] > 0 else ""))
    for n, axes in enumerate(grid):
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_yticks(range(len(rows)), rows if n % across == 0 else [""] * len(rows))
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        for place in {_FIRST_BLOCK, len(ours)} & {*range(1, len(rows))}:
            axes.axhline(place - 0.5, color=style.FAINT, linewidth=0.8)
        axes.locator_params(axis="x", nbins=5)
    if any(cell.sd is not None for cell in cells):
        made.suptitle("mean and standard deviation over training seeds", fontsize=9)
    return made


def _draw(axes: Any, panel: _Panel, rows: Sequence[str]) -> None:
    own = [cell for cell in panel.cells if cell.row in _ROWS] or list(panel.cells)
    low, high = _scale([(cell.measured, cell.sd or 0.0) for cell in own])
    rest = [cell for cell in panel.cells if cell not in own]
    # a baseline that is about as good as the rows belongs on their scale; one far off would press them together
    reach = (high - low) / 2
    near = [cell for cell in rest if low - reach <= cell.measured <= high + reach]
    low, high = _scale([(cell.measured, cell.sd or 0.0) for cell in (*own, *near)])
    axes.set_xlim(low, high)
    for colour, marker, some in (
        (style.BLUE, "o", [c for c in own if rows.index(c.row) < _FIRST_BLOCK]),
        (style.ORANGE, "s", [c for c in own if rows.index(c.row) >= _FIRST_BLOCK]),
        (style.GREEN, "^", near),
    ):
        axes.errorbar(
            [cell.measured for cell in some], [rows.index(cell.row) for cell in some],
            xerr=[cell.sd or 0.0 for cell in some] if any(cell.sd for cell in some) else None,
            linestyle="none", color=colour, marker=marker, markersize=8, markeredgecolor=style.INK,
            ecolor=style.INK, capsize=3,
        )  # fmt: skip
    for cell in (*own, *near):
        if cell.representation and cell.representation != cell.row:
            # beside its mark, on the side where there is room
            right = cell.measured < (low + high) / 2
            sd = cell.sd or 0.0
            _beside(axes, cell.representation, cell.measured + (sd if right else -sd), rows.index(cell.row), right)
    for cell in rest:
        if cell not in near:
            left = cell.measured < low
            arrow = f"◀ {cell.measured:.3f}" if left else f"{cell.measured:.3f} ▶"
            _beside(axes, arrow, low if left else high, rows.index(cell.row), left, style.GREEN)


def _beside(axes: Any, text: str, x: float, y: int, right: bool, colour: str = style.INK) -> None:
    axes.annotate(
        text, (x, y), xytext=(8 if right else -8, 0), textcoords="offset points", ha="left" if right else "right",
        va="center", fontsize=7, color=colour,
    )  # fmt: skip


def _panels(cells: Sequence[Cell], each: bool) -> list[_Panel]:
    found = []
    kinds = dict.fromkeys(cell.kind for cell in cells)
    for kind in kinds:
        names = list(dict.fromkeys(cell.dataset for cell in cells if cell.kind == kind))
        if each or not kind or len(names) == 1:
            word = kind or "measured"
            found += [
                _Panel(f"{word}: {style.short(name, 26)}", "", [cell for cell in cells if cell.dataset == name])
                for name in names
            ]
        else:
            under = style.wrapped(", ".join(style.short(name, 26) for name in names), 3.0, 7)
            title = f"{kind}: mean of {len(names)}"
            found.append(_Panel(title, f"\n{under}", _means([c for c in cells if c.kind == kind], names)))
    return found


def _means(cells: Sequence[Cell], names: Sequence[str]) -> list[Cell]:
    """Each row's mean over the collections; its standard deviation is that of the mean, from seed to seed."""
    found = []
    for row in dict.fromkeys(cell.row for cell in cells):
        own = [cell for cell in cells if cell.row == row]
        if len(own) != len(names) or len({len(cell.by_seed) for cell in own}) != 1:
            raise RecordError(f"{row} has not the same seeds on each of {', '.join(names)}; there is no mean of them.")
        by_seed = [statistics.fmean(values) for values in zip(*(cell.by_seed for cell in own), strict=True)]
        sd = statistics.stdev(by_seed) if len(by_seed) > 1 else None
        mean = statistics.fmean(cell.measured for cell in own)
        found.append(Cell(", ".join(names), row, own[0].representation, mean, sd, None, own[0].kind, tuple(by_seed)))
    return found


def _scale(values: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """From where to where an axis goes so that rows can be told apart: not from 0 where they are close."""
    low, high = min(v - sd for v, sd in values), max(v + sd for v, sd in values)
    room = max(high - low, 0.002)
    return max(0.0, low - 0.6 * room), high + 0.15 * room
