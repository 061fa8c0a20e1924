"""Effect sizes and intervals of paired differences, by hand."""

import pytest

from harness.reports.statistics import effect_size


def test_effect_size_and_interval():
    """Mean 2, standard deviation 1, n = 3; t(2) at 97.5 % is 4.3027."""
    assert effect_size.cohens_d_z([1, 2, 3]) == pytest.approx(2)
    low, high = effect_size.interval([1, 2, 3])
    assert (low, high) == pytest.approx((2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5), abs=1e-4)
    assert effect_size.cohens_d_z([0.1, 0.1]) is None
    assert effect_size.interval([0.1, 0.1]) == (None, None)
