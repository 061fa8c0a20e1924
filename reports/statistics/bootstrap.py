"""How far a mean over queries could be another with other queries: the bootstrap."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

RESAMPLES, LEVEL, SEED = 10_000, 0.95, 0
Values = npt.NDArray[np.float64]


def means(groups: Sequence[Sequence[float]], seed: Sequence[int] = (SEED,), resamples: int = RESAMPLES) -> Values:
    """Means [R] of `resamples` samples of queries, drawn with replacement within each group of values.

    The mean is that of the groups' means: one group for most collections, one for each forum of CQADupStack. The plain
    bootstrap (Efron 1979) of a mean needs only how often each distinct value is drawn, which is multinomial; so a
    sample costs the number of distinct values and not that of queries. Means that are to be averaged want seeds of
    their own: from one seed they would vary together. Raises ValueError for an empty group.
    """
    draw = np.random.default_rng(seed)
    total = np.zeros(resamples)
    for group in groups:
        if not len(group):
            raise ValueError("a group without queries has no mean")
        values, counts = np.unique(np.asarray(group, dtype=np.float64), return_counts=True)
        total += draw.multinomial(len(group), counts / len(group), size=resamples) @ values / len(group)
    return np.asarray(total / len(groups))


def interval(sampled: Values, level: float = LEVEL) -> tuple[float, float]:
    """The percentile interval of sampled means: a metric between 0 and 1 stays between them."""
    low, high = np.quantile(sampled, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
