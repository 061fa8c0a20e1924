"""Table 3 by its rows: which pre-training and which representation each stands for, and which row a record is."""

from dataclasses import dataclass

from harness.reports.paper import rows
from harness.reports.records.records import Record

CLS, OT, BOTH = "CLS decoding", "OT decoding", "CLS and OT decoding"
PRETRAININGS = (CLS, OT, BOTH)
REFERENCE = BOTH  # the row that the others are tested against
METRICS = ("MRR@10", "MRR@100", "R@10", "R@100", "R@1000")
HARD_NEGATIVES = "hard negatives"  # of `harness.reports.paper.rows.fine_tuning`


@dataclass(frozen=True)
class Row:
    """A row of Table 3 and what makes it."""

    name: str
    pretraining: str
    representation: str  # by its widths in the paper, where H = 768


HALVES = "CLS:384, OT:384"
ROWS = (
    Row("RetroMAE", CLS, "CLS:768"),
    Row("CLS decoding only", CLS, HALVES),
    Row("OT decoding only", OT, HALVES),
    Row("CLS and OT decoding", BOTH, HALVES),
    Row("CLS:768", BOTH, "CLS:768"),
    Row("OT:768", BOTH, "OT:768"),
    Row(HALVES, BOTH, HALVES),
    Row("CLS:384, OT:260", BOTH, "CLS:384, OT:260"),
)
REPRESENTATIONS = tuple(dict.fromkeys(row.representation for row in ROWS))

# (better, worse) as section 4.2 says it, by MRR@10
CLAIMS = (
    ("CLS and OT decoding", "CLS decoding only"),
    ("CLS and OT decoding", "OT decoding only"),
    ("CLS decoding only", "RetroMAE"),
    ("OT decoding only", "RetroMAE"),
    ("CLS and OT decoding", "RetroMAE"),
    ("OT:768", "CLS:768"),
    (HALVES, "CLS:768"),
    (HALVES, "OT:768"),
    ("CLS:384, OT:260", "CLS:768"),
    ("CLS:384, OT:260", "OT:768"),
)


def storage_equal(hidden: int, dense: int) -> int:
    """The K for which D dense values and K lexical pairs take what H dense values take, as the paper counts.

    Section 4.2 counts 32 bits a value and 15 bits a term id, so 32 D + 47 K <= 32 H. For H = 768 and D = 384 that is
    K <= 261.4; the paper prints 260, which takes 24,508 of the 24,576 bits, and does not say why not 261. So one fewer
    than fit: 260 there, 42 for H = 128 and D = 64, where 43.6 fit.
    """
    return max(1, 32 * (hidden - dense) // 47 - 1)


def widths(representation: str, hidden: int) -> tuple[int, int]:
    """(D, K) of one of `REPRESENTATIONS` on a model of hidden width H: whole or half, and the storage-equal one."""
    half = hidden // 2
    found = {
        "CLS:768": (hidden, 0),
        "OT:768": (0, hidden),
        HALVES: (half, half),
        "CLS:384, OT:260": (half, storage_equal(hidden, half)),
    }
    return found[representation]


def label(dense: int, lexical: int) -> str:
    """A representation by its widths, as the paper writes it: `CLS:384, OT:384`, `OT:768`."""
    parts = (("CLS", dense), ("OT", lexical))
    return ", ".join(f"{name}:{width}" for name, width in parts if width)


def rows_of(record: Record) -> tuple[str, ...]:
    """The rows of Table 3 that a record stands for as the paper makes them, fine-tuned to stage 2; mostly none.

    Its manifest decides, as in `harness.reports.paper.rows`: pre-training and last stage of `system.trained`, and the
    halves that it was run with against the model's width, whatever that is.
    """
    system = record.manifest.system
    return rows.rows_of(3, system) if rows.fine_tuning(system) == HARD_NEGATIVES else ()
