"""The paper's Tables 1 to 3 as they are printed: every cell, with its digits.

Xiao and Liu, RetroMAE v2: Duplex Masked Auto-Encoder For Pre-Training Retrieval-Oriented Language Models.
"""

import csv
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from pathlib import Path

from harness.reports.errors import RecordError

FOLDER = Path(__file__).parent / "data"
TABLES = (1, 2, 3)
AVERAGE = "AVERAGE"  # the last row of Table 2
_CAPTIONS = {
    1: "Comparisons between DupMAE (from stage 2 and stage 3) and competitive baseline methods in recent years "
    '("hard": fine-tuned by hard negative samples, "distill": fine-tuned by knowledge distillation).',
    2: "Zero-shot retrieval performances on BEIR benchmark (measured by NDCG@10).",
    3: "Ablation studies: 1. impact from pre-training, 2. impact from semantic representations.",
}
_LABELS = {1: ("cited", "FT"), 2: (), 3: ("block",)}  # the columns of words, after the rows' names


@dataclass(frozen=True)
class PublishedTable:
    """One printed table: rows and columns by name, in printed order.

    `labels` holds what else stands in a row, {column of words: {row: word}}: Table 1's `cited` and `FT` ("hard",
    "distill"), Table 3's `block` ("1." pre-training, "2." representation). In Tables 1 and 3 a row is a system and a
    column "<collection> <metric>"; Table 2 is the other way round, all of it NDCG@10, and its last row is `AVERAGE`.
    """

    number: int
    caption: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    labels: dict[str, dict[str, str]]
    _printed: dict[tuple[str, str], str]

    def printed(self, row: str, column: str) -> str:
        """A cell as it is printed, "" for a blank. Raises RecordError where there is no such row or column."""
        try:
            return self._printed[row, column]
        except KeyError:
            axis, name, there = ("column", column, self.columns) if row in self.rows else ("row", row, self.rows)
            raise RecordError(f"Table {self.number} has no {axis} {name!r}; there is {', '.join(there)}.") from None

    def cell(self, row: str, column: str) -> Decimal | None:
        """A cell with its printed digits, None for a blank. Raises RecordError as `printed`."""
        text = self.printed(row, column)
        return Decimal(text) if text else None

    @property
    def systems(self) -> tuple[str, ...]:
        """The names of the systems: the rows, in Table 2 the columns."""
        return self.columns if self.number == 2 else self.rows


@lru_cache(maxsize=len(TABLES))
def published(table: int) -> PublishedTable:
    """Table 1, 2 or 3 of the paper. Raises RecordError for any other number."""
    if table not in TABLES:
        raise RecordError(f"the paper has no results in a Table {table}; there is {', '.join(map(str, TABLES))}.")
    with (FOLDER / f"table{table}.csv").open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    words = _LABELS[table]
    columns = tuple(header[1 + len(words) :])
    return PublishedTable(
        number=table,
        caption=_CAPTIONS[table],
        rows=tuple(line[0] for line in lines),
        columns=columns,
        labels={word: {line[0]: line[1 + n] for line in lines} for n, word in enumerate(words)},
        _printed={
            (line[0], column): text
            for line in lines
            for column, text in zip(columns, line[1 + len(words) :], strict=True)
        },
    )
