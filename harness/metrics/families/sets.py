"""Precision, recall and F of all that was found, in no order."""

from harness.metrics.measure import JUDGED_ONLY, REL, Family, Option, register

register(
    Family(
        "SetP",
        "SetP",
        "share of all results that are relevant",
        "trec_eval, `set_P`",
        "none",
        options=REL | JUDGED_ONLY,
        trec_eval_whole="set_P",
    )
)
register(
    Family(
        "SetR",
        "SetR",
        "share of the relevant documents that were found at all",
        "trec_eval, `set_recall`",
        "none",
        options=REL,
        trec_eval_whole="set_recall",
    )
)
register(
    Family(
        "SetF",
        "SetF",
        "(1 + beta) P R / (beta P + R), of SetP and SetR",
        "van Rijsbergen 1979, Information Retrieval, chapter 7; trec_eval, `set_F`",
        "none",
        options=REL | {"beta": Option(1.0, float, least=0, open=True)} | JUDGED_ONLY,
        trec_eval_whole="set_F",
    )
)
