"""Tables from records: what a cell shows, which record fills it, averages, claims, ranks and forms."""

import csv
import io
import re
from collections import Counter
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.reports.errors import RecordError
from harness.reports.paper import claims
from harness.reports.paper.collections import COLLECTIONS
from harness.reports.paper.published import AVERAGE, FOLDER, published
from harness.reports.statistics import bootstrap
from harness.reports.tables import builder
from tests.support.records import around, bm25, data, on, system, write

SMALL = {"layers": 4, "hidden": 128, "vocabulary": 4_096}


def made(tmp_path, *wanted, **options):
    """Table 2 of records given as (system, collection, mean)."""
    found = [write(tmp_path / f"r{n}", who, *on(name, mean)) for n, (who, name, mean) in enumerate(wanted)]
    return builder.build(2, found, **options)


@pytest.mark.parametrize(
    ("mean", "status"),
    [(0.6647, "reproduced"), (0.66555, "reproduced"), (0.6656, "gap"), (0.6644, "gap"), (0.66446, "reproduced")],
)
def test_reproduced_is_rounding_and_no_more(tmp_path, mean, status):
    """0.665 stands for 0.6645 to 0.6655, and these for 0.66445 to 0.66555 where four digits were rounded again."""
    cell = made(tmp_path, (bm25(), "SciFact", mean)).cells["BM25", "SciFact"]
    assert (cell.status, cell.printed, cell.queries) == (status, "0.665", 40)
    assert cell.measured == pytest.approx(mean)
    assert cell.difference == pytest.approx(mean - 0.665)
    assert cell.low < mean < cell.high
    assert cell.tolerance == pytest.approx(0.00055)


def test_four_printed_digits_are_held_to_four():
    """0.4102: half of 0.0001, and half of the fourth decimal."""
    assert builder.rounding("0.4102") == pytest.approx(0.0001, abs=1e-8)


def test_a_wider_tolerance_is_the_users_word(tmp_path):
    table = made(tmp_path, (bm25(), "SciFact", 0.66), tolerance=0.005)
    assert table.cells["BM25", "SciFact"].status == "reproduced"
    assert "at most 0.005 from the printed number, as asked for" in table.to_markdown()


def test_a_gap_inside_the_interval_is_a_gap(tmp_path):
    text = made(tmp_path, (bm25(), "SciFact", 0.66), (bm25(), "NFCorpus", 0.9)).to_markdown()
    assert re.search(r"\| SciFact +\| 0\.6600 .* gap, the printed number is inside the interval", text)
    assert re.search(r"\| NFCorpus +\| 0\.9000 .* gap, the printed number is outside the interval", text)


def test_nothing_is_run_and_four_collections_nobody_can(tmp_path):
    table = builder.build(2, [])
    kinds = Counter(cell.status for cell in table.cells.values())
    assert kinds == {"not run": 15 * 9, "data unavailable": 4 * 9}
    assert {test for (_, test), c in table.cells.items() if c.status == "data unavailable"} == {
        "BioASQ", "Signal-1M(RT)", "TREC-NEWS", "Robust04",
    }  # fmt: skip
    assert table.remarks == ()


def test_who_has_a_licensed_collection_fills_its_cell(tmp_path):
    assert made(tmp_path, (bm25(), "Robust04", 0.408)).cells["BM25", "Robust04"].status == "reproduced"


def test_a_record_is_placed_by_its_manifest_and_not_by_its_folder(tmp_path):
    """The folder says dupmae on nfcorpus; the manifest says BM25 on SciFact."""
    record = write(tmp_path / "beir-nfcorpus" / "dupmae" / "0", bm25(), *on("SciFact", 0.665))
    table = builder.build(2, [record])
    assert [key for key, cell in table.cells.items() if cell.measured] == [("BM25", "SciFact"), ("BM25", AVERAGE)]


