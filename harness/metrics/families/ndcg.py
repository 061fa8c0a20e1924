"""Discounted cumulative gain over the ideal one. The gain is the grade, or 2^grade - 1 with dcg='exp-log2'."""

from harness.metrics.measure import JUDGED_ONLY, Family, Option, register

LINEAR, EXPONENTIAL = "log2", "exp-log2"

register(
    Family(
        "NDCG",
        "nDCG",
        "Σ gain / log2(rank + 1), over the same of the ideal order; the gain is the grade (or 2^grade - 1)",
        "Järvelin and Kekäläinen 2002, doi:10.1145/582415.582418; Burges et al. 2005, doi:10.1145/1102351.1102363",
        "may",
        options={"dcg": Option(LINEAR, str, choices=(LINEAR, EXPONENTIAL))} | JUDGED_ONLY,
        binary=False,
        ranx="ndcg",
        trec_eval="ndcg_cut",
        trec_eval_whole="ndcg",
    )
)
