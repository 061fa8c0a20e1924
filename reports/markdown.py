"""A Markdown table."""

from collections.abc import Sequence


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[str] = ()) -> str:
    """A table with a line for each row; the columns in `numbers` stand at the right."""
    marks = ["---:" if column in numbers else "---" for column in columns]
    lines = [columns, marks, *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")
