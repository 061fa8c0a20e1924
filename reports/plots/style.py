"""One style of all pictures: told apart by shape as well as by colour, and equal bytes for equal figures.

Colours are those of Okabe and Ito (Color Universal Design, 2008), which people with any common form of colour blindness
can tell apart; black and hollow diamonds are kept for what is published, never for what was measured.
"""

import io
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from harness.reports.errors import RecordError
from harness.reports.files import write_whole

SUFFIXES = (".png", ".svg")
BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7"
INK, FAINT = "#222222", "#8A8A8A"
# hollow, black: how a published value looks in every picture
PUBLISHED: dict[str, Any] = {
    "marker": "D", "linestyle": "none", "color": INK, "markerfacecolor": "white", "markeredgewidth": 1.4,
    "markersize": 6.5, "zorder": 5,
}  # fmt: skip
_DPI = 120
_POINTS = 72  # of an inch
_LONGEST = 240  # letters that are drawn of a name
_LEGEND = 0.25  # of a figure's height; beyond it a legend makes the figure higher
_SETTINGS: Any = {  # matplotlib's own type for this is a list of all its settings
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 5.5,
    "svg.hashsalt": "dupmae-harness",  # ids within an SVG depend on the figure alone
    "svg.fonttype": "path",
    # a name is drawn as it was typed, also where it holds a dollar sign or a backslash
    "text.parse_math": False,
    "text.usetex": False,
    "axes.formatter.use_mathtext": False,
}
_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)
_MARKERS = ("o", "s", "^", "v", "P", "X", "*")
_HATCHES = ("", "////", "....", "xxx", "\\\\\\\\", "--", "++")
_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))


class Look(NamedTuple):
    """How one system looks in a picture."""

    colour: str
    marker: str
    hatch: str
    line: Any


def looks(names: Iterable[str]) -> dict[str, Look]:
    """A look for each name, in their order; two share none up to 210, and neighbours differ in all four respects."""
    names = list(dict.fromkeys(names))
    return {
        name: Look(
            _COLOURS[n % len(_COLOURS)],
            _MARKERS[n % len(_MARKERS)],
            _HATCHES[n % len(_HATCHES)],
            _LINES[n % len(_LINES)],
        )
        for n, name in enumerate(names)
    }


@contextmanager
def styled() -> Iterator[None]:
    """Within it, figures are made and saved in this style; matplotlib's own settings are as before behind it."""
    import matplotlib

    with matplotlib.rc_context(_SETTINGS):
        yield


def figure(width: float, height: float) -> Any:
    """An empty figure of so many inches, of no window and no global list."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made


def check_output(path: Path) -> None:
    """Raise RecordError for a picture's name that does not say PNG or SVG, or whose folder is not there."""
    if path.suffix.lower() not in SUFFIXES:
        got = f"ends in {path.suffix!r}" if path.suffix else "has no suffix"
        raise RecordError(f"the picture {path} {got}; it is told by that: name a file {' or '.join(SUFFIXES)}.")
    if not path.absolute().parent.is_dir():
        raise RecordError(f"there is no folder {path.absolute().parent} for the picture {path.name}. Make it first.")


def save(made: Any, path: Path) -> None:
    """Write a figure as PNG or SVG, by the suffix; equal figures give equal bytes. Call it within `styled`.

    Written as `write_whole` does. Raises RecordError as both do.
    """
    check_output(path)
    kind = path.suffix.lower().removeprefix(".")
    # no time and no version of a program
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    drawn = io.BytesIO()
    made.savefig(drawn, format=kind, dpi=_DPI, metadata=metadata)
    write_whole(path, drawn.getvalue())


def legend_below(made: Any, handles: Sequence[Any], columns: int) -> None:
    """One legend for all panels, under them: in at most so many columns, and no wider than they are.

    Where one column is too wide, its words are broken over several lines; one of many lines makes the figure higher.
    """
    width, height = made.get_size_inches()
    # a key is 2 letters wide, with as much space around it
    labels = [wrapped(short(handle.get_label(), _LONGEST), width - 0.8) for handle in handles]
    for number in range(max(1, min(columns, len(handles))), 0, -1):
        legend = made.legend(handles=handles, labels=labels, loc="outside lower center", ncols=number)
        box = legend.get_window_extent(made.canvas.get_renderer())
        if box.width <= (width - 0.1) * made.dpi or number == 1:
            break
        legend.remove()
    made.set_size_inches(width, height + max(0.0, box.height / made.dpi - _LEGEND * height))


def title_above(made: Any, text: str, points: float = 10) -> None:
    """A title over all panels, broken over several lines where it is wider than they are."""
    made.suptitle(wrapped(short(text, _LONGEST), made.get_figwidth() - 0.2, points), fontsize=points)


def text_width(text: str, points: float = 9, bold: bool = False) -> float:
    """Inches that one line of text takes."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal", size=points)
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]) / _POINTS


def wrapped(text: str, inches: float, points: float = 9, bold: bool = False) -> str:
    """Text in lines of so many inches: broken at a space, or within a word that is wider than a line."""
    lines = []
    for line in text.splitlines():
        rest = line
        # a renderer rounds each letter to its pixels
        while text_width(rest, points, bold) > 0.96 * inches:
            fits = max(
                1, bisect_right(range(1, len(rest)), 0.96 * inches, key=lambda n: text_width(rest[:n], points, bold))
            )
            space = rest.rfind(" ", 1, fits + 1)
            cut = space if space > 0 else fits
            lines.append(rest[:cut].rstrip())
            rest = rest[cut:].lstrip()
        lines.append(rest)
    return "\n".join(lines)


def short(name: str, most: int = 44) -> str:
    """A name that fits beside a picture: the end of a path says more than its beginning."""
    return name if len(name) <= most else f"…{name[1 - most :]}"
