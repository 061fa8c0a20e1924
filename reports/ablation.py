"""Table 3 by its rows: which pre-training and which representation each stands for, and which row a record is."""

from dataclasses import dataclass
from typing import Any

from reports.records import Record

CLS, OT, BOTH = "CLS decoding", "OT decoding", "CLS and OT decoding"
PRETRAININGS = (CLS, OT, BOTH)
REFERENCE = BOTH  # the row that the others are tested against
METRICS = ("MRR@10", "MRR@100", "R@10", "R@100", "R@1000")
_PRINTED_K, _PRINTED_HALF = 260, 384


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
    K <= 261.4; the paper prints 260, which takes 24,508 of the 24,576 bits: 261 rounded down to tens, it seems, it does
    not say. We keep its share, 260 pairs for each 384 values given up, rounded down: 260 there, 43 for H = 128 and
    D = 64, where 43.6 fit. It always fits, since 260 / 384 < 32 / 47.
    """
    return (hidden - dense) * _PRINTED_K // _PRINTED_HALF


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
    """The rows of Table 3 that a record stands for, at whatever width its model has; none for most records.

    Its manifest decides: the pre-training and the last stage that the checkpoint says it was trained by
    (`system.options.trained`), which must be the paper's stage 2, and the halves it was run with
    (`system.options.dense`, `lexical`) against the model's width (`hidden`). A width other than the paper's 768 makes
    it a miniature; that is for the caller to say.
    """
    options = record.manifest.system.options
    trained: Any = options.get("trained")
    sizes = [n for name in ("hidden", "dense", "lexical") if isinstance(n := options.get(name), int)]
    if not isinstance(trained, dict) or len(sizes) < 3:
        return ()
    if trained.get("kind") != "finetune" or not trained.get("negatives") or trained.get("distil"):
        return ()
    hidden, *halves = sizes
    return tuple(
        row.name
        for row in ROWS
        if row.pretraining == trained.get("pretraining") and widths(row.representation, hidden) == tuple(halves)
    )
