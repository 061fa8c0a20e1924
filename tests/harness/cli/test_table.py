"""`harness table`: what goes where, and what is said of bad input."""

import csv
import io
import json

import pytest

from tests.support.records import bm25, on, write


@pytest.fixture
def results(tmp_path):
    write(tmp_path / "results" / "beir-scifact" / "bm25" / "0", bm25(), *on("SciFact", 0.665))
    return tmp_path / "results"


def test_standard_output_is_the_table(cli, results):
    answer = cli("table", 2)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("**Table 2")
    assert "0.6650 = (0.665)" in answer.out
    assert "Contriever is 0.448, but its own 18 cells average 0.4436" in answer.out
    rows = list(csv.DictReader(io.StringIO(cli("table", 2, "--format", "csv").out)))
    assert [row["status"] for row in rows].count("reproduced") == 1
    assert cli("table", 2, "-f", "latex").out.startswith("% needs")


def test_a_file_takes_it_whole_or_not_at_all(cli, results, bad, tmp_path):
    answer = cli("table", 3, "--output", "t.md")
    assert (answer.code, answer.out) == (0, "")
    assert (tmp_path / "t.md").read_text().startswith("**Table 3")
    assert "wrote t.md" in answer.err
    assert not list(tmp_path.glob(".*.new"))
    assert "there is no folder" in bad("table", 3, "--output", "no/t.md", results=tmp_path / "none")


def test_no_records_is_said_and_the_table_built(cli, tmp_path):
    answer = cli("table", 1)
    assert answer.code == 0
    assert answer.err == (
        "warning: no record in results: every cell is what the paper printed. `harness run` makes records.\n"
    )
    assert "0 reproduced, 0 gap, 0 not comparable, 0 data unavailable, 80 not run" in answer.out


def test_a_newer_and_a_damaged_record_are_named_and_the_rest_built(cli, results):
    for name, change in (("1", {"schema_version": 99}), ("2", {"data": None})):
        other = write(results / "beir-scifact" / "bm25" / name, bm25(), *on("SciFact", 0.1))
        path = other.folder / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    answer = cli("table", 2)
    assert answer.code == 0
    assert "0.6650 = (0.665)" in answer.out
    assert "1: a record of schema 99; this harness reads up to" in answer.err
    assert "2: not a readable record" in answer.err
    assert answer.err.count("warning: ") == 2


def test_two_records_of_one_cell_are_told(cli, results):
    write(results / "beir-scifact" / "bm25" / "1", bm25(), *on("SciFact", 0.6), created="2026-03-01T00:00:00+00:00")
    answer = cli("table", 2)
    assert "0.6000 ! (0.665)" in answer.out
    assert (
        "note: BM25 on SciFact, NDCG@10: results/beir-scifact/bm25/1 is the newest record; left out: results/"
        in answer.err
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((4,), "the paper has no results in a Table 4; there is 1, 2, 3"),
        ((2, "--format", "html"), "unknown format 'html'"),
        ((2, "--results", "nowhere"), "there is no folder nowhere"),
        ((2, "--tolerance", "2"), "--tolerance 2: want a difference of scores"),
        ((2, "--on", "x"), "which Table 2 does not have"),
        ((3, "--on", "x"), "'x'"),
    ],
)
def test_bad_input(bad, tmp_path, words, message):
    assert message in bad("table", *words, results=tmp_path / "none")
