"""R-precision: the precision at rank R, where R is the number of relevant documents."""

from harness.metrics.measure import JUDGED_ONLY, REL, Family, register

register(
    Family(
        "Rprec",
        "Rprec",
        "precision at rank R, the number of relevant documents",
        "Buckley and Voorhees 2005; trec_eval, `Rprec`",
        "none",
        also=("RPrecision", "r_precision"),
        options=REL | JUDGED_ONLY,
        ranx="r-precision",
        trec_eval_whole="Rprec",
    )
)
