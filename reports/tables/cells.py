"""A table as it was built: cells with a measured and a published side."""

from dataclasses import dataclass, field
from typing import Literal

from harness.reports.paper.published import PublishedTable
from harness.reports.records.records import Record

Status = Literal["reproduced", "gap", "not comparable", "data unavailable", "not run"]
STATUSES: tuple[Status, ...] = ("reproduced", "gap", "not comparable", "data unavailable", "not run")
COMPARABLE: tuple[Status, ...] = ("reproduced", "gap")


@dataclass(frozen=True)
class Cell:
    """One cell: `printed` is the paper's, with its digits ("" for a blank); everything else that is a score is ours."""

    system: str
    test: str  # a collection and a metric, as the table's column has it; a dataset of Table 2
    metric: str
    printed: str
    status: Status
    reasons: tuple[str, ...] = ()
    measured: float | None = None
    low: float | None = None  # of the 95 % interval over queries
    high: float | None = None
    queries: int | None = None
    against: float | None = None  # what `measured` is compared with: the printed score; an average of the same cells
    cells: int | None = None  # how many an average is over
    tolerance: float | None = None
    ranks: bool = False  # whether `measured` may be set against the other systems' on this test
    record: Record | None = field(default=None, repr=False)

    @property
    def difference(self) -> float | None:
        """Measured - published."""
        return None if self.measured is None or self.against is None else self.measured - self.against


@dataclass(frozen=True)
class Cells:
    """A table as built: `cells` by (system, test), in printed order; `notes` stand under it, `remarks` beside it."""

    published: PublishedTable
    cells: dict[tuple[str, str], Cell]
    tests: tuple[str, ...]  # AVERAGE is the last of Table 2
    notes: tuple[str, ...]
    remarks: tuple[str, ...]
    tolerance: float | None = None  # as asked for
    instead: dict[str, str] = field(default_factory=dict)  # {collection: what was measured in its place}

    def measured_ranks(self, test: str) -> dict[str, int]:
        """{system: 1 for the best measured score of a test, 2 for the second}; empty where there is no second."""
        return _ranks({s: self.cells[s, test].measured for s in self.published.systems if self.cells[s, test].ranks})

    def published_ranks(self, test: str) -> dict[str, int]:
        """The same among the published scores."""
        texts = {s: self.cells[s, test].printed for s in self.published.systems}
        return _ranks({s: float(text) if text else None for s, text in texts.items()})


def _ranks(values: dict[str, float | None]) -> dict[str, int]:
    found = {system: value for system, value in values.items() if value is not None}
    best = sorted(set(found.values()), reverse=True)[:2]
    return {system: best.index(value) + 1 for system, value in found.items() if value in best} if len(best) > 1 else {}
