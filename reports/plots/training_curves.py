"""The curves of one training stage, drawn from its log."""

import json
import textwrap
from pathlib import Path
from typing import Any

from harness.reports.errors import RecordError
from harness.reports.plots import style

_NOT_LOSSES = {"step", "tokens", "tokens_per_second", "learning_rate", "gradient_norm", "validation"}
VALIDATION = "validation: "
_TITLE = 34  # letters of a line
_FEW = 30  # points that can be told apart
Lines = list[dict[str, Any]]


def read_log(path: Path) -> Lines:
    """The lines of a `metrics.jsonl`. Raises RecordError for one that cannot be read or holds no step."""
    if not path.exists():
        raise RecordError(
            f"there is no {path}. Give a stage of `harness train`, as trained/small/pretrain, or its metrics.jsonl."
        )
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if not lines or not all(isinstance(line["step"], int) for line in lines):
            raise KeyError("step")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path}: not the log of a training ({type(error).__name__}: {error}).") from error
    return lines


def series(lines: Lines) -> dict[str, tuple[list[int], list[float]]]:
    """{name: (steps, values)} of each loss, then of each validation score (`validation: NAME`)."""
    found: dict[str, tuple[list[int], list[float]]] = {}
    for line in lines:
        values = {name: value for name, value in line.items() if name not in _NOT_LOSSES}
        values |= {f"{VALIDATION}{name}": value for name, value in line.get("validation", {}).items()}
        for name, value in values.items():
            steps, column = found.setdefault(name, ([], []))
            steps.append(line["step"])
            column.append(value)
    return dict(sorted(found.items(), key=lambda item: item[0].startswith(VALIDATION)))


def draw(log: Path, picture: Path, title: str) -> None:
    """One panel for each loss and each validation score over the steps, as PNG or SVG.

    Raises RecordError as `read_log`, or for a picture that is neither.
    """
    panels = series(read_log(log))
    if not panels:
        raise RecordError(f"{log}: its lines hold neither a loss nor a validation score, so there is no curve to draw.")
    style.check_output(picture)
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    with style.styled():
        figure = style.figure(max(5.0, 3.8 * columns), 0.5 + 2.5 * rows)
        style.title_above(figure, title, 10.8)
        for number, (name, (steps, values)) in enumerate(panels.items(), 1):
            axes = figure.add_subplot(rows, columns, number)
            validation = name.startswith(VALIDATION)
            axes.plot(
                steps,
                values,
                color=style.VERMILION if validation else style.BLUE,
                linestyle="--" if validation else "-",
                marker="o" if len(steps) < _FEW else None,
                markersize=4,
            )
            axes.set_title(textwrap.fill(name, _TITLE))
            axes.set_xlabel("step")
            axes.margins(x=0.02)
        style.save(figure, picture)
