"""Values chosen on one split for another: by hand on small collections, and what may not be chosen by."""

import json
from pathlib import Path

import numpy as np
import pytest

import harness
from harness.reports.records import records
from harness.retrievers.encoding.encode import TextEncoder
from harness.retrievers.errors import InputError
from harness.retrievers.run_files import fusion
from harness.runs import tuning
from harness.runs.config import build
from tests.support import tiny
from tests.support.datasets import write_beir

DOCS = [(f"d{n}", "", f"word{n} " + "filler " * n) for n in range(12)] + [("long", "", "word3 word4 " * 40)]
QUERIES = [(f"q{n}", f"word{n} filler") for n in range(10)]
DEV = [(f"q{n}", f"d{n}", 1) for n in range(5)]
TEST = [(f"q{n}", f"d{n}", 1) for n in range(5, 10)]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_beir(tmp_path / "col", DOCS, QUERIES, {"dev": DEV, "test": TEST})
    return tmp_path


def test_the_best_of_the_grid_is_run_and_its_record_says_so(here, cli):
    answer = cli(
        "tune", "-r", "bm25", "-d", "col/dev", "-e", "col/test", "-g", "b=0,0.5,1", "-g", "k1=0.5,1.5", "--json"
    )
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert (found["metric"], found["dataset"]) == ("NDCG@10", "col/dev")
    assert len(found["grid"]) == 6
    # each point by itself, by `harness run`
    for point in found["grid"]:
        alone = harness.run(
            "bm25", "col/dev", b=point["b"], k1=point["k1"], top_k=10, metrics=["NDCG@10"], results="each"
        )
        assert alone.metrics["NDCG@10"] == pytest.approx(point["value"])
    best = max(found["grid"], key=lambda point: point["value"])
    assert found["chosen"] == {name: best[name] for name in ("b", "k1")}
    [facts] = found["records"]
    record = records.read(Path(facts["record"]))
    assert record.manifest.tuned == {name: found[name] for name in ("metric", "dataset", "chosen", "grid")}
    assert {name: record.manifest.system.options[name] for name in ("b", "k1")} == found["chosen"]
    assert [folder.parent.name for folder in Path("results").glob("[!.]*/*")] == ["col-test"]
    # a run of the same options finds it, grid and all
    again = harness.run("bm25", "col", **found["chosen"])
    assert again.folder == record.folder.absolute() or again.folder == record.folder
    assert again.manifest.tuned["grid"] == found["grid"]
    assert harness.run("bm25", "col").manifest.tuned is None
    assert "tuned" not in json.loads((harness.run("bm25", "col").folder / "manifest.json").read_text())


def test_a_grid_without_anything_to_report(here, cli):
    answer = cli("tune", "-r", "bm25", "-d", "col/dev", "-g", "b=0,1", "--by", "RR@10")
    assert answer.code == 0, answer.err
    header, *rows = answer.out.splitlines()
    assert header.split() == ["b", "MRR@10", "on", "col/dev"]
    assert len(rows) == 2
    assert rows == sorted(rows, key=lambda row: -float(row.split()[-1]))
    assert "chosen: b " in answer.err
    assert not Path("results").exists() or not list(Path("results").glob("[!.]*/*"))


def test_the_weights_of_a_fusion(here, cli):
    words = ("tune", "-r", "bm25", "-r", "coordination", "-d", "col/dev", "-e", "col", "--step", 0.25, "--json")
    answer = cli(*words)
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert [point["bm25"] for point in found["grid"]] == [1, 0.75, 0.5, 0.25, 0]
    runs = [harness.run(name, "col/dev", results="each") for name in ("bm25", "coordination")]
    for point in found["grid"]:
        fused = fusion.fuse([one.run for one in runs], "weighted", weights=[point["bm25"], point["coordination"]])
        alone = harness.score(fused, "col/dev", results="each", metrics=["NDCG@10"])
        assert alone.metrics["NDCG@10"] == pytest.approx(point["value"])
    [facts] = found["records"]
    manifest = records.read(Path(facts["record"])).manifest
    assert manifest.system.options["weights"] == list(found["chosen"].values())
    assert manifest.tuned["chosen"] == found["chosen"]
    assert {folder.parts[1:3] for folder in Path("results").glob("*/*/*")} == {
        ("col-test", "bm25"), ("col-test", "coordination"), ("col-test", "fusion"),
    }  # fmt: skip


def test_from_python(here):
    """What the command line chooses and records."""
    found = harness.tune("bm25", "col/dev", here / "col" / "test", grid={"b": [0.0, 1.0]}, k1=1.5)
    alone = [harness.run("bm25", "col/dev", b=b, k1=1.5, results="each").metrics["NDCG@10"] for b in (0.0, 1.0)]
    assert found.best == pytest.approx(max(alone))
    assert found.chosen == {"b": [0.0, 1.0][int(np.argmax(alone))]}
    frame = found.to_frame()
    assert list(frame.columns) == ["b", "NDCG@10"]
    assert frame["NDCG@10"].tolist() == pytest.approx(sorted(alone, reverse=True))
    [result] = found.results
    assert result.manifest.tuned == found.as_record()
    assert result.manifest.system.options["k1"] == 1.5
    weighed = harness.tune(["bm25", "coordination"], "col/dev", step=0.5)
    assert [values["bm25"] for values, _ in weighed.grid] == [1, 0.5, 0]
    assert weighed.results == []
    with pytest.raises(InputError, match="one is named"):
        harness.tune("bm25", "col/dev", norm="rank")


