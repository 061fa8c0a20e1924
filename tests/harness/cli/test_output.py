"""What commands say, and where: one JSON document, more and less of it, terminals of any width, and logging."""

import json
import logging

import pytest

import harness
from harness.runtime import job as job_module
from harness.runtime import log
from harness.runtime.job import HarnessJob
from tests.support.records import bm25, on, write


@pytest.fixture
def ran(cli, beir):
    """Two records of a tiny collection."""
    folder = beir()
    assert cli("run", "-r", "coordination", "-r", "bm25", "-d", folder, "-m", "NDCG@10").code == 0
    return folder


def document(answer):
    """The one JSON document that a command wrote to standard output."""
    assert answer.code in (0, 1), answer.err
    return json.loads(answer.out)


def test_runs_as_json(cli, ran):
    first, second = document(cli("run", "-r", "coordination", "-r", "bm25", "-d", ran, "--json"))
    assert (first["retriever"], second["retriever"], second["variant"]) == ("coordination", "bm25", "flat")
    assert first["found"] is False  # its default metrics are others
    assert second["metrics"]["NDCG@10"] == pytest.approx(0.8801, abs=1e-4)
    listed = document(cli("list", "runs", "--json"))
    assert {row["record"] for row in listed} == {first["record"], second["record"]}
    [scored] = document(cli("score", f"{second['record']}/run.trec.gz", "-d", ran, "-m", "NDCG@10", "--json"))
    assert scored["metrics"] == pytest.approx({"NDCG@10": second["metrics"]["NDCG@10"]})
    [fused] = document(cli("fuse", first["record"], second["record"], "-m", "NDCG@10", "--json"))
    assert fused["retriever"] == "fusion"
    compared = document(cli("compare", first["record"], second["record"], "--json"))
    assert compared["baseline"] == "coordination"
    assert cli("compare", first["record"], second["record"], "--format", "json").out == json.dumps(
        compared, indent=1, ensure_ascii=False
    ) + "\n"  # fmt: skip


def test_lists_as_json(cli):
    every = {row["retriever"]: row for row in document(cli("list", "retrievers", "--json"))}
    assert every["bm25"]["options"].items() >= {"k1": 0.9, "b": 0.4, "fields": "flat", "rm3": False}.items()
    assert every["dupmae"]["paper_rows"][0] == "Table 1: DupMAE"
    assert document(cli("list", "retrievers", "bm25", "--json")) == every["bm25"]
    assert {row["dataset"] for row in document(cli("list", "datasets", "--json"))} >= {"mini", "dl19"}
    assert {row["recipe"] for row in document(cli("list", "recipes", "--json"))} >= {"small", "dupmae-msmarco"}


def test_a_table_as_json(cli, tmp_path):
    write(tmp_path / "results" / "a" / "bm25" / "x", bm25(), *on("SciFact", 0.665))
    found = document(cli("table", 2, "--json"))
    [cell] = [cell for cell in found["cells"] if (cell["system"], cell["test"]) == ("BM25", "SciFact")]
    assert (cell["measured"], cell["published"], cell["status"]) == (pytest.approx(0.665), "0.665", "reproduced")


def test_a_dissection_and_a_check_as_json(cli, beir):
    words = ("--checkpoint", "dupmae-mini", "-d", beir(), "-m", "NDCG@10", "--k-terms", 96)
    [found] = document(cli("dissect", *words, "--json"))
    assert {row["searched"] for row in found["scores"]} == {"both halves", "dense alone", "lexical alone"}
    assert all(0 <= row["metrics"]["NDCG@10"] <= 1 for row in found["scores"])
    assert found["queries"] == sum(found["first_by"].values()) == 2
    checked = document(cli("check", "-r", "coordination", "--json"))
    assert checked["status"] == 0
    [entry] = checked["entries"]
    assert {finding["check"]: finding["status"] for finding in entry["findings"]}["NDCG@10"] == "ok"


