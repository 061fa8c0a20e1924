"""Judgments by themselves: a file in TREC's format or BEIR's, to score a run whose corpus is not at hand."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.retrievers.errors import InputError
from harness.retrievers.ids import fault
from harness.retrievers.places import expanded
from harness.retrievers.text_files import text_lines, without_quotes
from harness.retrievers.types import Document, Query

_BEIR = 3  # columns
_GREATEST_GRADE = 1000  # trec_eval makes a table of a row for each grade
PREFIX = "qrels:"  # of a collection's name that is a file of judgments


def judgments(path: Path) -> Iterator[tuple[str, str, int]]:
    """Yield (query id, document id, grade) of a file of judgments, plain or compressed.

    A line is TREC's, `query iteration document grade`, or BEIR's, `query document grade`, with tabs or spaces between;
    all lines are of one kind. A first line without a figure in its last column is left out.
    Raises InputError, with file and line, for a line that is neither or a grade that is no whole number.
    """
    kind = 0
    for number, line in text_lines(path):
        place = f"{path}, line {number}"
        tabs = line.split("\t")
        columns = tabs if len(tabs) == _BEIR else line.split()
        if len(columns) not in (_BEIR, 4) or kind not in (0, len(columns)):
            wanted = "3 or 4" if kind == 0 else f"{kind}, as before"
            raise InputError(
                f"{place}: {len(columns)} column{'s' * (len(columns) != 1)}, want {wanted}: query-id, corpus-id, score "
                f"(BEIR) or query, iteration, document, grade (TREC). Got {line[:80]!r}."
            )
        first, kind = kind == 0, len(columns)
        if first and not any(letter.isdigit() for letter in columns[-1]):
            if re.match(r"(corpus|doc|passage|p)[-_ ]?(id|no)", columns[0].casefold()):
                raise InputError(f"{place}: the columns are {', '.join(columns)}; want query-id, corpus-id, score.")
            continue
        yield sound_id(columns[0], place), sound_id(columns[-2], place), grade(columns[-1], place)


def grade(text: str, place: str) -> int:
    """The grade that a column holds. Raises InputError where that is no whole number, or a great one."""
    text = without_quotes(text)
    if not re.fullmatch(r"\s*[+-]?[0-9]{1,9}\s*", text) or abs(int(text)) > _GREATEST_GRADE:
        raise InputError(
            f"{place}: the score {text[:40]!r} is not a whole number between -{_GREATEST_GRADE} and {_GREATEST_GRADE}."
        )
    return int(text)


def sound_id(value: str, place: str) -> str:
    """The id that a column or a field holds. Raises InputError for one that no run can carry."""
    if wrong := fault(value):
        raise InputError(f"{place}: the id {wrong}.")
    return value


class QrelsSource:
    """Judgments of a collection that has neither queries nor documents here."""

    kind = "judgments"

    def __init__(self, path: str | Path) -> None:
        """Raises InputError where there is no such file."""
        self.path = expanded(path).absolute()
        if not self.path.is_file():
            what = "is not there"
            if self.path.exists():
                what = "is a folder" if self.path.is_dir() else "is a pipe, and judgments are read more than once"
            raise InputError(
                f"the judgments {self.path} cannot be read: it {what}. Name a file of TREC's qrels, or of BEIR's."
            )
        self.location = str(self.path)
        self.count_hint: int | None = None

    def stamp(self) -> list[Any]:
        """What changes when the file does."""
        stat = self.path.stat()
        return [str(self.path), stat.st_size, stat.st_mtime_ns]

    def documents(self) -> Iterator[Document]:
        """Raise InputError: there are none."""
        raise self._only_judgments("documents")

    def queries(self) -> Iterator[Query]:
        """Raise InputError: there are none."""
        raise self._only_judgments("queries")

    def _only_judgments(self, what: str) -> InputError:
        return InputError(
            f"{self.location} holds judgments alone, and {what} are wanted. Name a collection; with judgments alone a "
            "run can be scored and compared."
        )

    def qrels(self) -> Iterator[tuple[str, str, int]]:
        """Yield the judgments."""
        return judgments(self.path)
