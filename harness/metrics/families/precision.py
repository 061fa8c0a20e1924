"""Precision: the share of the first k places that hold a relevant document."""

from harness.metrics.measure import JUDGED_ONLY, REL, Family, register

register(
    Family(
        "P",
        "P",
        "share of the first k places that hold a relevant document",
        "trec_eval, `P`",
        "needed",
        also=("Precision",),
        options=REL | JUDGED_ONLY,
        ranx="precision",
        trec_eval="P",
    )
)
