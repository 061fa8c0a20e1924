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