def test_weightings():
    assert tuning.weightings(2, 0.5) == [(1, 0), (0.5, 0.5), (0, 1)]
    three = tuning.weightings(3, 0.1)
    assert len(three) == len(set(three)) == 66  # 12 choose 2
    np.testing.assert_allclose(np.sum(three, axis=1), 1)
    assert (0.1, 0.2, 0.7) in three
    wrong = {(1, 0.1): "of two retrievers or more", (2, 0.3): "0.3 does not divide 1", (2, 0): "does not divide"}
    for (runs, step), message in (wrong | {(2, 1): "does not divide", (5, 0.05): "want at most"}).items():
        with pytest.raises(InputError, match=message):
            tuning.weightings(runs, step)


def test_nothing_is_chosen_by_what_is_reported(here):
    write_beir(here / "other", DOCS, QUERIES, {"test": [*TEST, ("q4", "d4", 1)]})
    config = build({"retrievers": ["bm25"], "datasets": ["col/test"]}, "test")
    tuning.check_apart("col/dev", ["col/test"], config)
    for chooses, reported, count in (("col/dev", "col/dev", 5), ("col", "col/test", 5), ("col/dev", "other", 1)):
        with pytest.raises(InputError, match=f"{count} of the . judged queries of .* are of {chooses} too"):
            tuning.check_apart(chooses, [reported], config)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give --retriever NAME and --dataset"),
        (("-r", "bm25"), "give --retriever NAME and --dataset"),
        (("-r", "coordination", "-d", "col/dev"), "no grid named, and none is usual for coordination"),
        (("-r", "bm25", "-d", "col/dev", "-g", "b"), "--grid 'b' is not NAME=VALUE"),
        (("-r", "bm25", "-d", "col/dev", "-g", "b=1,,2"), "is not NAME=VALUE,VALUE"),
        (("-r", "bm25", "-d", "col/dev", "-g", "b=1"), "the grid has 1 points; want 2 to 1,000"),
        (("-r", "bm25", "-d", "col/dev", "-g", "b=0,1", "-g", "b=0,1"), "b is given twice"),
        (("-r", "bm25", "-d", "col/dev", "-g", "b=0,1", "-o", "b=0"), "b is given twice"),
        (("-r", "bm25", "-d", "col/dev", "-g", "b=0.5,0.50"), "the grid has b=0.5 twice"),
        (("-r", "nosuch", "-d", "col/dev"), "unknown retriever 'nosuch'"),
        (("-r", "bm25", "-r", "bm25", "-d", "col/dev"), "bm25 is given twice. Name each retriever once"),
        (("-r", "bm25", "-r", "coordination", "-d", "col/dev", "--step", "0"), "0 does not divide 1"),
        (("-r", "bm25", "-d", "col/dev", "-g", "nope=0,1"), "no retriever of this run has the option 'nope'"),
        (("-r", "bm25", "-d", "col/dev", "-g", "b=0,7"), "less than or equal to 1"),
        (("-r", "bm25", "-d", "col/dev", "-e", "col/dev"), "5 of the 5 judged queries of col/dev are of col/dev too"),
        (("-r", "bm25", "-d", "col/dev", "--norm", "rank"), "step and norm are of the weights of several retrievers"),
        (
            ("-r", "bm25", "-r", "coordination", "-d", "col/dev", "-g", "b=0,1"),
            "a grid is of one retriever's",
        ),
        (("-r", "bm25", "-r", "coordination", "-d", "col/dev", "--norm", "x"), "unknown norm 'x'"),
        (("-r", "bm25", "-r", "coordination", "-d", "col/dev", "--step", "0.3"), "0.3 does not divide 1"),
        (("-r", "bm25", "-d", "col/dev", "--by", "nope"), "unknown metric 'nope'"),
    ],
)
def test_bad_input(here, bad, words, message):
    assert message in bad("tune", *words)


def test_a_hybrids_scale_is_tuned_without_encoding_anew(here, cli, monkeypatch):
    """The run of a scale is that of a checkpoint that says the same; the passages are encoded once for all of them."""
    for name, scale in (("a", 1.0), ("b", 30.0)):
        tiny.save_hybrid(here / name, lexical_scale=scale)
    asked = harness.run("dupmae", "col", checkpoint="a", lexical_scale=30.0)
    said = harness.run("dupmae", "col", checkpoint="b")
    assert asked.to_dict() == said.to_dict() != harness.run("dupmae", "col", checkpoint="a").to_dict()
    calls = []
    encode = TextEncoder.documents
    monkeypatch.setattr(TextEncoder, "documents", lambda *words: calls.append(1) or encode(*words))
    words = ("tune", "-r", "dupmae", "-o", f"checkpoint={here / 'a'}", "-d", "col/dev", "-e", "col/test")
    answer = cli(*words, "-g", "lexical_scale=0.01,1,30", "--json")
    assert answer.code == 0, answer.err
    assert len(json.loads(answer.out)["grid"]) == 3
    assert not calls  # the store is that of before
