"""Success: whether a relevant document is among the first k results."""

from harness.metrics.measure import JUDGED_ONLY, REL, Family, register

register(
    Family(
        "Success",
        "Success",
        "1 where a relevant document is among the first k results, else 0",
        "trec_eval, `success`",
        "needed",
        also=("hit_rate", "HitRate", "Hits", "Hit"),
        options=REL | JUDGED_ONLY,
        ranx="hit_rate",
        trec_eval="success",
    )
)
