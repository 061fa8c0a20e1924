"""Records as results of MTEB: the JSON that mteb reads, without mteb (tests of the bridge read it with mteb)."""

import datetime
import json
import re

import pytest

import harness
from harness.datasets.loader import resolve
from harness.datasets.rules import BEIR_18, LICENSED
from harness.retrievers.errors import InputError
from harness.runs import mteb_results

RUN = {"q1": {"d2": 2.0, "d1": 1.0}, "q2": {"d3": 1.0}}


@pytest.fixture
def record(beir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    metrics = ["NDCG@10", "MRR@10", "R@1", "MAP", "P(rel=2)@1", "Judged@10"]
    return harness.score(RUN, str(beir()), name="mine", metrics=metrics)


def changed(result, **data):
    """The record, of other data than it says."""
    manifest = result.manifest.model_copy(update={"data": result.manifest.data.model_copy(update=data)})
    return mteb_results.Record(result.folder, manifest, dict(result.record.metrics))


def test_the_file_holds_what_mteb_has_names_for(record, tmp_path, cli):
    """R@1 of q1 is 1/2 and of q2 is 1; MRR is 1 for both. MAP has no cutoff, P(rel=2) and Judged no name there."""
    path = record.to_mteb(tmp_path / "new" / "a.mteb.json", languages="eng-Latn")
    found = json.loads(path.read_text())
    [scores] = found.pop("scores")["test"]
    ndcg = record.metrics["NDCG@10"]
    assert scores == {
        "ndcg_at_10": ndcg, "mrr_at_10": 1.0, "recall_at_1": 0.75, "main_score": ndcg, "hf_subset": "default",
        "languages": ["eng-Latn"],
    }  # fmt: skip
    assert (
        datetime.datetime.fromtimestamp(found.pop("date"), datetime.UTC).isoformat()[:16]
        == record.manifest.created[:16]
    )
    assert found.pop("evaluation_time") >= 0
    assert re.fullmatch("harness-[0-9a-f]{12}", found.pop("dataset_revision"))
    assert found == {"task_name": "tiny/test", "mteb_version": None, "kg_co2_emissions": None}
    assert [each.name for each in path.parent.iterdir()] == ["a.mteb.json"]
    answer = cli("export", record.folder, "b.mteb.json", "--task", "Tiny", "--language", "deu-Latn")
    assert answer.out == "wrote b.mteb.json\n"
    assert json.loads((tmp_path / "b.mteb.json").read_text())["task_name"] == "Tiny"


def test_names_are_those_given(record):
    text = mteb_results.text_of(record.record, "Tiny", "dev", "de", ["deu-Latn"], "abc")
    found = json.loads(text)
    assert (found["task_name"], found["dataset_revision"]) == ("Tiny", "abc")
    [scores] = found["scores"]["dev"]
    assert (scores["hf_subset"], scores["languages"]) == ("de", ["deu-Latn"])


@pytest.mark.parametrize(
    ("dataset_id", "task", "split"),
    [
        ("beir/scifact/test", "SciFact", "test"),
        ("beir/cqadupstack/gis", "CQADupstackGisRetrieval", "test"),
        ("beir/arguana", "ArguAna", "test"),
        ("msmarco-passage/dev/small", "somewhere", "dev"),
        ("beir/webis-touche2020/v2", "somewhere", "test"),
    ],
)
def test_tasks_made_of_beirs_collections_are_known(record, dataset_id, task, split):
    languages = ["deu-Latn"] if task == "somewhere" else None
    record = changed(record, dataset_id=dataset_id, name="somewhere")
    found = json.loads(mteb_results.text_of(record, languages=languages))
    assert found["task_name"] == task
    assert found["scores"][split][0]["languages"] == (languages or ["eng-Latn"])


def test_every_open_collection_of_beir_but_touche_has_its_task():
    open_ones = BEIR_18.keys() - LICENSED.keys() - {"beir/webis-touche2020"}
    parts = {part.dataset_id for name in open_ones for part in resolve(name)} | {"beir/cqadupstack"}
    assert parts == set(mteb_results._BY_ID)


def test_metrics_at_another_level_than_mtebs_are_left_out(record):
    rules = record.manifest.data.rules.model_copy(update={"binary_level": 2})
    [scores] = json.loads(mteb_results.text_of(changed(record, rules=rules), languages=["eng-Latn"]))["scores"]["test"]
    assert {name for name in scores if "_at_" in name} == {"ndcg_at_10"}


def test_what_cannot_be_written_is_refused(record, tmp_path, bad, beir):
    other = harness.score(RUN, str(beir()), name="other", metrics=["R@1"], results=tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"has no NDCG@10, which is the main score .* again with --metric NDCG@10"):
        other.to_mteb(tmp_path / "a.mteb.json")
    with pytest.raises(InputError, match=r"the task is 'a\\nb'; want its name in MTEB, such as SciFact"):
        record.to_mteb(tmp_path / "a.mteb.json", task="a\nb")
    for languages, message in (
        (None, "the languages of tiny/test are not known; MTEB"),
        (["en"], "tiny/test are 'en'; MTEB"),
    ):
        with pytest.raises(InputError, match=f"{message} .* --language eng-Latn"):
            record.to_mteb(tmp_path / "a.mteb.json", languages=languages)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="the scores cannot be written to"):
        record.to_mteb(tmp_path / "file" / "a.mteb.json", languages="eng-Latn")
    assert not list(tmp_path.glob("*.mteb.json"))
    none = tmp_path / "none"
    message = bad("export", record.folder, "a.json", "--task", "Tiny", results=none)
    assert "--task and --language are of a file that ends in .mteb.json, and a.json does not" in message
    message = bad("export", record.folder, "a.mteb.json", "--float16", results=none)
    assert "--float16 is for checkpoints" in message
