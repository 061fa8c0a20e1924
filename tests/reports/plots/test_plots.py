"""Pictures: what is drawn, from which records, and how it is written."""

import hashlib
import itertools
import json
import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest

from harness.reports.errors import RecordError
from harness.reports.plots import (
    ablation as ablation_plot,
)
from harness.reports.plots import (
    differences as difference_plot,
)
from harness.reports.plots import (
    scores as score_plots,
)
from harness.reports.plots import (
    style,
    training_curves,
)
from harness.reports.plots.scores import Point, Recall
from harness.reports.tables.beside_paper import mean_interval, printed
from tests.support import records as made
from tests.support.records import COLLECTIONS

POINTS = [
    Point("A", "x", 0.5, 0.4, 0.6, bytes_here=768, bytes_paper=1536, queries_per_second=90.0, machine="m"),
    Point("B", "x", 0.7, 0.6, 0.8, published=0.71, queries_per_second=9.0, machine="m"),
    Point("B", "y", 0.2, 0.1, 0.3, queries_per_second=5.0, machine="n"),
]


@pytest.fixture(autouse=True)
def _styled():
    with style.styled():
        yield


def texts(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def hollow(axes):
    """The points of an axis that look as published ones do."""
    lines = [line for line in axes.lines if line.get_marker() == style.PUBLISHED["marker"]]
    assert all(line.get_markerfacecolor() == "white" for line in lines)
    return [pair for line in lines for pair in zip(*map(list, line.get_data()), strict=True)]


# --- bars


def test_bars_stand_where_their_scores_are_and_published_values_are_hollow():
    [axes] = score_plots.bars(POINTS, "NDCG@10").axes
    bars = {round(b.get_x() + b.get_width() / 2, 3): b.get_height() for b in axes.patches}
    # x = 0 has two bars of 0.4 each, x = 1 one, in its middle
    assert bars == {-0.2: 0.5, 0.2: 0.7, 1.0: 0.2}
    assert hollow(axes) == [(pytest.approx(0.2), 0.71)]
    spans = [[tuple(map(float, end)) for end in part] for c in axes.collections for part in c.get_segments()]
    assert sorted((low[1], high[1]) for low, high in spans) == [pytest.approx(pair) for pair in
                                                              [(0.1, 0.3), (0.4, 0.6), (0.6, 0.8)]]  # fmt: skip
    assert axes.get_ylim()[0] == 0


def test_measured_and_published_are_told_apart_in_words_and_shape():
    figure = score_plots.bars(POINTS, "NDCG@10")
    assert texts(figure) == ["A, measured", "B, measured", "published in the paper"]
    assert "published in the paper" not in texts(score_plots.bars(POINTS[2:], "NDCG@10"))
    looks = style.looks(map(str, range(210)))
    assert len(set(looks.values())) == 210
    assert style.PUBLISHED["marker"] not in {look.marker for look in looks.values()}
    assert not {look.colour for look in looks.values()} & {style.INK}


def test_neighbours_differ_in_shape_and_not_in_colour_alone():
    looks = list(style.looks("abcdefghij").values())
    for one, other in itertools.pairwise(looks):
        assert all(a != b for a, b in zip(one, other, strict=True))


# --- cost


def test_cost_has_both_countings_and_speed():
    figure = score_plots.cost(POINTS[:2], "NDCG@10")
    here, paper, speed = figure.axes

    def points(axes):
        return sorted(float(c.lines[0].get_xdata()[0]) for c in axes.containers)

    assert (points(here), points(paper), points(speed)) == ([768.0], [1536.0], [9.0, 90.0])
    assert "16-bit" in here.get_xlabel()
    assert "32-bit" in paper.get_xlabel()
    assert "not comparable" not in speed.get_xlabel()
    assert not any(hollow(axes) for axes in figure.axes)


def test_speeds_of_different_machines_are_said_to_be():
    other = [POINTS[1], Point("A", "x", 0.5, 0.4, 0.6, queries_per_second=90.0, machine="another")]
    figure = score_plots.cost(other, "NDCG@10")
    # no record says how many bytes a document takes: there are no such panels
    assert [axes.get_title() for axes in figure.axes] == ["speed"]
    assert "different machines" in figure.axes[0].get_xlabel()


def test_a_place_without_any_value_has_no_axes_and_says_why():
    *_, here, paper, speed = score_plots.cost(POINTS, "NDCG@10").axes  # of y, where only the speed is known
    for axes, words in ((here, "16-bit"), (paper, "32-bit")):
        [text] = axes.texts
        assert text.get_text().startswith("no record says\nbytes per document")
        assert words in text.get_text()
        assert (len(axes.get_xticks()), len(axes.get_yticks())) == (0, 0)
        assert not any(spine.get_visible() for spine in axes.spines.values())
    assert len(speed.get_yticks()) > 1


@pytest.mark.parametrize("most", [2.0, 40.0, 3e3, 2e5, 3e7, 1e12])
def test_numbers_under_a_logarithmic_axis_do_not_touch(tmp_path, most):
    """Their boxes as they are drawn, from left to right, leave room between them."""
    points = [
        Point("A", "x", 0.5, 0.4, 0.6, bytes_here=1.0, bytes_paper=2.0, queries_per_second=1),
        Point("B", "x", 0.5, 0.4, 0.6, bytes_here=most, bytes_paper=most, queries_per_second=most),
    ]
    figure = score_plots.cost(points, "NDCG@10")
    figure.draw_without_rendering()
    for axes in figure.axes:
        labels = [label for label in axes.get_xticklabels() if label.get_text()]
        assert len(labels) > 1
        boxes = [label.get_window_extent() for label in labels]
        assert all(left.x1 + 2 < right.x0 for left, right in itertools.pairwise(boxes))


def test_no_cost_at_all_is_an_error():
    with pytest.raises(RecordError, match="no record says how many bytes"):
        score_plots.cost([Point("A", "x", 0.5, 0.4, 0.6)], "NDCG@10")
    with pytest.raises(RecordError, match="nothing to draw"):
        score_plots.cost([], "NDCG@10")


# --- differences


def test_differences_are_sorted_and_counted():
    """b - a is +0.5, 0, -0.25, +0.25: two won, one tied, one lost, mean 0.125."""
    a = {"q1": 0.0, "q2": 0.5, "q3": 0.5, "q4": 0.5}
    b = {"q1": 0.5, "q2": 0.5, "q3": 0.25, "q4": 0.75}
    figure = difference_plot.differences(a, b, ("A", "B"), "NDCG@10", "title")
    [axes] = figure.axes
    won, lost = axes.collections
    heights = np.unique(won.get_paths()[0].vertices[:, 1])
    assert heights.tolist() == [0.0, 0.25, 0.5]
    assert np.unique(lost.get_paths()[0].vertices[:, 1]).tolist() == [-0.25, 0.0]
    assert won.get_paths()[0].vertices[:, 0].max() == 2
    assert lost.get_paths()[0].vertices[:, 0].min() == 3
    assert texts(figure)[:2] == ["2 won by B", "1 lost to A"]
    assert texts(figure)[2].startswith("mean +0.1250")
    assert [text.get_text() for text in axes.texts] == ["1 tied"]


def test_no_difference_at_all_and_thousands_are_drawn(tmp_path):
    same = {f"q{n}": 0.5 for n in range(7000)}
    figure = difference_plot.differences(same, same, ("A", "B"), "R@10", "t")
    assert texts(figure) == ["mean +0.0000 (paired t-test: p = 1)"]
    random = {q: float(v) for q, v in zip(same, np.random.default_rng(0).random(7000), strict=True)}
    style.save(difference_plot.differences(same, random, ("A", "B"), "R@10", "t"), tmp_path / "a.png")
    with pytest.raises(RecordError, match="same queries"):
        difference_plot.differences(same, {"q1": 1.0, "x": 0.0}, ("A", "B"), "R@10", "t")


# --- recall


def test_recall_by_cutoff():
    figure = score_plots.recall(
        [Recall("A", "x", {100: 0.9, 10: 0.5}), Recall("B", "x", {10: 0.4}), Recall("A", "y", {1: 0})]
    )
    left, right = figure.axes
    assert [tuple(map(list, line.get_data())) for line in left.lines[:2]] == [([10, 100], [0.5, 0.9]), ([10], [0.4])]
    assert [label.get_text() for label in left.get_xticklabels()] == ["10", "100"]
    assert right.get_title() == "y"
    # from 0 up to a little above the greatest; where all is 0, up to 1
    assert left.get_ylim() == (0, pytest.approx(0.99))
    assert right.get_ylim() == (0, pytest.approx(1.02))
    assert score_plots.recall([Recall("A", "x", {1: 0.1, 10: 0.25})]).axes[0].get_ylim() == (0, pytest.approx(0.275))


# --- ablation


def table(path, **changes):
    head = ["dataset", "row", "representation", "metric", "measured", "sd", "published"]
    lines = [
        ["d", "RetroMAE", "CLS:128", "MRR@10", "0.30", "0.01", "0.3928"],
        ["d", "CLS decoding only", "CLS:64, OT:64", "MRR@10", "0.31", "0.01", "0.4008"],
        ["d", "RetroMAE", "CLS:128", "NDCG@10", "0.35", "", ""],
    ]
    lines = [[changes.get(name, value) for name, value in zip(head, line, strict=True)] for line in lines]
    path.write_text("".join(",".join(f'"{v}"' for v in line) + "\n" for line in [head, *lines]))
    return path


def test_table_3_has_measured_and_published_in_panels_of_their_own(tmp_path):
    cells = ablation_plot.read_cells(table(tmp_path / "t.csv"), "MRR@10")
    measured, published = ablation_plot.ablation(cells, "MRR@10").axes
    assert hollow(published) == [(0.3928, 0), (0.4008, 1)]
    assert not hollow(measured)
    assert measured.get_title() == "measured: d"
    assert published.get_title().startswith("published")
    assert sorted(x for c in measured.containers for x in c.lines[0].get_xdata()) == [0.30, 0.31]
    # what the paper does not print has no panel
    cells = ablation_plot.read_cells(tmp_path / "t.csv", "NDCG@10")
    assert [axes.get_title() for axes in ablation_plot.ablation(cells, "NDCG@10").axes] == ["measured: d"]


def test_what_is_no_ablation_table_is_named(tmp_path):
    for content, message in (("", "holds no rows"), ("a,b\n1,2\n", "lacks the columns dataset, row")):
        (tmp_path / "t.csv").write_text(content)
        with pytest.raises(RecordError, match=message):
            ablation_plot.read_cells(tmp_path / "t.csv", "MRR@10")
    with pytest.raises(RecordError, match="has no R@7; there is MRR@10, NDCG@10"):
        ablation_plot.read_cells(table(tmp_path / "t.csv"), "R@7")
    with pytest.raises(RecordError, match=r"there is no .*absent\.csv\. Give the table3\.csv"):
        ablation_plot.read_cells(tmp_path / "absent.csv", "MRR@10")
    with pytest.raises(RecordError, match="number of MRR@10 cannot be read"):
        ablation_plot.read_cells(table(tmp_path / "t.csv", measured="much"), "MRR@10")


# --- words

WIDE = "W" * 70
AWKWARD = [
    [f"a rather long name of system {n}, which goes on" for n in range(5)],
    [WIDE, "short", f"{WIDE}-2"],
    ["a long name " * 30, "short"],
    [f"system {n}" for n in range(60)],
    ["_hidden", r"$x_1$ and \foo{$", "two\nlines"],
]


@pytest.mark.parametrize("names", AWKWARD)
@pytest.mark.parametrize("kind", [score_plots.bars, score_plots.cost, "recall"])
def test_no_legend_is_cut_off(names, kind):
    """All of every text and key is within the figure, and the panels keep their height."""
    if kind == "recall":
        figure = score_plots.recall([Recall(name, "x", {1: 0.1, 10: 0.5}) for name in names])
    else:
        figure = kind([Point(name, "x", 0.5, 0.4, 0.6, queries_per_second=9.0) for name in names], "R@1")
    figure.draw_without_rendering()
    [legend] = figure.legends
    assert len(legend.get_texts()) == len(names)
    whole = figure.bbox
    for part in (legend, *legend.get_texts(), *legend.legend_handles):
        box = part.get_window_extent()
        assert whole.x0 <= box.x0 <= box.x1 <= whole.x1
        assert whole.y0 <= box.y0 <= box.y1 <= whole.y1
    assert figure.axes[0].get_window_extent().height > 120
    for text, name in zip(legend.get_texts(), names, strict=True):
        drawn = "".join(text.get_text().split()).removesuffix(",measured").removeprefix("…")
        assert drawn
        assert "".join(name.split()).endswith(drawn) or drawn == "".join(name.split())


def test_a_dollar_sign_is_a_dollar_sign():
    """As wide as its letters: set as a formula, `$x_1$` is half as wide, and `x$` alone would not be parsed."""
    figure = score_plots.bars([Point("$x_1$", "$x_1$", 0.5, 0.4, 0.6)], r"R@1 $\foo{$")
    figure.draw_without_rendering()
    [tick] = figure.axes[0].get_xticklabels()
    [key] = figure.legends[0].get_texts()
    assert tick.get_window_extent().width / figure.dpi == pytest.approx(style.text_width("$x_1$"), rel=0.1)
    measured = style.text_width("$x_1$, measured")
    assert key.get_window_extent().width / figure.dpi == pytest.approx(measured, rel=0.1)


def test_lines_are_broken_at_spaces_and_no_wider_than_asked():
    assert style.wrapped("one two", 9) == "one two"
    lines = style.wrapped(f"one two three {WIDE}", 1.0).split("\n")
    assert lines[0] == "one two three"
    assert "".join(lines[1:]) == WIDE
    assert all(style.text_width(line) <= 1.0 for line in lines)
    assert style.text_width("mmmm", bold=True) > style.text_width("mmmm") > style.text_width("llll")
    figure = style.figure(4, 2)
    style.title_above(figure, WIDE)
    figure.draw_without_rendering()
    box = figure.texts[0].get_window_extent() if figure.texts else figure._suptitle.get_window_extent()
    assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1


# --- writing


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_equal_figures_are_equal_bytes_and_whole_files(tmp_path, suffix):
    paths = [tmp_path / f"{name}.{suffix}" for name in "ab"]
    for path in paths:
        style.save(score_plots.bars(POINTS, "NDCG@10"), path)
    one, other = (hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)
    assert one == other
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a.{suffix}", f"b.{suffix}"]
    if suffix == "svg":
        assert ET.parse(paths[0]).getroot().tag.endswith("svg")
        assert b"<dc:date>" not in paths[0].read_bytes()
    else:
        assert paths[0].read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("name", "message"), [("a.pdf", "ends in '.pdf'"), ("a", "no suffix"), ("x/a.png", "no folder")]
)
def test_a_picture_that_cannot_be_written_is_said_first(tmp_path, name, message):
    with pytest.raises(RecordError, match=message):
        style.save(style.figure(1, 1), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_the_style_is_left_behind():
    assert mpl.rcParams["svg.hashsalt"] == "dupmae-harness"
    with mpl.rc_context({"svg.hashsalt": "mine", "axes.grid": False}):
        before = dict(mpl.rcParams)
        with style.styled():
            assert mpl.rcParams["axes.grid"]
        assert dict(mpl.rcParams) == before


# --- a record's interval and its printed number


def test_a_constant_has_no_interval_and_a_composite_is_drawn_within_its_parts(tmp_path):
    """Two forums that score 0 and 1 throughout: resampled within each the mean is 0.5 always; pooled it would vary."""
    where = made.data(COLLECTIONS["SciFact"])
    flat = made.write(tmp_path / "a" / "b" / "c", made.bm25(), where, {"NDCG@10": dict.fromkeys("xyz", 0.25)})
    assert mean_interval(flat, "NDCG@10") == (0.25, 0.25)
    values = {f"one:{n}": 0.0 for n in range(5)} | {f"two:{n}": 1.0 for n in range(9)}
    parted = made.write(tmp_path / "a" / "b" / "d", made.bm25(), where, {"NDCG@10": values}, parts=["one", "two"])
    assert mean_interval(parted, "NDCG@10") == (0.5, 0.5)
    # a mean of 40 values 0.2 above and below has the standard error 0.2 / √40 = 0.0316, so ± 1.96 times that
    spread = made.write(tmp_path / "a" / "b" / "e", made.bm25(), *made.on("SciFact", 0.665))
    low, high = mean_interval(spread, "NDCG@10")
    assert (low, high) == (pytest.approx(0.665 - 0.062, abs=0.006), pytest.approx(0.665 + 0.062, abs=0.006))


def test_only_what_may_stand_beside_the_paper_has_its_number(tmp_path):
    def number(who, where, metric="NDCG@10"):
        return printed(made.write(tmp_path / "a" / "b" / "c", who, where, {metric: made.around(0.6)}), metric)

    scifact, dev = COLLECTIONS["SciFact"], COLLECTIONS["MS MARCO Dev"]
    assert number(made.bm25(), made.data(scifact)) == 0.665
    assert number(made.bm25(), made.data(scifact), "MRR@10") is None
    assert number(made.bm25(), made.data(scifact, documents=5)) is None
    assert number(made.system(name="BM25", tasks=None), made.data(scifact)) is None  # claims no row
    assert number(made.system(), made.data(dev), "MRR@10") == 0.4102
    assert (
        number(made.system(model={"layers": 2, "hidden": 128, "vocabulary": 30_522}), made.data(dev), "MRR@10") is None
    )


# --- curves


def test_curves_as_svg(tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_text(json.dumps({"step": 1, "loss": 2.0}) + "\n" + json.dumps({"step": 2, "loss": 1.0}) + "\n")
    training_curves.draw(log, tmp_path / "c.svg", "t")
    assert (tmp_path / "c.svg").read_text().startswith("<?xml")
    log.write_text(json.dumps({"step": 1, "tokens": 5}) + "\n")
    with pytest.raises(RecordError, match="neither a loss nor"):
        training_curves.draw(log, tmp_path / "d.svg", "t")
