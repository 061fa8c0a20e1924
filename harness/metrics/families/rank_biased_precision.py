"""Rank-biased precision, and its own scorer: no provider that ir_measures brings along computes it."""

import numpy as np

from harness.metrics.measure import REL, Family, Metric, Option, Ranked, Values, register


def rank_biased_precision(run: Ranked, metric: Metric, level: int) -> Values:
    """RBP = (1 - p) Σ_i p^(i-1) r_i over the ranks i (to the cutoff), r_i whether the result is relevant: [Q].

    Moffat and Zobel 2008, doi:10.1145/1416950.1416952, equation 4. With p = 0.8 and relevant results at ranks 1 and 3
    it is 0.2 (1 + 0.64) = 0.328.
    """
    p = float(metric.setting("p"))
    relevant = (run.judged & (run.grades >= level))[:, : metric.cutoff]  # [Q,R]
    found: Values = (1 - p) * (relevant * p ** np.arange(relevant.shape[1])).sum(axis=1)
    return found


register(
    Family(
        "RBP",
        "RBP",
        "(1 - p) Σ p^(rank - 1) over the relevant results",
        "Moffat and Zobel 2008, doi:10.1145/1416950.1416952",
        "may",
        options={"p": Option(0.8, float, least=0, most=1, open=True)} | REL,
        ours=rank_biased_precision,
    )
)
