"""From names to records: found again, redone, scored anew, composed."""

import json
import re

import numpy as np
import pytest
import yaml

from harness.retrievers.encoding import store
from harness.retrievers.run_files import trec
from harness.retrievers.types import Run
from harness.runs.config import build
from harness.runs.record_store import RecordStore
from harness.runs.runner import run
from tests.support.datasets import DOCS, QRELS, QUERIES, write_beir
from tests.support.paths import ROOT
from tests.support.retrievers import Fixed, registered


def go(tmp_path, *datasets, **values):
    config = {"retrievers": ["bm25"], "datasets": list(map(str, datasets)), "results": tmp_path / "results"}
    return run(build({**config, **values}, "test"), ["test"])


@pytest.fixture
def fixed():
    class Here(Fixed):
        results = {"q1": {"d1": 2.0, "d2": 1.0, "q1": 3.0}, "q2": {"d1": 1.0}}  # noqa: RUF012

    with registered(fixed=Here):
        yield Here


def test_a_finished_run_is_found_and_not_redone(beir, tmp_path, fixed):
    folder = beir()
    [first] = go(tmp_path, folder, retrievers=["fixed"])
    [second] = go(tmp_path, folder, retrievers=["fixed"])
    assert (first.found, second.found, fixed.searches) == (False, True, 1)
    assert second.record.folder == first.record.folder
    [forced] = go(tmp_path, folder, retrievers=["fixed"], force=True)
    assert (forced.found, fixed.searches) == (False, 2)
    assert forced.record.manifest.files["run.trec.gz"] == first.record.manifest.files["run.trec.gz"]


def test_what_decides_the_run_decides_its_folder(beir, tmp_path, fixed):
    folders = {go(tmp_path, beir(), **v)[0].record.folder for v in ({}, {"top_k": 2}, {"retrievers": ["fixed"]})}
    folders |= {
        go(tmp_path, beir(), retrievers=[{"name": "bm25", "options": {"b": 0.5}}])[0].record.folder,
        go(tmp_path, beir("tiny", docs=[*DOCS, ("d4", "", "more")]))[0].record.folder,
        go(tmp_path, beir("tiny", qrels={"test": QRELS[:1]}))[0].record.folder,
    }
    assert len(folders) == 6


def test_no_name_of_a_module_decides_where_a_record_or_a_store_is(beir, tmp_path, monkeypatch):
    """So that a module can move, and what was made before is found all the same."""
    decided, plain, header = [], RecordStore.folder, store.describe

    def folder(self, dataset, retriever, key, whole):
        decided.append(json.dumps(key))
        return plain(self, dataset, retriever, key, whole)

    def describe(found):
        decided.append(header(found))
        return header(found)

    monkeypatch.setattr(RecordStore, "folder", folder)
    monkeypatch.setattr(store, "describe", describe)
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))  # where no store is whole yet
    go(tmp_path, beir(), retrievers=["bm25", "coordination", "dupmae-mini", "retromae-mini"])
    assert len(decided) == 6
    ours = re.compile(r"\b(?:harness|models|reports|retrievers)\.[a-z]")
    assert not [text for text in decided if ours.search(text) or str(ROOT) in text]


def test_another_metric_is_scored_from_the_finished_run(beir, tmp_path, fixed):
    folder = beir()
    go(tmp_path, folder, retrievers=["fixed"], metrics=["NDCG@10"])
    [more] = go(tmp_path, folder, retrievers=["fixed"], metrics=["MRR@10"])
    assert fixed.searches == 1
    assert list(more.record.metrics) == ["NDCG@10", "MRR@10"]
    assert more.record.metrics["MRR@10"] == 0.25  # q1: d1 behind the unjudged q1; q2: nothing
    assert go(tmp_path, folder, retrievers=["fixed"], metrics=["NDCG@10", "MRR@10"])[0].found


def test_a_damaged_record_is_made_anew(beir, tmp_path, fixed, capsys):
    folder = beir()
    [first] = go(tmp_path, folder, retrievers=["fixed"])
    (first.record.folder / "per_query.csv").write_text("x")
    [again] = go(tmp_path, folder, retrievers=["fixed"])
    assert not again.found
    assert "It is made anew" in capsys.readouterr().err


