"""Bpref: how seldom documents judged not relevant stand above relevant ones; what nobody judged does not count."""

from harness.metrics.measure import REL, Family, register

register(
    Family(
        "Bpref",
        "Bpref",
        "how seldom a document judged not relevant stands above a relevant one",
        "Buckley and Voorhees 2004, doi:10.1145/1008992.1009000",
        "none",
        options=REL,
        trec_eval_whole="bpref",
    )
)
