"""Curves of a training, and the paired test."""

import json

import pytest

from harness.reports.errors import RecordError
from harness.reports.plots import training_curves
from harness.reports.statistics.paired import paired_t_test


def write(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_series_of_a_log(tmp_path):
    log = write(
        tmp_path / "metrics.jsonl",
        {"step": 5, "loss": 2.0, "mlm": 1.0, "learning_rate": 0.1, "tokens": 9},
        {"step": 5, "validation": {"MRR@10": 0.25}},
        {"step": 10, "loss": 1.0, "mlm": 0.5, "learning_rate": 0.1, "tokens": 18},
    )
    assert training_curves.series(training_curves.read_log(log)) == {
        "loss": ([5, 10], [2.0, 1.0]),
        "mlm": ([5, 10], [1.0, 0.5]),
        "validation: MRR@10": ([5], [0.25]),
    }
    training_curves.draw(log, tmp_path / "a.png", "a title")
    training_curves.draw(log, tmp_path / "b.png", "a title")
    assert (tmp_path / "a.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("content", ["", "{", '{"loss": 1}', "[]"])
def test_what_is_no_log_is_named(tmp_path, content):
    (tmp_path / "metrics.jsonl").write_text(content)
    with pytest.raises(RecordError, match="not the log of a training"):
        training_curves.draw(tmp_path / "metrics.jsonl", tmp_path / "a.png", "")
    assert not (tmp_path / "a.png").exists()


def test_paired_t_test_by_hand():
    """Differences (1, 2, 3): mean 2, standard deviation 1, t = 2·√3 = 3.4641 with 2 degrees of freedom.

    There P(|T| > t) = 1 - t / √(t² + 2) = 1 - √(12/14) = 0.0742.
    """
    a = {"x": 0.0, "y": 0.0, "z": 0.0}
    found = paired_t_test(a, {"z": 3.0, "y": 2.0, "x": 1.0})  # matched by query, not by order
    assert (found.difference, found.wins, found.ties, found.losses) == (2.0, 3, 0, 0)
    assert found.p == pytest.approx(1 - (12 / 14) ** 0.5)
    other_way = paired_t_test({"z": 3.0, "y": 2.0, "x": 1.0}, a)
    assert (other_way.difference, other_way.losses) == (-2.0, 3)
    assert other_way.p == pytest.approx(found.p)


def test_a_p_that_float64_cannot_hold_is_no_plain_nought():
    """5,000 differences of 0.5 ± 0.1: t = 0.5 / (0.1 / √5000) = 354, far beyond the smallest number there is."""
    before = {str(query): 0.0 for query in range(5_000)}
    found = paired_t_test(before, {query: 0.4 + 0.2 * (int(query) % 2) for query in before})
    assert (found.p, found.p_shown) == (0.0, "<1e-300")
    assert paired_t_test({"x": 0.0, "y": 0.0, "z": 0.0}, {"x": 1.0, "y": 2.0, "z": 3.0}).p_shown == "0.074"


def test_no_difference_at_all_is_none():
    same = {"x": 0.3, "y": 0.4}
    found = paired_t_test(same, same)
    assert (found.p, found.ties, found.difference) == (1.0, 2, 0.0)


def test_other_queries_are_refused():
    with pytest.raises(RecordError, match="needs the same queries"):
        paired_t_test({"x": 1.0, "y": 2.0}, {"x": 1.0, "z": 2.0})
    with pytest.raises(RecordError, match="2 at least"):
        paired_t_test({"x": 1.0}, {"x": 1.0})
