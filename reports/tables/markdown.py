"""A built table in Markdown, to be read in a terminal and on GitHub."""

from collections.abc import Sequence

from harness.reports.tables.cells import Cells
from harness.reports.tables.data import HEADS, INTERVAL, details, grid, legend, summary

_MARKS = {0: "{}", 1: "**{}**", 2: "<ins>{}</ins>"}


def as_markdown(table: Cells) -> str:
    """The table as it is printed, the measured cells with everything, and the notes.

    In the first a published score is always in round brackets, and a measured one never.
    """
    published = table.published
    header, *lines = grid(table, lambda text, rank: _MARKS[rank].format(text))
    parts = [
        f"**Table {published.number}, measured beside published.** {published.caption}",
        _aligned(header, lines, words=1 + len(published.labels)),
        "\n".join(f"- {line}" for line in (*legend(table, "bold", "underlined"), summary(table))),
    ]
    measured = details(table)
    if measured.lines:
        parts.append(f"**Measured cells** ({INTERVAL})")
        parts.append(_aligned(HEADS, measured.lines, words=len(HEADS)))
    if measured.footnotes:
        parts.append("\n".join(f"- {line}" for line in measured.footnotes))
    parts.append("**Notes on the printed table**")
    parts.append("\n".join(f"- {note}" for note in table.notes))
    return "\n\n".join(parts) + "\n"


def _aligned(header: Sequence[str], lines: Sequence[Sequence[str]], words: int) -> str:
    """A table whose first `words` columns are to the left, and the others, of numbers, to the right."""
    rows = [[word.replace("|", "\\|") for word in line] for line in (header, *lines)]
    widths = [max(3, *(len(row[n]) for row in rows)) for n in range(len(header))]
    rule = ["-" * w if n < words else "-" * (w - 1) + ":" for n, w in enumerate(widths)]
    cells = [
        [word.ljust(w) if n < words else word.rjust(w) for n, (word, w) in enumerate(zip(row, widths, strict=True))]
        for row in rows
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in (cells[0], rule, *cells[1:]))
