"""The picture of two systems: the difference of each query, sorted."""

from collections.abc import Mapping
from typing import Any

from harness.reports.plots import style
from harness.reports.statistics.paired import paired_t_test


def differences(a: Mapping[str, float], b: Mapping[str, float], names: tuple[str, str], metric: str, title: str) -> Any:
    """`b` - `a` of each query, greatest gain first, with the mean, and how many were won, tied and lost.

    `a` and `b` are {query id: value}. Raises RecordError where the two are not over the same queries.
    """
    import numpy as np

    found = paired_t_test(a, b)
    values = np.array(sorted((b[query] - a[query] for query in a), reverse=True))
    made = style.figure(7.2, 3.9)
    axes = made.add_subplot()
    edges = np.arange(len(values) + 1)
    for wins, colour, hatch, label in (
        (True, style.BLUE, "", f"{found.wins:,} won by {names[1]}"),
        (False, style.ORANGE, "////", f"{found.losses:,} lost to {names[0]}"),
    ):
        heights = np.clip(values, 0, None) if wins else np.clip(values, None, 0)
        chosen = values > 0 if wins else values < 0
        if chosen.any():
            low, high = int(np.argmax(chosen)), len(values) - int(np.argmax(chosen[::-1]))
            # hatched steps: bars of their own would take seconds for thousands of queries
            axes.fill_between(
                edges[low : high + 1], np.append(heights[low:high], heights[high - 1]), step="post", facecolor=colour,
                edgecolor=style.INK, linewidth=0.4, hatch=hatch, label=label,
            )  # fmt: skip
    axes.axhline(0, color=style.INK, linewidth=0.8)
    p = f"p = {found.p_shown}" if found.p is not None else "no p, since all differ alike"
    mean = f"mean {found.difference:+.4f} (paired t-test: {p})".replace("= <", "< ")
    axes.axhline(found.difference, color=style.VERMILION, linestyle="--", linewidth=1.4, label=mean)
    if found.ties:
        middle = found.wins + found.ties / 2
        axes.annotate(
            f"{found.ties:,} tied", (middle, 0), xytext=(0, 9), textcoords="offset points", ha="center",
            bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none"},
        )  # fmt: skip
    axes.set(
        xlabel=f"{found.queries:,} queries, by difference", ylabel=f"difference in {metric}", xlim=(0, len(values))
    )
    axes.set_title(style.wrapped(title, 6.0, 10, bold=True), loc="left")
    handles, _ = axes.get_legend_handles_labels()
    style.legend_below(made, handles, 1)
    return made
