"""Pictures of several records: scores beside what is published, what they cost, and recall by cutoff."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.reports.errors import RecordError
from harness.reports.plots import style
from harness.reports.plots.style import Look

_GROUP = 0.8  # of the room of a data set, taken by its bars
_WIDEST = 16.0  # inches
_PANEL = 2.5  # inches of an axis of the cost, at least
_GAP = 0.12  # inches between two numbers under an axis
_CROWDED = 30  # bars, beyond which a full diamond would hide an interval


@dataclass(frozen=True)
class Point:
    """One system on one collection, by one metric, and what it took.

    `low` and `high` bound the mean's interval over the queries; `published` is what the paper prints for this cell.
    """

    system: str
    dataset: str
    value: float
    low: float
    high: float
    published: float | None = None
    bytes_here: float | None = None
    bytes_paper: float | None = None
    queries_per_second: float | None = None
    machine: str = ""


def bars(points: Sequence[Point], metric: str) -> Any:
    """Bars by collection and system with their intervals; hollow diamonds where the paper prints a value.

    Raises RecordError where there is nothing to draw.
    """
    _some(points)
    names, looks = _order(points)
    systems = list(looks)
    at = {(point.dataset, point.system): point for point in points}
    made = style.figure(min(_WIDEST, max(5.2, 2.4 + 0.34 * len(points) + 0.7 * len(names))), 4.0)
    axes = made.add_subplot()
    # a collection's bars stand together around its place, also where a system was not run on it
    own_systems = {name: [system for system in systems if (name, system) in at] for name in names}
    width = _GROUP / max(map(len, own_systems.values()))
    handles = []
    for system in systems:
        here = [(x, name) for x, name in enumerate(names) if (name, system) in at]
        own = [at[name, system] for _, name in here]
        shifts = [own_systems[name].index(system) - (len(own_systems[name]) - 1) / 2 for _, name in here]
        places = [x + shift * width for (x, _), shift in zip(here, shifts, strict=True)]
        look = looks[system]
        handles.append(
            axes.bar(
                places, [p.value for p in own], width * 0.92, color=look.colour, edgecolor=style.INK, linewidth=0.7,
                hatch=look.hatch, label=f"{system}, measured",
            )
        )  # fmt: skip
        reach = [[p.value - p.low for p in own], [p.high - p.value for p in own]]
        axes.errorbar(
            places, [p.value for p in own], yerr=reach, fmt="none", ecolor=style.INK, capsize=3, linewidth=1.1
        )
        told = [(x, p.published) for x, p in zip(places, own, strict=True) if p.published is not None]
        if told:
            axes.plot(
                *zip(*told, strict=True), **style.PUBLISHED | ({"markersize": 4.5} if len(points) > _CROWDED else {})
            )
    axes.set_xticks(range(len(names)), [style.short(name) for name in names], **_slanted(names))
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="x", visible=False)
    axes.set(ylabel=metric, ylim=(0, None), xlim=(-0.5, len(names) - 0.5))
    axes.set_title(f"{metric}, with 95 % intervals over queries", loc="left")
    if any(point.published is not None for point in points):
        handles.append(axes.plot([], [], label="published in the paper", **style.PUBLISHED)[0])
    style.legend_below(made, handles, 3)
    return made


@dataclass(frozen=True)
class _Price:
    title: str
    label: str
    of: Callable[[Point], float | None]
    machines: bool = False  # whether it depends on the machine


_PRICES = (
    _Price("stored here", "bytes per document (16-bit values)", lambda point: point.bytes_here),
    _Price("as the paper counts", "bytes per document (32-bit values)", lambda point: point.bytes_paper),
    _Price("speed", "queries per second", lambda point: point.queries_per_second, machines=True),
)


def cost(points: Sequence[Point], metric: str) -> Any:
    """Scores against bytes per document, by both countings, and against queries per second: a row for each collection.

    A system without a value is left out of that panel. Raises RecordError where no record has any of the three.
    """
    _some(points)
    names, looks = _order(points)
    if not any(price.of(point) for price in _PRICES for point in points):
        raise RecordError(
            "no record says how many bytes a document takes or how many queries a second were answered, so there is no "
            "cost to draw. `harness run` notes the former for neural retrievers, the latter for all."
        )
    prices = [price for price in _PRICES if any(price.of(point) for point in points)]
    made = style.figure(max(5.2, 3.5 * len(prices)), 0.9 + 2.7 * len(names))
    grid = made.subplots(len(names), len(prices), squeeze=False)
    for name, row in zip(names, grid, strict=True):
        own = [point for point in points if point.dataset == name]
        low, high = min(p.low for p in own), max(p.high for p in own)
        for price, axes in zip(prices, row, strict=True):
            axes.set_ylim(low - 0.08 * (high - low + 0.01), high + 0.08 * (high - low + 0.01))
            _panel(axes, own, price, looks)
        row[0].set_ylabel(f"{style.short(name, 26)}\n{metric}")
    for price, axes in zip(prices, grid[0], strict=True):
        axes.set_title(price.title)
    handles = [
        axes.plot([], [], marker=look.marker, color=look.colour, linestyle="none", label=system)[0]
        for system, look in looks.items()
    ]
    style.legend_below(made, handles, 3)
    style.title_above(made, f"{metric} against what it costs, all measured; 95 % intervals over queries")
    return made


def _panel(axes: Any, points: Sequence[Point], price: _Price, looks: dict[str, Look]) -> None:
    priced = [(value, point) for point in points if (value := price.of(point))]
    if not priced:
        # another collection's records say it: the place stays, without axes that nothing is measured on
        axes.text(0.5, 0.5, f"no record says\n{price.label}", transform=axes.transAxes, ha="center", color=style.FAINT)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        return
    axes.set_xlabel(price.label)
    for value, point in priced:
        look = looks[point.system]
        reach = [[point.value - point.low], [point.high - point.value]]
        axes.errorbar(
            [value], [point.value], yerr=reach, marker=look.marker, color=look.colour, markeredgecolor=style.INK,
            markeredgewidth=0.7, markersize=8, ecolor=look.colour, elinewidth=1.1, capsize=2.5,
        )  # fmt: skip
    numbers = [value for value, _ in priced]
    _logarithmic(axes, numbers)
    if price.machines and len({point.machine for _, point in priced}) > 1:
        axes.set_xlabel(f"{price.label}\n(different machines: not comparable)")


def _logarithmic(axes: Any, numbers: Sequence[float]) -> None:
    """A logarithmic axis with room for a point on its edge, and plain numbers that do not touch: 1, 2, 5, 10, …"""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = min(numbers) / 2, max(numbers) * 2
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(_ticks(low, high)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _plain(x)))


def _ticks(low: float, high: float) -> list[float]:
    """As many round numbers from `low` to `high` as can stand side by side under a panel of the cost."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps, every in (((1, 2, 5), 1), ((1, 3), 1), *(((1,), every) for every in range(1, len(decades)))):
        ticks = [step * 10.0**n for n in decades[::every] for step in steps if low <= step * 10.0**n <= high]
        inches = [math.log(tick / low) / math.log(high / low) * _PANEL for tick in ticks]
        widths = [style.text_width(_plain(tick)) for tick in ticks]
        gaps = [b - a - (v + w) / 2 for a, b, v, w in zip(inches, inches[1:], widths, widths[1:], strict=False)]
        if min(gaps, default=_GAP) >= _GAP:
            break
    return ticks


