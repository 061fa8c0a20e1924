"""How many results there are, or with `rel` how many relevant ones."""

from harness.metrics.measure import REL, Family, register

register(
    Family(
        "NumRet",
        "NumRet",
        "number of results; with rel the number of relevant ones",
        "trec_eval, `num_ret` and `num_rel_ret`",
        "none",
        presets={"num_rel_ret": {"rel": 1}},
        options=REL,
        binary=False,  # without `rel` every result counts, whatever the collection's level
        trec_eval_whole="num_ret",
    )
)
