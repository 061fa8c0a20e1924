"""Several tests at once: p-values adjusted for their number."""

from collections.abc import Sequence

import numpy as np


def holm_of_those(p: Sequence[float | None]) -> list[float | None]:
    """`holm` of the tests that have a p; the others, which say nothing, stay without."""
    adjusted = iter(holm([value for value in p if value is not None]))
    return [None if value is None else next(adjusted) for value in p]


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of the p-values of m tests (Holm 1979, Scandinavian Journal of Statistics 6).

    The i-th smallest becomes the greatest of (m - j + 1) · p_(j) for j = 1 … i, and at most 1.
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)), 1.0)
    return [float(value) for value in adjusted]
