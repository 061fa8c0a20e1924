"""A built table in LaTeX, for the package booktabs."""

import re
from collections.abc import Sequence

from harness.reports.tables.cells import Cells
from harness.reports.tables.data import HEADS, INTERVAL, details, grid, legend, summary

_SPECIAL = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
}
_SIGNED = re.compile(r"^[+-][0-9.]+$")  # in text a minus would be a hyphen
_MARKS = {0: "{}", 1: r"\textbf{{{}}}", 2: r"\underline{{{}}}"}


def escaped(text: str) -> str:
    """`text` so that LaTeX prints it as it is."""
    return "".join(_SPECIAL.get(letter, letter) for letter in text)


def as_latex(table: Cells) -> str:
    """Two `tabular`s in a `table*`: the table as printed, and the measured cells with everything; notes below them."""
    published = table.published
    header, *lines = grid(table, lambda text, rank: _MARKS[rank].format(text), escaped)
    notes = [*legend(table, "bold", "underlined"), summary(table), *table.notes]
    parts = [
        "% needs \\usepackage{booktabs}",
        r"\begin{table*}",
        r"\centering\small",
        f"\\caption{{Table {published.number}, measured beside published. {escaped(published.caption)}}}",
        _tabular(header, lines, _columns(table, len(header))),
    ]
    measured = details(table)
    if measured.lines:
        words = [[_SIGNED.sub(r"$\g<0>$", escaped(word)) for word in line] for line in measured.lines]
        parts += ["", r"\bigskip", f"Measured cells ({escaped(INTERVAL)})", "", _tabular(HEADS, words, "llrrrrl")]
    notes = [*measured.footnotes, *notes]
    parts += ["", r"\footnotesize\raggedright", *(f"{escaped(note)}\\\\" for note in notes), r"\end{table*}"]
    return "\n".join(parts) + "\n"


def _columns(table: Cells, count: int) -> str:
    words = 1 + len(table.published.labels)
    return "l" * words + "r" * (count - words)


def _tabular(header: Sequence[str], lines: Sequence[Sequence[str]], columns: str) -> str:
    body = [" & ".join(line) + r" \\" for line in lines]
    head = " & ".join(header).replace("95 % interval", r"95\,\% interval") + r" \\"
    return "\n".join(
        [f"\\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]
    )
