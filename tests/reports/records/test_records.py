"""Records: whole or not at all, and what is wrong with one is said."""

import json
import shutil
from pathlib import Path

import pytest

from harness.reports.errors import RecordError
from harness.reports.records import records
from harness.runs.config import build
from harness.runs.runner import run


@pytest.fixture
def record(beir, tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    config = build({"retrievers": ["bm25"], "datasets": [str(beir())], "results": tmp_path / "results"}, "test")
    return run(config, ["harness", "run"])[0].record


def test_a_record_has_four_files_and_says_everything(record):
    assert sorted(path.name for path in record.folder.iterdir()) == [
        "manifest.json", "metrics.json", "per_query.csv", "run.trec.gz",
    ]  # fmt: skip
    manifest = record.manifest
    assert manifest.system.system == "BM25"
    assert manifest.system.options.items() >= {"k1": 0.9, "b": 0.4, "fields": "flat"}.items()
    assert manifest.data.counts["documents"] == 3
    assert {"survey", "export", "index", "search", "score"} <= set(manifest.cost.seconds)
    assert manifest.cost.peak_memory_bytes > 10_000_000
    assert {"pyserini", "ranx", "ir_datasets", "python"} <= set(manifest.packages)
    assert manifest.command == ["harness", "run"]
    assert json.loads((record.folder / "metrics.json").read_text())["queries"] == 2
    assert {query: values["NDCG@10"] for query, values in record.per_query().items()} == {
        # q1: d1 (2) then d2, which shares only "apples"? no: nothing; so 2 of the ideal 2 + 1/log2(3)
        "q1": pytest.approx(2 / (2 + 1 / 1.584962500721156)),
        "q2": 1.0,
    }


def test_the_paper_row_is_the_papers_system_alone():
    from harness.retrievers.lexical.bm25 import BM25, BM25Options

    rows = [BM25(options).identity().paper_rows for options in (
        BM25Options(fields="multifield"), BM25Options(), BM25Options(fields="multifield", b=0.9),
    )]  # fmt: skip
    assert [[(row.table, row.row) for row in found] for found in rows] == [[(2, "BM25")], [], []]


@pytest.mark.parametrize("name", ["run.trec.gz", "metrics.json", "per_query.csv"])
def test_a_changed_or_missing_file_is_named(record, name):
    (record.folder / name).write_bytes(b"other")
    with pytest.raises(RecordError, match=f"{name}: not what the manifest says"):
        records.read(record.folder)
    (record.folder / name).unlink()
    with pytest.raises(RecordError, match=name):
        records.read(record.folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m | {"schema_version": 99}, "a record of schema 99; this harness reads up to 2"),
        (lambda m: {k: v for k, v in m.items() if k != "data"}, "not a readable record"),
        (lambda m: [], "not a readable record"),
        (lambda m: m | {"files": {}}, "does not name the files of a record"),
    ],
)
def test_other_schemas_are_refused(record, change, message):
    path = record.folder / "manifest.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(RecordError, match=message):
        records.read(record.folder)
    found, problems = records.find(record.folder.parents[2])
    assert found == []
    assert len(problems) == 1


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 100_000, b"", b'{"mean": 3}'])
@pytest.mark.parametrize("name", ["manifest.json", "metrics.json"])
def test_one_bad_record_does_not_hide_the_others(record, name, content):
    bad = record.folder.with_name("0123456789")
    shutil.copytree(record.folder, bad)
    (bad / name).write_bytes(content)
    (record.folder.with_name("empty")).mkdir()
    found, problems = records.find(record.folder.parents[2])
    assert [one.folder for one in found] == [record.folder]
    assert len(problems) == 2


def test_a_record_that_cannot_take_its_place_leaves_the_old_one(record, monkeypatch):
    before = {path.name: path.read_bytes() for path in record.folder.iterdir()}
    rename = Path.rename

    def refuse(self, target):
        if self.name.endswith(".new"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="Input/output"), records.writing(record.folder) as new:
        (new / "x").write_text("y")
    assert {path.name: path.read_bytes() for path in record.folder.iterdir()} == before
    assert [path.name for path in record.folder.parent.iterdir()] == [record.folder.name]


def test_a_file_in_a_records_place_gives_way(record):
    shutil.rmtree(record.folder)
    record.folder.write_text("a file")
    with records.writing(record.folder) as new:
        (new / "x").write_text("y")
    assert [path.name for path in record.folder.parent.iterdir()] == [record.folder.name]
    assert (record.folder / "x").read_text() == "y"


def test_a_failed_write_leaves_what_was_there(record):
    before = {path.name: path.read_bytes() for path in record.folder.iterdir()}

    def fail():
        with records.writing(record.folder) as new:
            (new / "run.trec.gz").write_bytes(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        fail()
    assert {path.name: path.read_bytes() for path in record.folder.iterdir()} == before
    assert [path.name for path in record.folder.parent.iterdir()] == [record.folder.name]


def test_a_record_of_schema_1_reads_as_one_that_says_nothing_of_training(record):
    path = record.folder / "manifest.json"
    raw = json.loads(path.read_text())
    del raw["system"]["trained"], raw["system"]["model"]
    path.write_text(json.dumps(raw | {"schema_version": 1}))
    system = records.read(record.folder).manifest.system
    assert (system.trained, system.model) == ({}, {})
