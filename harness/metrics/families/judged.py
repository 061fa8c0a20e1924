"""Judged: the share of the first k results that somebody judged."""

from harness.metrics.measure import Family, register

register(
    Family(
        "Judged",
        "Judged",
        "share of the first k results that somebody judged",
        "OpenNIR (MacAvaney 2020), by ir_measures",
        "needed",
        binary=False,
        counts_marks=True,
    )
)
