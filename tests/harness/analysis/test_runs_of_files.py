"""Run files compared as records are: by a collection, by judgments alone, by a record's; and CI's exit status."""

import json
import re
from pathlib import Path

import pytest

import harness
from harness.retrievers.errors import InputError
from harness.retrievers.run_files import trec
from harness.retrievers.types import Run
from tests.support.datasets import write_beir

DOCS = [(f"d{n}", "", f"word{n} text") for n in range(30)]
QUERIES = [(f"q{n}", f"word{n}") for n in range(12)]
QRELS = [(f"q{n}", f"d{n}", 1) for n in range(12)]


def run_of(rank):
    """Each query's one relevant document at `rank`(query)."""
    found = {}
    for n in range(12):
        others = [f"d{m}" for m in range(30) if m != n]
        others.insert(rank(n) - 1, f"d{n}")
        found[f"q{n}"] = {doc: float(-place) for place, doc in enumerate(others)}
    return Run.of(found)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_beir(tmp_path / "col", DOCS, QUERIES, {"test": QRELS})
    Path("judged").write_text("".join(f"{q} 0 {d} {g}\n" for q, d, g in QRELS))
    trec.write(run_of(lambda n: 1 + n % 2), Path("good.trec"), "a")  # MRR@10 0.75
    trec.write(run_of(lambda n: 4), Path("bad.trec"), "a")  # 0.25
    return tmp_path


@pytest.mark.parametrize("by", [("-d", "col"), ("--qrels", "judged")])
def test_two_files_are_compared_and_leave_nothing(here, cli, by):
    answer = cli("compare", "good.trec", "bad.trec", "-m", "RR@10", *by, "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    [system] = [one for one in found["systems"] if one["name"] != found["baseline"]]
    assert (found["baseline"], system["name"]) == ("a (from good.trec)", "a (from bad.trec)")
    assert system["difference"] == pytest.approx(-0.5)
    assert system["record"] == str(here / "bad.trec")
    assert not Path("results").exists()
    how = "queries and judgments" if by[0] == "-d" else "judgments"
    assert "the corpus of a (from good.trec), a (from bad.trec) is unknown; " in answer.err
    assert f"only the {how} show that the runs belong to one collection\n" in answer.err


def test_a_file_beside_a_record_is_of_its_collection(here, cli):
    first = harness.run("coordination", "col", metrics=["MRR@10"])
    answer = cli("compare", first.folder, "bad.trec", "-m", "MRR@10")
    assert answer.code == 0, answer.err
    assert re.search(r"a \(from bad\.trec\).*-0\.75", answer.out)
    found = harness.compare(first, "bad.trec", run_of(lambda n: 2), metric="MRR@10")
    assert [round(system.difference, 4) for system in found.significance.systems] == [-0.75, -0.5]
    by_file = harness.compare("good.trec", "bad.trec", metric="AP", qrels="judged")
    assert by_file.significance.systems[0].difference == pytest.approx(-0.5)


def test_ci_is_told_by_the_exit_status(here, cli):
    words = ("compare", "good.trec", "bad.trec", "-d", "col", "-m", "MRR@10")
    assert cli(*words).code == 0
    worse = cli(*words, "--fail-if-worse")
    assert worse.code == 1
    assert "below a (from good.trec) in MRR@10: a (from bad.trec) by 0.5000 (max-T p 0.00049)" in worse.err
    assert "|" in worse.out  # the table is there all the same
    # 2 of 4,096 signs are as far from 0: p is 0.00049
    assert cli(*words, "--fail-if-worse", "--alpha", 0.0004).code == 0
    better = ("compare", "bad.trec", "good.trec", "-d", "col", "-m", "MRR@10", "--fail-if-worse")
    assert cli(*better).code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("good.trec", "bad.trec"), "do not say which collection they are of"),
        (("good.trec", "bad.trec", "-d", "col", "--qrels", "judged"), "are both given"),
        (("good.trec", "gone.trec", "-d", "col"), "no record 'gone.trec'"),
        (("good.trec",), "needs a baseline and another run"),
        (("good.trec", "judged", "-d", "col"), "line 1: want six columns"),
        (("good.trec", "bad.trec", "--qrels", "gone"), "it is not there"),
    ],
)
def test_what_cannot_be_compared(here, bad, words, message):
    assert message in bad("compare", *words)