def test_another_corpus_under_the_same_id_is_not_comparable(tmp_path):
    other = data(COLLECTIONS["SciFact"], documents=10)
    cell = builder.build(2, [write(tmp_path / "r", bm25(), other, {"NDCG@10": around(0.665)})]).cells["BM25", "SciFact"]
    assert (cell.status, cell.reasons) == ("not comparable", ("other corpus (10 documents, not 5,183)",))
    assert cell.measured == pytest.approx(0.665)


def test_two_records_the_newest_wins_and_the_other_is_named(tmp_path):
    old = write(tmp_path / "old", bm25(), *on("SciFact", 0.5), created="2026-01-01T00:00:00+00:00")
    new = write(tmp_path / "new", bm25(), *on("SciFact", 0.665), created="2026-02-01T00:00:00+00:00")
    for order in ([old, new], [new, old]):
        table = builder.build(2, order)
        assert table.cells["BM25", "SciFact"].record is new
        assert table.remarks == (
            f"BM25 on SciFact, NDCG@10: {new.folder} is the newest record; left out: {old.folder}",
        )


def test_a_newer_record_that_is_not_comparable_does_not_hide_one_that_is(tmp_path):
    full = write(tmp_path / "a", system(), *on("SciFact", 0.699), created="2026-01-01T00:00:00+00:00")
    small = write(tmp_path / "b", system(64, 64, model=SMALL), *on("SciFact", 0.4), created="2026-02-01T00:00:00+00:00")
    table = builder.build(2, [small, full])
    assert table.cells["DupMAE", "SciFact"].record is full
    assert "newest comparable record" in table.remarks[0]
    assert builder.build(2, [small]).cells["DupMAE", "SciFact"].status == "not comparable"


def test_what_fills_no_cell_is_told_and_a_metric_that_is_not_there_is_named(tmp_path):
    flat = system(name="BM25", tasks=None)
    table = builder.build(2, [write(tmp_path / f"r{n}", flat, *on("SciFact", 0.6)) for n in range(5)])
    assert table.remarks == (
        "5 records fill no cell of Table 2 by what the manifest says: anything on n; anything on n; anything on n; …",
    )
    lacking = write(tmp_path / "m", bm25(), *on("SciFact", 0.6, metric="R@100"))
    cell = builder.build(2, [lacking]).cells["BM25", "SciFact"]
    assert (cell.status, cell.reasons) == (
        "not run",
        (f"{lacking.folder} has no NDCG@10: run it with --metric NDCG@10",),
    )


def test_an_average_is_over_the_cells_that_both_sides_have(tmp_path):
    """(0.665 + 0.325) / 2 = 0.495 beside (0.66 + 0.33) / 2 = 0.495; the miniature's and the licensed cells are out."""
    table = made(
        tmp_path,
        (bm25(), "SciFact", 0.66),
        (bm25(), "NFCorpus", 0.33),
        (system(64, 64, model=SMALL), "SciFact", 0.4),
    )
    cell = table.cells["BM25", AVERAGE]
    assert (cell.printed, cell.cells, cell.measured, cell.against) == (
        "0.423", 2, pytest.approx(0.495), pytest.approx(0.495),
    )  # fmt: skip
    assert (cell.status, cell.reasons) == ("not comparable", ("2 of 18 collections, beside the same printed cells",))
    assert (table.cells["DupMAE", AVERAGE].status, table.cells["DupMAE", AVERAGE].measured) == ("not run", None)


def test_the_average_of_all_cells_is_compared_with_theirs(tmp_path):
    """DupMAE's printed cells as measured: their mean is 0.4767, whatever 0.475 is printed."""
    printed = published(2)
    wanted = [(system(), row, float(printed.cell(row, "DupMAE"))) for row in printed.rows[:-1]]
    table = made(tmp_path, *wanted)
    cell = table.cells["DupMAE", AVERAGE]
    assert (cell.status, cell.cells, cell.printed) == ("reproduced", 18, "0.475")
    assert cell.measured == pytest.approx(0.4767, abs=5e-5)
    # the 18 are drawn independently: each has variance 0.2^2 / 40
    assert cell.high - cell.low == pytest.approx(2 * 1.96 * 0.2 / np.sqrt(40 * 18), rel=0.05)