def test_one_retriever_in_full(cli, bad, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    said = cli("list", "retrievers", "tas-b").out
    assert "sebastian-hofstaetter/distilbert-dot-tas_b-b256-msmarco" in said
    assert "--option query_length=" in said
    assert "Did you mean bm25" in bad("list", "retrievers", "bm52")
    assert "list datasets takes no name" in bad("list", "datasets", "mini")


@pytest.mark.parametrize("columns", [60, 100])
def test_lists_fit_a_terminal(cli, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    for what in ("retrievers", "datasets", "recipes"):
        assert max(map(len, cli("list", what).out.splitlines())) <= columns


def test_scores_and_hashes_are_never_cut(cli, ran, monkeypatch):
    """Where a row does not fit it is a paragraph."""
    whole = cli("list", "runs").out
    monkeypatch.setenv("COLUMNS", "40")
    narrow = cli("list", "runs").out
    for line in whole.splitlines()[1:]:
        name, digest, *_, score = line.split()
        assert f"dataset: {name} {digest}\n" in narrow
        assert f"  NDCG@10: {score}\n" in narrow
    monkeypatch.setenv("COLUMNS", "0")  # as good as none
    assert cli("list", "runs").out == whole


def test_a_pipe_gets_whole_lines_without_colours(cli, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = cli("list", "retrievers").out.splitlines()
    assert "\x1b" not in "".join(lines)
    assert len(lines) == 29  # a head, 25 names and two families of names, and where to read more


@pytest.mark.parametrize("words", [("-q", "run"), ("run", "-q"), ("run", "--quiet")])
def test_quiet(cli, beir, words):
    answer = cli(*words, "-r", "dupmae", "-d", beir(), "-m", "NDCG@10")
    assert "note: no --checkpoint is named" in answer.err  # a user should know this all the same
    assert "warning: tiny/test: top_k 1,000 is more than its 3 documents; clipped" in answer.err
    assert "encoded shard" not in answer.err


@pytest.mark.parametrize("words", [("-v", "run"), ("run", "-v")])
def test_verbose(cli, beir, words):
    answer = cli(*words, "-r", "coordination", "-d", beir(), "-m", "NDCG@10")
    assert "search: 0.0 s, 3 documents" in answer.err
    assert "score: 0." in answer.err
    assert "search:" not in cli("run", "-r", "coordination", "-d", beir("b"), "-m", "NDCG@10").err


def test_both_are_refused(bad):
    assert "contradict each other" in bad("-q", "-v", "list", "datasets")
    assert "contradict each other" in bad("list", "datasets", "-q", "-v")
    assert "contradict each other" in bad("-q", "list", "datasets", "-v")


@pytest.mark.parametrize("words", [("-h",), ("run", "-h"), ("plot", "-h"), ("plot", "bars", "-h"), ("list", "--help")])
def test_help_by_either_name(cli, words):
    answer = cli(*words)
    assert answer.code == 0
    assert answer.out.startswith("Usage: ")
    assert "-q, --quiet" in answer.out


def test_as_a_library_it_logs(beir, tmp_path, monkeypatch, caplog):
    """We write nothing: a program that imports the harness gets its messages by `logging`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(log.logger, "handlers", [])
    monkeypatch.setattr(log.logger, "propagate", True)
    monkeypatch.setattr(log.logger, "level", logging.NOTSET)
    with caplog.at_level(logging.DEBUG, "harness"):
        harness.run("coordination", str(beir()), metrics=["NDCG@10"])
    said = {(record.levelname, record.getMessage()) for record in caplog.records}
    assert ("WARNING", "tiny/test: top_k 1,000 is more than its 3 documents; clipped") in said
    assert any(level == "DEBUG" and message.startswith("search: ") for level, message in said)


def test_a_long_phase_says_how_far_it_is(tmp_path, monkeypatch, capsys):
    """A line after 31 and after 62 seconds, none between: 20 of 100 in 31 s leaves 124 s."""
    log.show()
    now = [0.0]
    monkeypatch.setattr(job_module.time, "monotonic", lambda: now[0])
    job = HarnessJob(tmp_path)
    with job.phase("encode", 100, "documents") as meter:
        for seconds, done in ((10, 5), (31, 20), (40, 30), (62, 62)):
            now[0] = seconds
            meter.reach(done)
    assert capsys.readouterr().err.splitlines() == [
        "encode: 20 of 100 documents in 31 s, 124 s left",
        "encode: 62 of 100 documents in 62 s, 38 s left",
    ]
