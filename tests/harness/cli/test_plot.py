"""`harness plot` from records on disk."""

import json

import pytest

from harness.reports.plots import differences as difference_plot
from harness.reports.plots import scores as score_plots
from tests.support import records as made
from tests.support.records import COLLECTIONS

BM25 = made.bm25().model_copy(update={"retriever": "bm25", "variant": "flat", "system": "BM25"})
KINDS = ("bars", "cost", "recall")


@pytest.fixture
def records(tmp_path):
    """Two systems on one collection, one of them on a second one as well."""
    where = made.data(COLLECTIONS["SciFact"])
    values = {"NDCG@10": made.around(0.6), "R@10": made.around(0.7), "R@100": made.around(0.8, 0.1)}
    results = tmp_path / "results"
    return {
        "bm25": made.write(results / "s" / "bm25" / "1", BM25, where, values),
        "dup": made.write(results / "s" / "dup" / "1", made.system(), where, values),
        "other": made.write(
            results / "n" / "dup" / "1", made.system(), where.model_copy(update={"name": "other"}), values
        ),
    }


@pytest.fixture
def seen(monkeypatch):
    """What is handed to the pictures."""
    found = {}
    for module, name in ((score_plots, "bars"), (score_plots, "recall"), (difference_plot, "differences")):
        whole = getattr(module, name)

        def spy(*args, _whole=whole, _name=name):
            found[_name] = args
            return _whole(*args)

        monkeypatch.setattr(module, name, spy)
    return found


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_every_picture_of_records(records, cli, tmp_path, suffix):
    with_cost(records["bm25"].folder)
    for kind in KINDS:
        answer = cli("plot", kind, "-O", f"{kind}.{suffix}")
        assert (answer.code, answer.out) == (0, f"wrote {kind}.{suffix}\n"), answer.err
        assert (tmp_path / f"{kind}.{suffix}").stat().st_size > 3_000
    answer = cli("plot", "differences", records["bm25"].folder, records["dup"].folder, "-O", f"d.{suffix}")
    assert answer.code == 0, answer.err


def with_cost(folder):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["cost"]["queries_per_second"] = 12.5
    path.write_text(json.dumps(manifest))


def test_points_hold_what_the_records_do(records, cli, seen):
    assert cli("plot", "bars", "-d", "n", "-O", "a.png").code == 0
    points = {point.system: point for point in seen["bars"][0]}
    assert set(points) == {"BM25 (flat)", "DupMAE"}
    assert (points["BM25 (flat)"].value, points["BM25 (flat)"].published) == (pytest.approx(0.6), 0.665)
    assert points["BM25 (flat)"].low < 0.6 < points["BM25 (flat)"].high
    assert cli("plot", "recall", records["dup"].folder, "--label", "DupMAE=mine", "-O", "a.png").code == 0
    [line] = seen["recall"][0]
    assert (line.system, line.at) == ("mine", {10: pytest.approx(0.7), 100: pytest.approx(0.8)})


def test_of_two_records_for_one_bar_the_newest_is_drawn_and_the_other_named(records, cli, seen, tmp_path):
    where = made.data(COLLECTIONS["SciFact"])
    newer = made.write(tmp_path / "results/s/bm25/0", BM25, where, {"NDCG@10": made.around(0.3)}, "2027-01-01")
    answer = cli("plot", "bars", "-d", "n", "-O", "a.png")
    assert answer.code == 0
    assert f"{newer.folder.relative_to(tmp_path)} is newer" in answer.err
    assert f"{records['bm25'].folder.relative_to(tmp_path)} is left out" in answer.err
    assert [p.value for p in seen["bars"][0] if p.system == "BM25 (flat)"] == [pytest.approx(0.3)]
    both = cli("plot", "bars", "-d", "n", "--label", "results/s/bm25/0/=b 0.9", "-O", "a.png")
    assert (both.code, both.err) == (0, "")
    assert [p.value for p in seen["bars"][0] if p.system == "b 0.9"] == [pytest.approx(0.3)]
    answer = cli("plot", "bars", newer.folder, records["bm25"].folder, "-O", "b.png")
    assert answer.code == 2
    assert "tell them apart by --label FOLDER=TEXT" in answer.err


