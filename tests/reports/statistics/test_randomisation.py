"""Paired tests against scipy, an exact enumeration and a slow second writing-out."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from harness.reports.errors import RecordError
from harness.reports.statistics import corrections, paired, randomisation


def draw(systems, queries, seed=0):
    """Differences with ties among them, as metrics have: multiples of a tenth, three in ten of them nought."""
    generator = np.random.default_rng(seed)
    d = generator.integers(-4, 6, (systems, queries)) / 10
    d[generator.random((systems, queries)) < 0.3] = 0
    return d


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1, 1, 1], 2 / 8),  # only +++ and --- give 3
        ([1, 2, 3], 2 / 8),
        ([1, -1, 2], 6 / 8),  # sums 4 2 2 0 and their negatives: six are 2 or more away from 0
        ([0, 0], 1.0),
        ([0, 5], 1.0),  # either sign of the one is as far from 0
    ],
)
def test_sign_flips_by_hand(differences, p):
    found = randomisation.randomisation_test([differences])
    assert found.exact
    assert found.flips == 2 ** len(differences)
    assert found.p == found.max_t == (p,)


@pytest.mark.parametrize("seed", range(4))
def test_the_enumeration_is_scipys(seed):
    d = draw(3, 12, seed)
    found = randomisation.randomisation_test(d, permutations=2**12)
    assert found.exact
    for row, p in zip(d, found.p, strict=True):
        theirs = stats.permutation_test((row, np.zeros(12)), lambda x, y, axis: np.mean(x - y, axis=axis),
                                        permutation_type="samples", vectorized=True, n_resamples=np.inf)  # fmt: skip
        assert p == pytest.approx(theirs.pvalue, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_drawn_signs_come_near_the_enumeration(seed):
    """12 queries have 4,096 assignments; 4,095 drawn ones must be within four standard errors of them."""
    d = draw(3, 12, seed)
    exact = randomisation.randomisation_test(d, permutations=4096)
    drawn = randomisation.randomisation_test(d, permutations=4095, seed=seed)
    assert (exact.exact, drawn.exact, drawn.flips) == (True, False, 4095)
    for a, b in zip(exact.p + exact.max_t, drawn.p + drawn.max_t, strict=True):
        assert abs(a - b) <= 4 * np.sqrt(a * (1 - a) / 4095) + 1 / 4096


def test_a_seed_gives_the_same_again():
    d = draw(2, 40)
    one, again, other = (randomisation.randomisation_test(d, 2000, seed) for seed in (1, 1, 2))
    assert one == again
    assert one.p != other.p


def test_drawn_p_is_never_nought():
    """(b + 1) / (m + 1) with b = 0, since 1 of 2^60 assignments is as extreme."""
    assert randomisation.randomisation_test([np.ones(60)], 999).p == (1 / 1000,)


def test_the_blocks_of_signs_change_nothing_that_matters(monkeypatch):
    d = draw(2, 12)
    whole = randomisation.randomisation_test(d)
    monkeypatch.setattr(randomisation, "_CELLS", 100)
    assert randomisation.randomisation_test(d) == whole


def slow_max_t(d):
    """Step-down max-T as Ge, Dudoit and Speed's box 2 has it, on scipy's own t statistics."""
    signs = np.array(list(product((-1, 1), repeat=d.shape[1])))
    t = np.abs([[stats.ttest_1samp(s * row, 0).statistic for row in d] for s in signs])  # [2^n,S]
    measured = np.abs([stats.ttest_1samp(row, 0).statistic for row in d])
    order = sorted(range(len(d)), key=lambda i: -measured[i])
    adjusted, least = {}, 0.0
    for place, system in enumerate(order):
        as_extreme = sum(max(row[k] for k in order[place:]) >= measured[system] - 1e-9 for row in t)
        least = adjusted[system] = max(least, as_extreme / len(signs))
    return tuple(adjusted[i] for i in range(len(d)))


@pytest.mark.parametrize("seed", range(2))
def test_max_t_is_that_of_a_slow_second_writing_out(seed):
    d = np.random.default_rng(seed).normal(0.3, 1, (3, 7))
    assert randomisation.randomisation_test(d).max_t == pytest.approx(slow_max_t(d), abs=1e-12)


def test_max_t_properties():
    d = draw(4, 30, 3)
    found = randomisation.randomisation_test(d, 5000)
    assert all(m >= p for p, m in zip(found.p, found.max_t, strict=True))
    alone = [randomisation.randomisation_test([row], 5000) for row in d]
    assert found.p == tuple(one.p[0] for one in alone)  # a system's own p does not depend on the others
    assert [one.p for one in alone] == [one.max_t for one in alone]  # nothing to correct
    copies = randomisation.randomisation_test([d[0]] * 4, 5000)  # one test, four times: max-T knows, Holm does not
    assert copies.max_t == copies.p
    assert corrections.holm(copies.p)[0] == pytest.approx(min(1, 4 * copies.p[0]))
    assert found.max_t[::-1] == randomisation.randomisation_test(d[::-1], 5000).max_t


@pytest.mark.parametrize(("d", "count"), [([[1.0]], 10), ([[1.0, 2.0]], 0), ([1.0, 2.0], 10)])
def test_too_little_to_test(d, count):
    with pytest.raises(RecordError, match="needs"):
        randomisation.randomisation_test(d, count)


def test_against_the_baseline_is_scipys():
    generator = np.random.default_rng(5)
    ids = [f"q{n}" for n in range(50)]
    values = {name: dict(zip(ids, generator.random(50), strict=True)) for name in ("base", "x", "y")}
    values["y"] = dict(reversed(values["y"].items()))  # paired by query, not by order
    values["same"] = dict(values["base"])
    found = paired.against_baseline("base", values, 2000, 7)
    assert [system.name for system in found.systems] == ["x", "y", "same"]
    for system in found.systems[:2]:
        a, b = ([values[name][q] for q in ids] for name in ("base", system.name))
        theirs = stats.ttest_rel(b, a)
        assert system.p_t == pytest.approx(theirs.pvalue)
        assert (system.low, system.high) == pytest.approx(tuple(theirs.confidence_interval()))
        assert system.d_z == pytest.approx(theirs.statistic / 50**0.5)
        assert system.difference == pytest.approx(np.mean(b) - np.mean(a))
        assert system.wins == sum(x > y for x, y in zip(b, a, strict=True))
    same = found.systems[2]
    assert (same.p_t, same.p_random, same.p_max_t, same.d_z, same.ties) == (1, 1, 1, None, 50)


def test_other_queries_than_its_pair_are_named():
    with pytest.raises(RecordError, match=r"same queries.*got 2 and 3: b lacks 2 .*\(q3, q4\); a lacks 1 .*\(q1\)\."):
        paired.check_pair({"q1": 1, "q2": 1}, {"q2": 1, "q3": 0, "q4": 0}, ("b", "a"))


def test_changes_by_hand():
    """Falls count as much as rises; what ties but for a sum's last bit is no change."""
    a = {"q1": 0.5, "q2": 0.5, "q3": 0.1 + 0.2, "q4": 0.0, "q5": 1.0}
    b = {"q1": 0.4, "q2": 0.6, "q3": 0.3, "q4": 1.0, "q5": 0.0}
    assert [(c.query_id, c.difference) for c in paired.changes(a, b, 3)] == [
        ("q4", 1.0), ("q5", -1.0), ("q1", pytest.approx(-0.1)),
    ]  # fmt: skip
    assert len(paired.changes(a, b, 9)) == 4
    assert paired.paired_t_test(a, b).ties == 1


def test_judged_by_hand():
    """q1 shows two of three judged (a nought is a judgment), q2 none of one; q3 has no results: (2/3 + 0)/2."""
    ranked = {"q1": ["a", "b", "c", "d"], "q2": ["x"], "q3": []}
    found = paired.judged(ranked, {"q1": {"a": 0, "c": 2}, "q2": {"a": 1}, "q3": {"a": 1}}, 3)
    assert (found.share, found.shown, found.unjudged) == (pytest.approx((2 / 3) / 2), 4, 2)
    assert paired.judged({"q": []}, {"q": {"a": 1}}).share is None
