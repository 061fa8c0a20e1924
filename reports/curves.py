"""The curves of one training stage, drawn from its log."""

import json
from pathlib import Path
from typing import Any

from reports.errors import RecordError

_NOT_LOSSES = {"step", "tokens", "tokens_per_second", "learning_rate", "gradient_norm", "validation"}
Lines = list[dict[str, Any]]


def read_log(path: Path) -> Lines:
    """The lines of a `metrics.jsonl`. Raises RecordError for one that cannot be read or holds no step."""
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
        values |= {f"validation: {name}": value for name, value in line.get("validation", {}).items()}
        for name, value in values.items():
            steps, column = found.setdefault(name, ([], []))
            steps.append(line["step"])
            column.append(value)
    return dict(sorted(found.items(), key=lambda item: item[0].startswith("validation: ")))


def draw(log: Path, picture: Path, title: str) -> None:
    """One panel for each loss and each validation score over the steps, as PNG. Raises RecordError as `read_log`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = series(read_log(log))
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.8 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for number, (name, (steps, values)) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(rows, columns, number)
        axes.plot(steps, values, marker="." if len(steps) < 30 else None)
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    figure.savefig(picture, format="png", dpi=120, metadata={"Software": None})