def rows_of_csv():
    with (FOLDER / "table2.csv").open() as file:
        return list(csv.DictReader(file))[:-1]


def test_the_two_averages_are_flagged_and_no_other():
    assert claims.flags(published(2))[:2] == [
        "the printed average of Contriever is 0.448, but its own 18 cells average 0.4436",
        "the printed average of DupMAE is 0.475, but its own 18 cells average 0.4767",
    ]
    means = {s: np.mean([float(row[s]) for row in rows_of_csv()]) for s in published(2).systems}
    assert {s for s, mean in means.items() if abs(mean - float(published(2).cell(AVERAGE, s))) > 0.001} == {
        "Contriever", "DupMAE",
    }  # fmt: skip
    assert "+2.3 points of DupMAE over RetroMAE" in claims.flags(published(2))[2]
    assert f"{100 * (means['DupMAE'] - means['RetroMAE']):.1f}" == "2.4"


@pytest.mark.parametrize(("printed", "wrong"), [("0.501", False), ("0.499", False), ("0.502", True), ("0.498", True)])
def test_rounding_may_explain_a_whole_unit_and_no_more(monkeypatch, printed, wrong):
    """Cells that all print 0.500 may be 0.4995 to 0.5005; their mean then prints 0.499 (from 0.4995 down) to 0.501."""
    table = published(2)
    cells = {(row, column): "0.500" for row in table.rows for column in table.columns} | {(AVERAGE, "BM25"): printed}
    changed = type(table)(2, "", table.rows, table.columns, {}, cells)
    assert claims.wrong_average(changed, "BM25") == wrong
    assert not claims.wrong_average(changed, "BERT")


def test_the_claims_are_confirmed_by_counting():
    cells = rows_of_csv()
    assert sum(Decimal(row["DupMAE"]) > Decimal(row["RetroMAE"]) for row in cells) == 13
    assert sum(Decimal(row["DupMAE"]) > Decimal(row["BM25"]) for row in cells) == 15
    for number in (1, 2, 3):
        lines = claims.verdicts(published(number), lambda system, test: None)
        assert len(lines) == len(claims.CLAIMS[number])
        assert all(": confirmed by the printed numbers" in line and "nothing to compare yet" in line for line in lines)


def test_a_claim_that_the_numbers_do_not_bear_out_is_not_confirmed():
    """With 0.700 for RetroMAE on SciFact DupMAE's 0.699 loses one more."""
    table = published(2)
    cells = {(r, c): table.printed(r, c) for r in table.rows for c in table.columns} | {
        ("SciFact", "RetroMAE"): "0.700"
    }
    changed = type(table)(2, "", table.rows, table.columns, {}, cells)
    first = claims.verdicts(changed, lambda system, test: None)[0]
    assert "NOT confirmed by the printed numbers (12 of 18)" in first


def test_measured_cells_are_held_against_the_same_claims(tmp_path):
    table = made(
        tmp_path,
        *((system(), name, mean) for name, mean in (("SciFact", 0.7), ("NFCorpus", 0.3), ("FiQA-2018", 0.2))),
        *((bm25(), name, mean) for name, mean in (("SciFact", 0.6), ("NFCorpus", 0.3))),
        (system(64, 64, model=SMALL), "FiQA-2018", 0.9),
    )
    assert table.notes[5].endswith("(15 of 18); measured: 1 of 2")  # a tie is no win; FiQA has no BM25