def test_the_querys_own_document_is_dropped_where_the_rules_say_so(tmp_path, monkeypatch, fixed):
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    docs = [*DOCS, ("q1", "", "red apples")]
    write_beir(tmp_path / "home" / "datasets" / "beir" / "quora", docs=docs)
    write_beir(tmp_path / "home" / "datasets" / "beir" / "scifact", docs=docs)
    [quora] = go(tmp_path, "beir/quora", retrievers=["fixed"], top_k=2, metrics=["MRR@2"])
    assert fixed.asked == 3
    assert quora.record.per_query()["q1"]["MRR@2"] == 1.0
    assert quora.record.manifest.data.rules.drop_self
    assert "q1 Q0 q1" not in _text(quora)
    [scifact] = go(tmp_path, "beir/scifact", retrievers=["fixed"], top_k=3, metrics=["MRR@2"])
    assert fixed.asked == 3
    assert scifact.record.per_query()["q1"]["MRR@2"] == 0.5


def test_what_a_service_took_is_in_the_record_of_each_part_alone(tmp_path, monkeypatch, fixed):
    """A median of medians is none, so a composite says nothing of it; nor does a retriever without a service."""
    from harness.datasets.rules import FORUMS

    class Asking(fixed):
        def service_cost(self):
            return {"requests": 3, "latency_ms_median": 1.5}

    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    for forum in FORUMS:
        write_beir(tmp_path / "home" / "datasets" / "beir" / "cqadupstack" / forum)
    with registered(asking=Asking):
        *parts, whole = go(tmp_path, "beir/cqadupstack", retrievers=["asking"], metrics=["NDCG@10"])
    assert {str(part.record.manifest.cost.service) for part in parts} == {"{'requests': 3, 'latency_ms_median': 1.5}"}
    assert whole.record.manifest.cost.service is None
    [plain] = go(tmp_path, "mini", retrievers=["fixed"], metrics=["NDCG@10"])
    for outcome in (whole, plain):
        assert "service" not in json.loads((outcome.record.folder / "manifest.json").read_text())["cost"]


def _text(outcome):
    import gzip

    return gzip.decompress((outcome.record.folder / "run.trec.gz").read_bytes()).decode()


def test_binary_metrics_follow_the_level_and_ndcg_keeps_the_grades(tmp_path, monkeypatch, fixed):
    from harness.datasets import rules

    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(rules.RULES, "beir/scidocs", rules.Rules(binary_level=2))
    write_beir(tmp_path / "home" / "datasets" / "beir" / "scidocs")
    fixed.results = {"q1": {"d2": 2.0, "d1": 1.0}, "q2": {"d3": 1.0}}
    [outcome] = go(tmp_path, "beir/scidocs", retrievers=["fixed"], metrics=["MRR@10", "R@10", "NDCG@10"])
    scores = outcome.record.per_query()
    assert (scores["q1"]["MRR@10"], scores["q2"]["MRR@10"], scores["q2"]["R@10"]) == (0.5, 0.0, 0.0)
    assert scores["q2"]["NDCG@10"] == 1.0  # grade 1 still gains
    assert outcome.record.manifest.data.rules.binary_level == 2


def test_cqadupstack_is_the_mean_of_its_forums_means(tmp_path, monkeypatch, fixed):
    """Forum `android` has two queries (NDCG 1 and 0), the other eleven one (NDCG 1): the mean of means is 11.5/12."""
    from harness.datasets.rules import FORUMS

    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    fixed.results = {"q1": {"d1": 1.0}}
    for forum in FORUMS:
        qrels = [("q1", "d1", 1), *([("q2", "d2", 1)] if forum == "android" else [])]
        write_beir(tmp_path / "home" / "datasets" / "beir" / "cqadupstack" / forum, qrels={"test": qrels})
    outcomes = go(tmp_path, "beir/cqadupstack", retrievers=["fixed"], metrics=["NDCG@10"])
    assert len(outcomes) == 13
    whole = outcomes[-1].record
    assert whole.metrics["NDCG@10"] == pytest.approx(11.5 / 12)
    assert whole.manifest.data.name == "beir/cqadupstack"
    assert len(whole.manifest.parts) == len(whole.manifest.data.rules.mean_of) == 12
    assert whole.manifest.data.counts["queries"] == len(whole.per_query()) == 13
    assert trec.read(whole.folder / "run.trec.gz").query_ids[0] == "android:q1"
    assert fixed.searches == 12
    assert go(tmp_path, "beir/cqadupstack", retrievers=["fixed"], metrics=["NDCG@10"])[-1].found
    again = go(tmp_path, "beir/cqadupstack", retrievers=["fixed"], metrics=["MRR@10"])[-1]
    assert again.record.folder == whole.folder
    assert set(again.record.metrics) == {"NDCG@10", "MRR@10"}  # what all its parts have
    assert fixed.searches == 12