def test_an_unreadable_record_is_named_and_the_rest_is_drawn(records, cli, tmp_path):
    (records["other"].folder / "metrics.json").write_text("{}")
    answer = cli("plot", "bars", "-O", "a.png")
    assert answer.code == 0
    assert "metrics.json: not what the manifest says" in answer.err


def test_recall_of_a_real_run_at_any_cutoff(beir, cli, seen, tmp_path):
    """BM25 has q1's first relevant document (d1, of two) on rank 1 and q2's only one on rank 1: R@1 = (1/2 + 1) / 2."""
    assert cli("run", "-r", "bm25", "-d", beir()).code == 0
    answer = cli("plot", "recall", "--cutoffs", "2,1", "-O", "a.svg")
    assert answer.code == 0, answer.err
    assert seen["recall"][0][0].at[1] == 0.75
    assert seen["recall"][0][0].at[2] >= 0.75
    beir("tiny", qrels={"test": [("q1", "d1", 1)]})
    answer = cli("plot", "recall", "--cutoffs", "1", "-O", "b.svg")
    assert answer.code == 2
    assert "no longer those" in answer.err
    assert not (tmp_path / "b.svg").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("bars", "-O", "a.gif"), "ends in '.gif'; it is told by that: name a file .png or .svg"),
        (("bars", "-O", "no/a.png"), "there is no folder"),
        (("bars", "--results", "nothing", "-O", "a.png"), "there is no folder nothing"),
        (("bars", "--results", "empty", "-O", "a.png"), "no finished run in empty"),
        (("bars", "-d", "x", "-O", "a.png"), "no record is of it; there is n, other"),
        (("bars", "-r", "x", "-O", "a.png"), "no record is of it; there is anything, bm25, bm25 (flat)"),
        (("bars", "-m", "NDCG@7", "-O", "a.png"), "has no NDCG@7; there is NDCG@10, R@10, R@100"),
        (("bars", "--label", "x", "-O", "a.png"), "'x' is not NAME=TEXT"),
        (
            ("bars", "--label", "x=y", "-O", "a.png"),
            "has this name; there is DupMAE (or anything), BM25 (flat) (or bm25 (flat))",
        ),
        (("bars", "--label", "BM25= ", "-O", "a.png"), "'BM25= ' is not NAME=TEXT"),
        (
            ("bars", "--label", "BM25=a", "--label", "BM25=b", "-O", "a.png"),
            "--label BM25 is given twice, as a and as b",
        ),
        (("bars", "nowhere", "-O", "a.png"), "no record 'nowhere'. Give a record's folder, its hash, or dataset/retr"),
        (("bars", "empty", "-O", "a.png"), "empty is no record: it holds no manifest.json"),
        (
            ("bars", "results", "-O", "a.png"),
            "results is no record but holds records: --results results draws them all",
        ),
        (("cost", "s/bm25", "results/s/bm25/1", "-O", "a.png"), "results/s/bm25/1 is given twice"),
        (("differences", "s/bm25", "s/bm25", "-O", "a.png"), "results/s/bm25/1 is given twice. Name two records."),
        (("cost", "-O", "a.png"), "no record says how many bytes"),
        (("recall", "--cutoffs", "0", "-O", "a.png"), "want ranks from 1 up"),
        (("recall", "--cutoffs", "9999", "-O", "a.png"), "has 1,000 results"),
        (("differences", "s/bm25", "absent", "-O", "a.png"), "no record 'absent'. Give a record's folder, its hash"),
        (("differences", "s/bm25", "empty", "-O", "a.png"), "empty is no record: it holds no manifest.json"),
        (("ablation", "absent", "-O", "a.png"), "there is no absent. Give the table3.csv that `harness ablate` writes"),
        (("ablation", "empty", "-O", "a.png"), "there is no empty/table3.csv. Give the table3.csv"),
        (("curves", "absent", "-O", "a.png"), "there is no absent. Give a stage of `harness train`"),
        (("curves", "empty", "-O", "a.png"), "there is no empty/metrics.jsonl. Give a stage of `harness train`"),
    ],
)
def test_bad_input(records, cli, tmp_path, words, message):
    (tmp_path / "empty").mkdir()
    answer = cli("plot", *words)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert "Traceback" not in answer.err
    assert not list(tmp_path.glob("*.png")) + list(tmp_path.glob(".*.tmp"))


