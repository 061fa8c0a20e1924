"""The harness as a library: the records of the command line, and runs as other libraries hold them."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas
import pytest

import harness
from harness.retrievers import registry
from harness.retrievers.errors import InputError
from harness.retrievers.registry import register
from harness.retrievers.run_files import exchange, trec
from harness.retrievers.types import Run
from tests.support.commands import run_process
from tests.support.paths import ROOT
from tests.support.retrievers import registered


@pytest.fixture
def here(beir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return str(beir())


def test_three_lines_record_what_the_command_line_records(here, cli):
    run = harness.run("bm25", here, b=0.5, metrics=["NDCG@10"])
    answer = cli("run", "-r", "bm25", "-d", here, "--b", "0.5", "-m", "ndcg@10")
    assert answer.out.splitlines()[-1] == f"found {run.folder}"
    assert run.metrics == {"NDCG@10": pytest.approx(0.8801, abs=1e-4)}  # as test_cli has it
    assert run.manifest.system.options["b"] == 0.5
    assert run.manifest.command[:3] == ["harness.run", "bm25", here]
    assert "NDCG@10 0.8801" in repr(run)
    assert harness.read(run.folder).metrics == run.metrics
    table = run.per_query()
    assert table.index.tolist() == ["q1", "q2"]
    assert table["NDCG@10"].mean() == pytest.approx(run.metrics["NDCG@10"])


@pytest.mark.process
def test_importing_it_is_light_and_its_names_are_there():
    heavy = {"torch", "numpy", "pydantic", "typer"}
    code = f"import harness, sys; assert not {heavy} & set(sys.modules); print(dir(harness))"
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert all(f"'{name}'" in listed for name in harness.__all__)
    assert all(callable(getattr(harness, name)) for name in harness.__all__ if name != "__version__")
    with pytest.raises(AttributeError, match="has no attribute 'ran'"):
        harness.ran  # noqa: B018


def test_the_stub_has_every_name():
    text = (ROOT / "harness" / "__init__.pyi").read_text()
    assert all(f"import {name} as {name}" in text for name in harness.__all__ if name != "__version__")


def test_retrieve_searches_without_a_record(here, tmp_path):
    found = harness.retrieve("bm25", here)
    assert exchange.to_dict(found.run) == harness.run("bm25", here, results=tmp_path / "elsewhere").to_dict()
    mine = harness.retrieve("bm25", here, {"mine": "green pears", "none": "zzz"}, top_k=1)
    assert mine.to_dict() == {"mine": {"d2": pytest.approx(mine.run.scores[0])}, "none": {}}
    assert repr(mine) == "<bm25: 1 results of 2 queries>"
    assert not (tmp_path / "results").exists()


def test_ways_out_and_back(here, tmp_path):
    """TREC file, ranx, DataFrame and dictionary each give the run again, to the bit."""
    import ranx  # it imports ir_datasets, which must not be imported before its home is set

    run = harness.score({"q1": {"d2": 0.1, "d1": 1 / 3, "d3": 0.1}, "q2": {"d3": -2.5}}, here, name="mine")
    path = run.to_trec(tmp_path / "new" / "run.trec.gz")
    assert [p.name for p in path.parent.iterdir()] == ["run.trec.gz"]
    frame, other = run.to_frame(), run.to_ranx()
    assert list(frame.columns) == ["query_id", "document_id", "rank", "score"]
    assert frame["rank"].tolist() == [1, 2, 3, 1]
    assert frame["document_id"].tolist() == ["d1", "d3", "d2", "d3"]
    assert isinstance(other, ranx.Run)
    assert other.name == "mine"
    renamed = pandas.DataFrame({"qid": frame["query_id"], "docno": frame["document_id"], "score": frame["score"]})
    for again in (trec.read(path), *map(exchange.of_any, (frame, renamed, other, run.to_dict(), run.run))):
        assert again.query_ids == run.run.query_ids
        assert again.doc_ids.tolist() == run.run.doc_ids.tolist()
        np.testing.assert_array_equal(again.scores, run.run.scores)
    assert harness.score(other, here, name="ranx").metrics == run.metrics
    again = harness.score(run, here)
    assert (again.folder, again.manifest.system.file.location) == (run.folder, "in memory")


def test_compare(here, beir):
    """Of q1 bm25 finds d1 alone: gain 2. b has d2 before d1: 1 + 2/log2(3). The ideal is 2 + 1/log2(3)."""
    a = harness.run("bm25", here)
    b = harness.score({"q1": {"d2": 2.0, "d1": 1.0}, "q2": {"d3": 1.0}}, here, name="b")
    found = harness.compare(a, b)
    [system] = found.significance.systems
    assert (found.significance.queries, system.wins, system.ties, system.losses) == (2, 1, 1, 0)
    assert system.difference == pytest.approx((1 + 2 / np.log2(3) - 2) / (2 + 1 / np.log2(3)) / 2)
    assert harness.compare(a.folder, str(b.folder)).significance == found.significance
    with pytest.raises(InputError, match="has no NDCG@3; it has MRR@10"):
        harness.compare(a, b, metric="NDCG@3")
    other = harness.run("bm25", str(beir("other", queries=[("q1", "red"), ("q2", "sea")])))
    with pytest.raises(InputError, match="differ in queries"):
        harness.compare(a, other)


def test_reranking_from_python(here, tmp_path):
    from tests.support.cross_encoders import own

    run = harness.run("bm25", here, rerank=str(own(tmp_path / "teacher")), depth=1)
    assert run.manifest.system.reranked.depth == 1
    assert run.folder.parent.name == "bm25+rerank"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: harness.run("bn25", d), "Did you mean bm25"),
        (lambda d: harness.run("bm25", d, pooling="mean"), "no retriever of this run has the option 'pooling'"),
        (lambda d: harness.run("bm25", d, b="much"), r"retriever bm25: b: .*got 'much'"),
        (lambda d: harness.run("bm25", d, top_k=0), "top_k: .*greater than or equal to 1"),
        (lambda d: harness.retrieve("bm25", d, {}), "queries is empty"),
        (lambda d: harness.retrieve("bm25", "beir/cqadupstack"), "is 12 collections"),
        (lambda d: harness.score(3, d), "a int is no run"),
        (lambda d: harness.score({}, d), "the run in memory holds no results"),
        (
            lambda d: harness.score(pandas.DataFrame({"qid": [], "score": []}), d),
            "no column document_id .*there is qid, score",
        ),
        (lambda d: harness.fuse({"q1": {"d1": 1.0}}, {"q1": {"d1": 2.0}}), "Name it with --dataset"),
        (lambda d: exchange.to_ranx(Run.of({"q": {}})), "cannot be a ranx Run"),
    ],
)
def test_bad_input(here, tmp_path, call, message):
    with pytest.raises(InputError, match=message):
        call(here)
    assert not list(tmp_path.glob("results/*/*/*"))


# --- docs/new-retriever.md


def block(language, nth=0):
    text = (ROOT / "docs" / "new-retriever.md").read_text(encoding="utf-8")
    return text.split(f"```{language}\n")[1 + nth].partition("```")[0]


@pytest.mark.process
def test_the_page_of_the_docs_adds_a_retriever_in_under_15_lines(tmp_path):
    code = block("python")
    assert len([line for line in code.splitlines() if line.strip()]) < 15
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    (source / "trigrams.py").write_text(code)
    (source / "pyproject.toml").write_text(block("toml"))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(site), str(source)], check=True, capture_output=True)
    ran = run_process(*block("", 2).split()[1:], env={"PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    rows = [line.split() for line in ran.stdout.splitlines() if line.startswith("mini")]
    scores = {row[1]: float(row[-1]) for row in rows}
    assert 0.3 < scores["trigrams"] < scores["bm25"]
    [folder] = (tmp_path / "results").glob("mini/trigrams/*")
    assert "scikit-learn" in json.loads((folder / "manifest.json").read_text())["packages"]


def test_the_page_runs_it_in_a_script_too(tmp_path, monkeypatch, capsys):
    (tmp_path / "trigrams.py").write_text(block("python"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    registry.available()
    with registered():
        exec(compile(block("python", 1), "page", "exec"), {})
        assert 0.3 < float(capsys.readouterr().out) < 1
        trigrams = sys.modules.pop("trigrams")
        with pytest.raises(ValueError, match=r"is taken by trigrams\.Trigrams"):
            register("trigrams")(type("Other", (trigrams.Trigrams,), {"__module__": "x"}))
