"""Corrections for several tests: by hand, and against statsmodels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.reports.statistics import corrections


def test_holm_by_hand():
    """In order: 0.01·3, 0.03·2, then 0.04·1 which may not fall below 0.06."""
    assert corrections.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_one_test_or_none_needs_no_correction():
    assert corrections.holm([0.04]) == [0.04]
    assert corrections.holm([]) == []


@settings(max_examples=6, deadline=None)  # statsmodels collects garbage at every call
@given(st.lists(st.floats(0, 1) | st.sampled_from([0.0, 0.01, 0.05, 1.0]), min_size=2, max_size=12))
def test_statsmodels_gives_the_same(p):
    """Also with equal values, 0 and 1."""
    from statsmodels.stats.multitest import multipletests

    np.testing.assert_allclose(corrections.holm(p), multipletests(p, method="holm")[1], rtol=1e-12, atol=0)


@given(st.lists(st.floats(0, 1) | st.sampled_from([0.0, 0.01, 0.05, 1.0]), min_size=1, max_size=12))
def test_properties(p):
    """Adjusted values are no less than before and at most m times as much, at most 1, and in the same order."""
    adjusted = corrections.holm(p)
    for before, after in zip(p, adjusted, strict=True):
        assert before <= after <= min(1, len(p) * before)
    assert [adjusted[n] for n in np.argsort(p, kind="stable")] == sorted(adjusted)