def test_best_and_second_are_of_one_test_and_of_one_side(tmp_path):
    table = made(tmp_path, (bm25(), "SciFact", 0.6), (system(), "SciFact", 0.7), (bm25(), "NQ", 0.3))
    assert table.measured_ranks("SciFact") == {"DupMAE": 1, "BM25": 2}
    assert table.published_ranks("SciFact") == {"DupMAE": 1, "Contriever": 2}
    assert table.measured_ranks("NQ") == {}  # the best of one is nothing
    tie = made(tmp_path / "tie", (bm25(), "NQ", 0.3), (system(), "NQ", 0.3))
    assert tie.measured_ranks("NQ") == {}
    assert table.published_ranks("TREC-NEWS") == {"Contriever": 1, "RetroMAE": 1, "DupMAE": 2}
    line = next(line for line in table.to_markdown().splitlines() if line.startswith("| SciFact"))
    cells = [word.strip() for word in line.split("|")[2:-1]]
    assert (cells[0], cells[8], cells[4]) == (
        "<ins>0.6000</ins> ! (0.665)", "**0.7000** ! (**0.699**)", "(<ins>0.677</ins>)",
    )  # fmt: skip


def test_another_collection_in_its_place_ranks_but_does_not_compare(tmp_path):
    there = data(COLLECTIONS["SciFact"]).model_copy(update={"dataset_id": "/x/squad", "name": "squad/dev"})
    found = [
        write(tmp_path / f"r{n}", system(64, 64, tasks, model=SMALL), there, {"MRR@10": around(mean)})
        for n, (tasks, mean) in enumerate([("CLS decoding", 0.5), ("CLS and OT decoding", 0.6)])
    ]
    table = builder.build(3, found, instead={"MS MARCO Dev": "squad/dev"})
    cell = table.cells["CLS decoding only", "MS MARCO Dev MRR@10"]
    assert (cell.status, cell.reasons[0]) == ("not comparable", "other corpus (squad/dev)")
    assert table.measured_ranks("MS MARCO Dev MRR@10") == {
        "CLS decoding only": 2, "CLS and OT decoding": 1, "CLS:384, OT:384": 1,
    }  # fmt: skip
    assert "measured: 1 of 1" in table.notes[0]
    assert "- measured on squad/dev in the place of MS MARCO Dev\n" in table.to_markdown()
    assert set(table.to_frame().dataset) == {"", "squad/dev"}
    with pytest.raises(RecordError, match="Table 3 has no DL'19; there is MS MARCO Dev"):
        builder.build(3, found, instead={"DL'19": "x"})


def test_one_run_fills_both_rows_of_table_3_that_it_is(tmp_path):
    where, values = on("MS MARCO Dev", 0.4102, "MRR@10")
    table = builder.build(3, [write(tmp_path / "r", system(), where, values)])
    for row in ("CLS and OT decoding", "CLS:384, OT:384"):
        assert table.cells[row, "MS MARCO Dev MRR@10"].status == "reproduced"


def test_a_composite_is_the_mean_of_its_parts_means(tmp_path):
    """One forum of 30 queries at 0.2, another of 10 at 0.6: 0.4, where the mean over queries is 0.3."""
    values = {f"a:{n}": 0.2 for n in range(30)} | {f"b:{n}": 0.6 for n in range(10)}
    where = data(COLLECTIONS["CQADupStack"])
    record = write(tmp_path / "r", bm25(), where, {"NDCG@10": values}, parts=["a", "b"], mean={"NDCG@10": 0.4})
    cell = builder.build(2, [record]).cells["BM25", "CQADupStack"]
    assert (cell.measured, cell.low, cell.high, cell.queries) == (0.4, pytest.approx(0.4), pytest.approx(0.4), 40)


def test_the_interval_is_scipys():
    values = np.random.default_rng(3).beta(0.4, 0.6, 200).round(2)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    ours = bootstrap.interval(bootstrap.means([values]))
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.004)  # Monte-Carlo error of a 2.5 % quantile
    assert bootstrap.interval(bootstrap.means([values])) == ours
    assert bootstrap.interval(bootstrap.means([values], (1,))) != ours
    with pytest.raises(ValueError, match="without queries"):
        bootstrap.means([[0.5], []])


def test_groups_are_drawn_within_themselves():
    """Var = (0.25/100 + 0)/4 for a fair coin of 100 throws beside a group that never varies."""
    sampled = bootstrap.means([[0.0, 1.0] * 50, [0.5] * 7])
    assert sampled.mean() == pytest.approx(0.5, abs=0.002)
    assert sampled.std() == pytest.approx(0.025, rel=0.05)