def test_k_is_clipped_to_the_corpus_and_silent_queries_are_counted(beir, tmp_path, fixed, capsys):
    fixed.results = {"q1": {"d1": 1.0}}
    [outcome] = go(tmp_path, beir(), retrievers=["fixed"])
    manifest = outcome.record.manifest
    assert (manifest.top_k, manifest.top_k_searched, fixed.asked) == (1000, 3, 3)
    assert manifest.data.counts["queries_without_results"] == 1
    assert outcome.record.metrics["R@10"] == 0.25
    err = capsys.readouterr().err
    assert err.count("warning:") == len(manifest.warnings) == 2


def test_warnings_reach_every_record_but_the_user_once(beir, tmp_path, fixed, capsys):
    folder = beir(docs=[*DOCS, DOCS[0]])
    outcomes = go(tmp_path, folder, retrievers=["bm25", "fixed"])
    assert all(any("duplicates" in warning for warning in o.record.manifest.warnings) for o in outcomes)
    assert capsys.readouterr().err.count("duplicates of documents") == 1


def test_several_retrievers_and_datasets_by_configuration(beir, tmp_path, cli, fixed):
    folders = [str(beir("a")), str(beir("b", qrels={"test": QRELS[:1]}, queries=QUERIES[:1]))]
    config = {"retrievers": ["fixed", {"name": "bm25", "options": {"fields": "multifield"}}], "datasets": folders}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**config, "metrics": ["ndcg@10"], "top_k": 10}))
    answer = cli("run", "--config", "run.yaml")
    assert answer.code == 0
    rows = [line.split()[:2] for line in answer.out.splitlines()[1:5]]
    assert rows == [["a/test", "fixed"], ["a/test", "bm25"], ["b/test", "fixed"], ["b/test", "bm25"]]
    found = list((tmp_path / "results").glob("*/*/*/manifest.json"))
    assert len(found) == 4
    assert {json.loads(path.read_text())["config"]["top_k"] for path in found} == {10}
    assert cli("run", "--config", "run.yaml").out.count("found ") == 4


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda: Run.of({"other": {"d1": 1.0}}), "returned other queries"),
        (lambda: Run.of({"q2": {"d1": 1.0}, "q1": {}}), "in another order"),
        (lambda: None, "returned a NoneType; it must return a harness.Run"),
        (lambda: Run.of({"q1": {f"d{n}": 1.0 for n in range(9)}, "q2": {}}), "returned 9 documents for a query"),
        (lambda: Run.of({"q1": {"a b": 1.0}, "q2": {}}), "'a b' holds white space"),
    ],
)
def test_a_retriever_that_breaks_the_contract_is_named(beir, bad, fixed, monkeypatch, result, message):
    monkeypatch.setattr(fixed, "search", lambda self, *a: result())
    assert message in bad("run", "-r", "fixed", "-d", beir())


def test_a_record_of_a_newer_schema_is_not_overwritten(beir, tmp_path, cli, fixed):
    folder = beir()
    [first] = go(tmp_path, folder, retrievers=["fixed"])
    path = first.record.folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
    answer = cli("run", "-r", "fixed", "-d", folder)
    assert (answer.code, json.loads(path.read_text())["schema_version"]) == (2, 99)
    assert "a record of schema 99" in answer.err


def test_what_was_finished_is_shown_when_a_later_one_fails(beir, cli, fixed):
    sound, broken = beir("a"), beir("b")
    (broken / "corpus.jsonl").write_text("")
    answer = cli("run", "-r", "fixed", "-r", "fixed", "-d", sound, "-d", sound, "-d", broken)
    assert answer.code == 2
    assert answer.out.count("a/test") == 1


def test_nan_scores_are_refused(beir, bad, fixed):
    fixed.results = {"q1": {"d1": np.nan}}
    assert "is nan; scores must be finite" in bad("run", "-r", "fixed", "-d", beir())