def test_records_of_other_queries_have_no_differences(records, cli, tmp_path):
    where = made.data(COLLECTIONS["SciFact"]).model_copy(update={"queries_hash": "else"})
    other = made.write(tmp_path / "x" / "y" / "z", made.bm25(), where, {"NDCG@10": made.around(0.3)})
    answer = cli("plot", "differences", records["bm25"].folder, other.folder, "-O", "a.png")
    assert answer.code == 2
    assert "They differ in queries" in answer.err


def test_a_difference_takes_the_names_that_compare_takes(records, cli, seen):
    answer = cli("plot", "differences", "s/bm25", "s/dup", "--label", "bm25 (flat)=ours", "-O", "a.svg")
    assert answer.code == 0, answer.err
    assert seen["differences"][2] == ("ours", "DupMAE")


def test_a_system_is_labelled_by_the_name_that_run_prints_and_by_the_one_that_is_drawn(records, cli, seen):
    for name in ("bm25 (flat)", "BM25 (flat)", "results/s/bm25/1"):
        answer = cli("plot", "bars", "-d", "n", "--label", f"{name}=mine", "-O", "a.svg")
        assert answer.code == 0, answer.err
        assert {point.system for point in seen["bars"][0]} == {"mine", "DupMAE"}
    assert cli("plot", "bars", "-r", "bm25 (flat)", "-O", "a.svg").code == 0
    assert {point.system for point in seen["bars"][0]} == {"BM25 (flat)"}


@pytest.mark.parametrize(
    "labels",
    [
        ("BM25 (flat)=DupMAE",),  # a system's name, as it is drawn
        ("BM25 (flat)=anything",),  # and as it is printed
        ("BM25 (flat)=x", "DupMAE=x"),
        ("results/s/bm25/1=DupMAE",),
        ("results/s/bm25/1=x", "results/n/dup/1=x"),
    ],
)
def test_two_systems_are_never_drawn_under_one_name(records, cli, tmp_path, labels):
    answer = cli("plot", "bars", *(word for label in labels for word in ("--label", label)), "-O", "a.png")
    assert answer.code == 2
    assert "two systems under one name cannot be told apart. Choose another TEXT" in answer.err
    assert not (tmp_path / "a.png").exists()


def test_two_records_of_one_system_are_not_called_the_same_on_one_collection(records, cli, tmp_path):
    where = made.data(COLLECTIONS["SciFact"])
    made.write(tmp_path / "results/s/bm25/2", BM25, where, {"NDCG@10": made.around(0.3)})
    both = ("--label", "results/s/bm25/1=x", "--label", "results/s/bm25/2=x")
    answer = cli("plot", "bars", *both, "-O", "a.png")
    assert answer.code == 2
    assert "--label results/s/bm25/1 and results/s/bm25/2 are both x on n" in answer.err


def test_names_are_drawn_as_typed(records, cli, tmp_path):
    """`$x_1$` would be set as a formula, and `\\foo{$` after a dollar sign is no formula at all."""
    for kind in KINDS:
        for suffix in ("png", "svg"):
            with_cost(records["bm25"].folder)
            answer = cli("plot", kind, "--label", r"BM25 (flat)=cost $\foo{$ 5", "-O", f"{kind}.{suffix}")
            assert answer.code == 0, answer.err