def test_records_by_their_names_in_python(here):
    for name in ("coordination", "bm25"):
        harness.run(name, "col", metrics=["NDCG@10"])
    assert harness.compare("col-test/coordination", "col/test/bm25").names == ("coordination", "bm25 (flat)")
    with pytest.raises(InputError, match="the metric is"):
        harness.compare("col-test/coordination", "col/test/bm25", metric=["AP"])


def test_a_collection_is_not_named_for_records(here, bad):
    a, b = (harness.run(name, "col", metrics=["NDCG@10"]) for name in ("coordination", "bm25"))
    answer = harness.compare(a, b)
    assert answer.collection == "col/test"
    with pytest.raises(InputError, match="every run here is a record"):
        harness.compare(a, b, dataset="col")


@pytest.mark.parametrize(
    "words",
    [
        ("bars", "good.trec", "bad.trec", "-d", "col", "-m", "RR@10"),
        ("bars", "good.trec", "bad.trec", "--qrels", "judged", "-m", "MRR@10"),
        ("recall", "good.trec", "bad.trec", "--qrels", "judged"),
        ("recall", "good.trec", "bad.trec", "-d", "col", "--cutoffs", "1,3,10"),
        ("differences", "good.trec", "bad.trec", "-d", "col", "-m", "MRR@10"),
    ],
)
def test_pictures_of_run_files(here, cli, words):
    answer = cli("plot", *words, "-O", "a.svg")
    assert answer.code == 0, answer.err
    text = Path("a.svg").read_text()
    assert text.startswith("<?xml")
    assert not Path("results").exists()


def test_a_picture_of_a_record_and_a_file(here, cli):
    first = harness.run("coordination", "col", metrics=["MRR@10"])
    assert cli("plot", "differences", first.folder, "bad.trec", "-m", "MRR@10", "-O", "a.png").code == 0
    assert cli("plot", "bars", first.folder, "bad.trec", "-m", "MRR@10", "-O", "b.png").code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("bars", "good.trec", "bad.trec", "-O", "a.png"), "do not say which collection they are of"),
        (("bars", "good.trec", "-d", "col", "-d", "mini", "-O", "a.png"), "--dataset names 2. Name one"),
        (("bars", "--qrels", "judged", "-O", "a.png"), "--qrels is for run files"),
        (("differences", "good.trec", "good.trec", "-d", "col", "-O", "a.png"), "are the same run. Give each once"),
    ],
)
def test_what_cannot_be_drawn(here, bad, words, message):
    assert message in bad("plot", *words)


def test_files_are_fused_by_judgments_alone(here, cli):
    answer = cli("fuse", "good.trec", "bad.trec", "--qrels", "judged", "-m", "MRR@10", "--json")
    assert answer.code == 0, answer.err
    [facts] = json.loads(answer.out)
    by_collection = harness.fuse("good.trec", "bad.trec", dataset="col", metrics=["MRR@10"])
    assert facts["metrics"] == by_collection.metrics
    again = harness.fuse("good.trec", "bad.trec", qrels="judged", metrics=["MRR@10"])
    assert str(again.folder) == facts["record"]
    scored = [harness.score(name, qrels="judged", metrics=["MRR@10"]) for name in ("good.trec", "bad.trec")]
    assert harness.fuse(*scored, metrics=["MRR@10"]).metrics == by_collection.metrics
    assert "do not say which collection they are of" in cli("fuse", "good.trec", "bad.trec").err
    assert "are both given" in cli("fuse", "good.trec", "bad.trec", "-d", "col", "--qrels", "judged").err
