"""`lucene:PATH`: an index that is there already, searched as our own, and what it may not be."""

import shutil

import pytest

import harness
from harness.retrievers.errors import InputError
from harness.retrievers.lexical import lucene
from harness.retrievers.lexical.analyzers import Analyzer
from tests.support.datasets import opened, write_beir

DOCS = [("d1", "cat", "cat sat mat"), ("d2", "dog", "dog sat log"), ("d3", "bird", "bird flew")]
QUERIES = [("q1", "cat sat"), ("q2", "log")]


@pytest.fixture
def place(tmp_path, job, monkeypatch):
    """A collection `col`, and the index of its documents `index`, each in the working directory."""
    monkeypatch.chdir(tmp_path)
    write_beir(tmp_path / "col", DOCS, QUERIES, {"test": [("q1", "d1", 1), ("q2", "d2", 1)]})
    made = lucene.ensure_index(opened(tmp_path / "col", job), lucene.Layout("flat", Analyzer()), job)
    shutil.copytree(made, tmp_path / "index")
    return tmp_path


def test_it_is_searched_as_our_own(place):
    own, theirs = harness.run("bm25", "col", k1=1.2), harness.run("lucene:./index", "col", k1=1.2)
    assert theirs.to_dict() == own.to_dict()
    assert theirs.metrics == own.metrics
    system = theirs.manifest.system
    assert (system.system, system.checkpoint, system.paper_rows) == ("BM25", "./index", ())
    assert len(system.checkpoint_hash) == 64


def test_another_commit_is_another_record(place, job):
    first = harness.run("lucene:./index", "col")
    assert harness.run("lucene:./index", "col").folder == first.folder
    write_beir(place / "col2", [*DOCS, ("d4", "", "new")], QUERIES, {"test": [("q1", "d1", 1)]})
    made = lucene.ensure_index(opened(place / "col2", job), lucene.Layout("flat", Analyzer()), job)
    shutil.rmtree(place / "index")
    shutil.copytree(made, place / "index")
    second = harness.run("lucene:./index", "col2")
    assert second.manifest.system.checkpoint_hash != first.manifest.system.checkpoint_hash


def test_documents_of_another_collection_are_refused(place):
    write_beir(place / "other", [("x1", "", "cat sat")], QUERIES[:1], {"test": [("q1", "x1", 1)]})
    with pytest.raises(InputError, match=r"1 of the documents that .*index gives are not in other/test \(d1\)"):
        harness.run("lucene:index", "other", top_k=1)
    assert not list((place / "results").glob("other*/*/*"))


def test_more_documents_than_the_index_has(place):
    write_beir(place / "more", [*DOCS, ("d4", "", "new")], QUERIES[:1], {"test": [("q1", "d1", 1)]})
    found = harness.run("lucene:index", "more")
    assert "index holds 3 documents, and more/test has 4" in found.manifest.warnings


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lucene:", {}, "lucene: needs the folder of an index behind it"),
        ("lucene:./col", {}, "col holds no Lucene index"),
        ("lucene:./absent", {}, "absent holds no Lucene index"),
        ("lucene:no-such-name", {}, r"neither a folder with a Lucene index nor one of the \d+ names"),
        ("lucene:index", {"rm3": True}, "index was made without them"),
        ("lucene:broken", {}, "broken is no index that this Lucene can open"),
    ],
)
def test_refusals(place, name, options, message):
    (place / "broken").mkdir()
    (place / "broken" / "segments_1").write_bytes(b"nothing")
    with pytest.raises(InputError, match=message):
        harness.run(name, "col", **options)


def test_a_name_of_pyserinis_is_fetched(place, monkeypatch):
    from pyserini import prebuilt_index_info, util

    monkeypatch.setitem(prebuilt_index_info.TF_INDEX_INFO, "theirs", {})
    monkeypatch.setattr(util, "download_prebuilt_index", lambda name, verbose: str(place / "index"))
    assert harness.run("lucene:theirs", "col").to_dict() == harness.run("bm25", "col").to_dict()

    def offline(name, verbose):
        raise OSError("no route to host")

    monkeypatch.setattr(util, "download_prebuilt_index", offline)
    with pytest.raises(InputError, match=r"lucene:theirs could not be fetched \(no route to host\)"):
        harness.run("lucene:theirs", "col", force=True)
