"""Reciprocal rank: 1 over the rank of the first relevant result, 0 where there is none."""

from harness.metrics.measure import JUDGED_ONLY, REL, Family, register

register(
    Family(
        "MRR",
        "RR",
        "1 / rank of the first relevant result",
        "Voorhees 1999, The TREC-8 Question Answering Track Report",
        "may",
        also=("reciprocal_rank",),
        options=REL | JUDGED_ONLY,
        ranx="mrr",
        trec_eval_whole="recip_rank",  # trec_eval has no cutoff here; see harness.metrics.trec_eval
    )
)
