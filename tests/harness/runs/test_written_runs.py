"""Records' runs written for other tools, and read again: the same results, and what made them."""

import gzip

import pandas
import pytest

import harness
from harness.retrievers.run_files import exchange, formats


@pytest.fixture
def record(beir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return harness.run("bm25", str(beir()), metrics=["NDCG@10"])


@pytest.mark.parametrize("name", ["run.trec", "run.trec.gz", "run.run", "run.txt", "run.json", "run.parquet"])
def test_each_file_holds_the_run(record, name, cli):
    answer = cli("export", record.folder.name, f"out/{name}")
    assert (answer.code, answer.out, answer.err) == (0, f"wrote out/{name}\n", "")
    found = formats.read_file(record.folder.parents[3] / "out" / name)
    assert exchange.to_dict(found.run) == record.to_dict()
    assert harness.score(f"out/{name}", "./tiny", metrics=["NDCG@10"]).metrics == record.metrics


def test_a_trec_file_says_what_made_it(record):
    found = formats.read_file(record.to_trec("run.trec", header=True))
    assert found.tag == record.tag == f"bm25-{record.folder.name}"
    said = found.metadata
    assert said["tag"] == record.tag
    expected = {"name": "bm25", "method": "BM25", "variant": "flat", "k1": 0.9, "b": 0.4, "fields": "flat"}
    assert expected.items() <= said["method"]["retrieval"][0].items()
    assert said["data"]["test_collection"]["name"] == "tiny/test"
    assert said["implementation"]["executable"]["cmd"].startswith("harness.run bm25")
    plain = record.to_trec("plain.trec").read_text()
    assert not plain.startswith("#")
    assert (record.folder.parents[3] / "run.trec").read_text().endswith(plain)


def test_two_variants_have_two_tags(record):
    """BM25 flat and multifield were both `bm25` to whoever got their files."""
    other = harness.run("bm25", "./tiny", fields="multifield", metrics=["NDCG@10"])
    tags = set()
    for one in (record, other):
        with gzip.open(one.folder / "run.trec.gz", "rt") as file:
            tags |= {line.split()[-1] for line in file}
    assert tags == {record.tag, other.tag}
    assert record.tag != other.tag


def test_a_ranking_is_written_too(beir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ranking = harness.retrieve("coordination", str(beir()))
    for path in (ranking.to_trec("a/run.trec.gz"), ranking.to_json("a/run.json"), ranking.to_parquet("a/run.parquet")):
        assert exchange.to_dict(formats.read_file(path).run) == ranking.to_dict()
    assert list(pandas.read_parquet("a/run.parquet").columns) == ["query_id", "document_id", "rank", "score"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["run.json", "run.parquet", "run.trec.gz"]


def test_bad_input(record, bad, tmp_path):
    assert "no record 'gone'" in bad("export", "gone", "run.trec", results=tmp_path / "none")
    assert "--float16 is for checkpoints" in bad(
        "export", record.folder.name, "run.trec", "--float16", results=tmp_path / "n"
    )
    assert "does not end in one of .trec" in bad("export", record.folder.name, "run.csv", results=tmp_path / "none")
    (tmp_path / "file").write_text("")
    assert "cannot be written to" in bad("export", record.folder.name, "file/run.json", results=tmp_path / "none")
