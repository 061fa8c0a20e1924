"""Expected reciprocal rank, and its own scorer: ir_measures asks gdeval for it, which needs Perl and rounds."""

import numpy as np

from harness.metrics.measure import Family, Metric, Ranked, Values, register

GREATEST = 4  # of the grades that gdeval, and TREC's Web track before it, knows


def expected_reciprocal_rank(run: Ranked, metric: Metric, _level: int) -> Values:
    """ERR = Σ_i 1/i R_i Π_{j<i} (1 - R_j) over the ranks i (to the cutoff), R = (2^grade - 1) / 2^4: [Q].

    Chapelle et al. 2009, doi:10.1145/1645953.1646033, equation 7: the user stops at rank i with the probability that
    its result satisfies and none before it did. Grades 0, 4 give 0 + 1/2 · 15/16 = 0.46875. Grades above 4 count as 4.
    """
    grades = np.clip(run.grades, 0, GREATEST)[:, : metric.cutoff]  # [Q,R]
    stops = (2.0**grades - 1) / 2**GREATEST
    reached = np.cumprod(np.concatenate([np.ones((len(stops), 1)), 1 - stops[:, :-1]], axis=1), axis=1)
    found: Values = (stops * reached / np.arange(1, stops.shape[1] + 1)).sum(axis=1)
    return found


register(
    Family(
        "ERR",
        "ERR",
        "expected 1 / rank at which a user is satisfied, from grades 0 to 4",
        "Chapelle et al. 2009, doi:10.1145/1645953.1646033; gdeval",
        "may",
        binary=False,
        ours=expected_reciprocal_rank,
    )
)