@pytest.fixture
def full(tmp_path):
    return made(tmp_path, (bm25(), "SciFact", 0.665), (system(64, 64, model=SMALL), "SciFact", 0.4))


def test_csv_holds_every_cell_and_the_frame_is_the_same(full):
    lines = list(csv.DictReader(io.StringIO(full.to_csv())))
    assert len(lines) == 19 * 9
    one = next(line for line in lines if (line["system"], line["test"]) == ("BM25", "SciFact"))
    assert (one["measured"], one["published"], one["status"]) == ("0.665000", "0.665", "reproduced")
    for line in lines:  # the two sides never share a column, and a blank is a blank
        assert line["published"] == published(2).printed(line["test"], line["system"])
        assert bool(line["measured"]) == bool(line["low"]) == (line["status"] not in ("not run", "data unavailable"))
    small = next(line for line in lines if (line["system"], line["test"]) == ("DupMAE", "SciFact"))
    assert small["reasons"].startswith("miniature model (4 layers")
    frame = full.to_frame()
    assert frame.shape == (19 * 9, len(lines[0]))
    assert frame.loc[frame.measured.notna(), "queries"].tolist() == [40, 40, 40]
    pd.testing.assert_frame_equal(frame, full.to_frame())


def test_a_published_score_is_bracketed_everywhere_and_a_measured_one_nowhere(full):
    for text, mark in ((full.to_markdown(), r"[*<>/ins]*"), (full.to_latex(), r"(?:\\(?:textbf|underline)\{)?")):
        grid = text.split("AVERAGE")[0]
        assert len(re.findall(rf"\({mark}0\.\d{{3}}\b", grid)) == 18 * 9
        assert sorted(re.findall(r"(?<![(*>{\d.])0\.\d{3,4}\b(?!\))", grid)) == ["0.4000", "0.6650"]


def test_markdown_has_one_width_and_latex_balances(full):
    blocks = [block.splitlines() for block in full.to_markdown().split("\n\n") if block.startswith("|")]
    assert [len({len(line) for line in block}) for block in blocks] == [1, 1]
    text = full.to_latex()
    assert text.count("{") == text.count("}")
    assert len(re.findall(r"\\begin\{(\w+\*?)\}", text)) == len(re.findall(r"\\end\{(\w+\*?)\}", text)) == 3
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert {line.count(" & ") for line in body} == {9}
    assert all(line.endswith(r" \\") for line in body)
    assert not re.search(r"(?<!\\)[%_#]", text.split("\n", 1)[1])
    assert "95 \\% interval" in text


def test_the_same_reasons_are_told_once_below(tmp_path):
    small = system(64, 64, model=SMALL)
    table = made(tmp_path, (small, "SciFact", 0.4), (small, "NFCorpus", 0.3), (bm25(), "SciFact", 0.665))
    text = table.to_markdown()
    assert text.count("not comparable, see a") == 2
    assert text.count("\n- a: miniature model (4 layers") == 1
    assert text.count("\n- b: 1 of 18 collections") == 1
    assert table.to_latex().count("miniature model") == 1


def test_latex_prints_what_was_meant():
    from harness.reports.tables.latex import escaped

    assert escaped(r"a_b & 5% $x^2 {\y} #~") == (
        r"a\_b \& 5\% \$x\textasciicircum{}2 \{\textbackslash{}y\} \#\textasciitilde{}"
    )


@pytest.mark.parametrize("number", [1, 3])
def test_the_other_tables_have_every_cell_in_every_form(number):
    table, printed = builder.build(number, []), published(number)
    filled = sum(bool(printed.printed(r, c)) for r in printed.rows for c in printed.columns)
    assert len(table.to_frame()) == len(printed.rows) * len(printed.columns)
    for text in (table.to_markdown(), table.to_latex()):
        assert len(re.findall(r"0\.\d{3,4}", text)) == filled
        assert all(row in text for row in printed.rows)
