"""The published tables: what the package holds is what the paper prints."""

import re
from decimal import Decimal

import pytest

from harness.reports.errors import RecordError
from harness.reports.paper.published import AVERAGE, TABLES, published
from tests.support.paths import SHARED

CAPTIONS = {1: "Table 1: Comparisons", 2: "Table 2: Zero-shot", 3: "Table 3: Ablation"}
BLANK = {"-", "_", "\N{EN DASH}", ""}


def printed(number):
    """The rows of words above a table's caption in the paper's Markdown, by splitting at tabs alone."""
    path = SHARED / "paper" / "dupmae.md"
    if not path.is_file():
        pytest.skip(f"needs the paper in {path} (HARNESS_TEST_DATA names another folder than {SHARED})")
    lines = path.read_text(encoding="utf-8").split("\n")
    end = next(n for n, line in enumerate(lines) if line.startswith(CAPTIONS[number])) - 1
    start = end
    while "\t" in lines[start - 1]:
        start -= 1
    return [[word.strip() for word in line.split("\t")] for line in lines[start:end]]


def numbers(words):
    return ["" if word in BLANK else word for word in words]


def test_table_1_is_as_printed():
    groups, header, *body = printed(1)
    ours = published(1)
    assert groups[2:] == ["MS MARCO Dev", "", "", "DL'19", "DL'20"]
    assert header == ["Methods", "FT", "MRR@10", "R@50", "R@1000", "NDCG@10", "NDCG@10"]
    collections = ["MS MARCO Dev"] * 3 + ["DL'19", "DL'20"]
    assert list(ours.columns) == [f"{c} {m}" for c, m in zip(collections, header[2:], strict=True)]
    for row, line in zip(ours.rows, body, strict=True):
        cited = ours.labels["cited"][row]
        assert line[0] == (f"{row} ({cited})" if cited else row)
        assert line[1] == ours.labels["FT"][row]
        assert [ours.printed(row, column) for column in ours.columns] == numbers(line[2:])
    assert sum(ours.printed(r, c) == "" for r in ours.rows for c in ours.columns) == sum(
        word in BLANK for line in body for word in line[2:]
    )


def test_table_2_is_as_printed():
    header, *body = printed(2)
    ours = published(2)
    assert list(ours.columns) == header[1:]
    assert list(ours.rows) == [line[0] for line in body]
    assert [[ours.printed(row, column) for column in ours.columns] for row in ours.rows] == [x[1:] for x in body]


def test_table_3_is_as_printed():
    _, header, *body = printed(3)
    ours = published(3)
    width = len(ours.columns)
    assert list(ours.columns) == [f"MS MARCO Dev {metric}" for metric in header[2 : 2 + width]]
    assert not any(header[2 + width :])
    block = ""
    for row, line in zip(ours.rows, body, strict=True):
        block = line[0] or block
        assert (line[1], block) == (row, ours.labels["block"][row])
        assert [ours.printed(row, column) for column in ours.columns] == line[2 : 2 + width]


@pytest.mark.parametrize(("table", "shape", "filled"), [(1, (16, 5), 57), (2, (19, 9), 171), (3, (8, 5), 40)])
def test_every_cell_is_a_score_or_blank(table, shape, filled):
    """Counted in the paper: of the 80 cells of Table 1, 1 + 3 + 3 + 2 + 1 and 1 + 6 * 2 are blank."""
    ours = published(table)
    assert (len(ours.rows), len(ours.columns)) == shape
    cells = {(r, c): ours.printed(r, c) for r in ours.rows for c in ours.columns}
    assert sum(bool(text) for text in cells.values()) == filled
    assert all(not text or re.fullmatch(r"0\.\d{3,4}", text) for text in cells.values())


def test_a_cell_keeps_its_digits():
    assert str(published(1).cell("ANCE", "MS MARCO Dev MRR@10")) == "0.330"
    assert published(1).cell("ANCE", "MS MARCO Dev R@50") is None
    assert published(2).cell(AVERAGE, "DupMAE") == Decimal("0.475")
    assert published(2).rows[-1] == AVERAGE
    assert (published(2).systems[0], published(3).systems[0]) == ("BM25", "RetroMAE")


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: published(4), "in a Table 4; there is 1, 2, 3"),
        (lambda: published(2).cell("scifact", "BM25"), "no row 'scifact'; there is TREC-COVID, BioASQ"),
        (lambda: published(2).cell("SciFact", "SPLADE"), "no column 'SPLADE'; there is BM25, BERT"),
    ],
)
def test_what_is_not_there_is_named(ask, message):
    with pytest.raises(RecordError, match=message):
        ask()


def test_the_tables_that_there_are():
    assert TABLES == (1, 2, 3)
