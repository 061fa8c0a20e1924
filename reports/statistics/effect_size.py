"""How large a paired difference is, and how sure."""

from collections.abc import Sequence

import numpy as np

from harness.reports.statistics.randomisation import SAME


def alike(differences: Sequence[float]) -> bool:
    """Whether the differences have no spread: all 0, or all shifted by the same."""
    return float(np.ptp(differences)) <= SAME


def cohens_d_z(differences: Sequence[float]) -> float | None:
    """Cohen's d_z: the mean of the paired differences in units of their standard deviation (n - 1).

    None where all differences are alike, for which it is not defined.
    """
    if alike(differences):
        return None
    return float(np.mean(differences) / np.std(differences, ddof=1))


def interval(differences: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | tuple[None, None]:
    """Student's interval of the mean paired difference: mean ± t(n - 1) · sd / sqrt(n).

    None, twice, where all differences are alike, for which it is not defined.
    """
    from scipy import stats

    mean = float(np.mean(differences))
    if alike(differences):
        return None, None
    half = stats.t.ppf((1 + confidence) / 2, len(differences) - 1) * stats.sem(differences)
    return mean - float(half), mean + float(half)


def detectable(differences: Sequence[float], power: float = 0.8, level: float = 0.05) -> float | None:
    """The smallest mean difference that as many queries would have shown with that power.

    By Student's paired t-test, two-sided at `level`, of differences that spread as these do: the mean at which the
    noncentral t-distribution of n - 1 degrees of freedom lies beyond the critical values with probability `power`
    (Cohen 1988, chapter 2). It does not depend on the mean that was measured. None where all differences are alike.
    """
    from scipy import special, stats

    if alike(differences):
        return None
    count = len(differences)
    critical = float(stats.t.ppf(1 - level / 2, count - 1))

    def shown(shift: float) -> float:
        other = special.nctdtr(count - 1, shift, -critical)  # nan where it is next to nothing
        return float(1 - special.nctdtr(count - 1, shift, critical) + np.nan_to_num(other))

    low, high = 0.0, 1.0
    while shown(high) < power:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if shown(middle) < power else (low, middle)
    return high * float(stats.sem(differences))
