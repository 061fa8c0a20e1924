"""A built table, and the forms it is given out in."""

from typing import TYPE_CHECKING

from harness.reports.tables import data, latex, markdown
from harness.reports.tables.cells import Cells

if TYPE_CHECKING:
    import pandas as pd


class Table(Cells):
    """A table as built, in words, data and typesetting."""

    def to_frame(self) -> "pd.DataFrame":
        """One row a cell, with all that is known of it; see `harness.reports.tables.data.COLUMNS`."""
        return data.frame(self)

    def to_csv(self) -> str:
        """`to_frame` as CSV."""
        return data.as_csv(self)

    def to_json(self) -> str:
        """`to_frame` with the notes, as one JSON document."""
        return data.as_json(self)

    def to_markdown(self) -> str:
        """The table as printed, then every measured cell with all that it shows, then the notes."""
        return markdown.as_markdown(self)

    def to_latex(self) -> str:
        """The same in LaTeX, for booktabs."""
        return latex.as_latex(self)
