"""Recall: the share of the relevant documents that are among the first k results."""

from harness.metrics.measure import JUDGED_ONLY, REL, Family, register

register(
    Family(
        "R",
        "R",
        "share of the relevant documents among the first k results",
        "trec_eval, `recall`",
        "needed",
        also=("Recall",),
        options=REL | JUDGED_ONLY,
        ranx="recall",
        trec_eval="recall",
    )
)