def _plain(number: float) -> str:
    return f"{number:,.0f}" if number >= 1 else f"{number:g}"


@dataclass(frozen=True)
class Recall:
    """Recall of one system on one collection: {cutoff: mean over the queries}."""

    system: str
    dataset: str
    at: dict[int, float]


def recall(lines: Sequence[Recall]) -> Any:
    """Recall by cutoff: a panel for each collection. Raises RecordError where there is nothing to draw."""
    _some([line for line in lines if line.at])
    names, looks = _order(lines)
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    made = style.figure(max(5.2, 4.0 * columns), 0.9 + 3.0 * rows)
    for number, name in enumerate(names, 1):
        axes = made.add_subplot(rows, columns, number)
        cutoffs: set[int] = set()
        for line in (line for line in lines if line.dataset == name):
            look = looks[line.system]
            ks = sorted(line.at)
            cutoffs |= set(ks)
            # later ones are smaller, so that equal ones are seen inside each other
            size = max(4.0, 8.5 - 1.3 * list(looks).index(line.system))
            values = [line.at[k] for k in ks]
            axes.plot(ks, values, color=look.colour, marker=look.marker, linestyle=look.line, markersize=size)
        axes.set_xscale("log")
        axes.set_xticks(sorted(cutoffs), [f"{k:,}" for k in sorted(cutoffs)], **_slanted(map(str, cutoffs), 26))
        axes.minorticks_off()
        greatest = max(value for line in lines if line.dataset == name for value in line.at.values())
        axes.set(xlabel="cutoff k", ylabel="R@k", ylim=(0, min(1.02, 1.1 * greatest) or 1.02))
        axes.set_title(style.wrapped(style.short(name, 80), 3.2, 10, bold=True))
    handles = [
        axes.plot([], [], color=k.colour, marker=k.marker, linestyle=k.line, label=system)[0]
        for system, k in looks.items()
    ]
    style.legend_below(made, handles, 2)
    return made


def _order(points: Sequence[Any]) -> tuple[list[str], dict[str, Look]]:
    """Collections in the order in which they come, and a look for each system in theirs."""
    names = list(dict.fromkeys(point.dataset for point in points))
    looks = style.looks(point.system for point in points)
    return names, looks


def _some(points: Sequence[Any]) -> None:
    if not points:
        raise RecordError("there is nothing to draw: no record has the values that were asked for.")


def _slanted(words: Any, most: int = 60) -> dict[str, Any]:
    """How labels under an axis stand: slanted where they are too long to stand side by side."""
    words = list(words)
    crowded = sum(map(len, words)) + 2 * len(words) > most
    return {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
