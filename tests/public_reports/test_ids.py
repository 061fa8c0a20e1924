"""Ids: what the loader takes, every retriever can search and every run can carry; nothing else is found out late."""

import importlib
import json

import numpy as np
import pandas
import pytest

import harness
from harness.retrievers import ids
from harness.retrievers.errors import InputError
from harness.retrievers.lexical import lucene
from harness.retrievers.run_files import exchange, trec
from harness.retrievers.types import Document, Run
from tests.support.datasets import write_beir

TWO = ({"q1": {"d1": 1.0}}, {"q1": {"d2": 1.0}})
TEXTS = ("apple pie", "pear tart", "plum", "fig")
ODD = ("\u00a0", "a\u00a0b", "é\u0085", "\u2028x", "#1", '"q"', "日本語", "\x7f", "x" * 512)


@pytest.mark.parametrize("bad_id", ["a\u0001b", "a\tb", "a b", "", "x" * 513, "é" * 257, "\x1f"])
@pytest.mark.parametrize("where", ["docs", "queries", "qrels"])
def test_what_a_run_cannot_carry_is_refused_when_it_is_read(beir, bad, bad_id, where):
    """A control character in an id was refused only after everything was encoded."""
    parts = {
        "docs": [("d1", "", "apple"), ("d2", "", "pear")],
        "queries": [("q1", "apple"), ("q2", "pear")],
        "qrels": {"test": [("q1", "d1", 1), ("q2", "d2", 1)]},
    }
    if where == "qrels":
        parts["qrels"]["test"][0] = ("q1", bad_id, 1)
    else:
        parts[where][0] = (bad_id, *parts[where][0][1:])
    message = bad("run", "-r", "retromae-mini", "-d", beir("ids", **parts))
    assert any(word in message for word in ("line 1: the id", "line 2: the id", "columns, want 3"))


@pytest.mark.parametrize("retriever", ["bm25", "coordination", "retromae-mini"])
def test_whatever_a_run_can_carry_is_searched_and_scored(beir, cli, tmp_path, retriever):
    """A no-break space in an id was refused, though neither trec_eval nor any reader of runs splits there."""
    docs = [(doc_id, "", f"{TEXTS[n % 4]} w{n}") for n, doc_id in enumerate(ODD)]
    queries = [(f"{doc_id}"[:500], f"w{n}") for n, doc_id in enumerate(ODD)]
    judged = [(query, doc_id, 1) for (query, _), (doc_id, *_) in zip(queries, docs, strict=True)]
    folder = beir("odd", docs=docs, queries=queries, qrels={"test": judged})
    answer = cli("run", "-r", retriever, "-d", folder, "-m", "r@9", "--json")
    assert answer.code == 0, answer.err
    [found] = json.loads(answer.out)
    result = harness.read(found["record"])
    assert set(result.to_dict()) <= {query for query, _ in queries}
    if retriever != "retromae-mini":
        assert found["metrics"]["R@9"] == 1.0
    result.to_trec(tmp_path / "out.trec")
    assert trec.read(tmp_path / "out.trec").doc_ids.tolist() == result.run.doc_ids.tolist()
    again = harness.score(tmp_path / "out.trec", str(folder), metrics=["R@9"])
    assert again.metrics == found["metrics"]


def test_every_id_that_passes_comes_back_from_a_file(tmp_path):
    """The rule against the file format itself: each character alone and inside a word."""
    letters = [chr(n) for n in range(1, 0x300)] + ["\u2028", "\u3000", "\ufeff", "\U0001f600"]
    for word in [x for letter in letters for x in (letter, f"a{letter}b")]:
        if ids.fault(word) is None:
            run = Run.of({word: {word: 1.0}})
            trec.write(run, tmp_path / "run.trec", "t")
            back = trec.read(tmp_path / "run.trec")
            assert exchange.to_dict(back) == exchange.to_dict(run), repr(word)
        else:
            assert set(word) & {chr(n) for n in range(33)} or word[0] == "\ufeff", repr(word)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"q1": {None: 1.0}}, "query 'q1': the document id None is no text"),
        ({None: {"d1": 1.0}}, "the query id None is no text"),
        ({"q1": {1.5: 1.0}}, "the document id 1.5 is no text"),
        ({"q1": {True: 1.0}}, "the document id True is no text"),
        ({"q1": {"\ud800": 1.0}}, "holds half of a surrogate pair"),
        ({"\udc80": {"d1": 1.0}}, "holds half of a surrogate pair"),
        ({"q1": {"a b": 1.0}}, "'a b' holds white space"),
        ({"q 1": {"d1": 1.0}}, "the query id 'q 1' holds white space"),
        ({"q1": ["d1", "d2"]}, "the results of query 'q1' hold 'd1'; want {document id: score}"),
        ({"q1": "d1"}, "the results of query 'q1' are 'd1'"),
        ({"q1": None}, "the results of query 'q1' are None"),
        ({"q1": [{"id": "d1", "score": 1.0}]}, "hold {'id': 'd1', 'score': 1.0}"),
        ({"q1": {"d1": None}}, "the score of document 'd1' for query 'q1' is None"),
        ({"q1": {"d1": "1.0"}}, "is '1.0'; want a number"),
        ({"q1": {"d1": float("nan")}}, "scores must be finite"),
        ({1: {"d1": 1.0}, "1": {"d2": 1.0}}, "two query ids are alike"),
        ({"q1": {"d1": 10**400}}, "want a number"),
        ("", "which is no path of a file"),
        ("a\0b", "which is no path of a file"),
        (pandas.DataFrame([["q1", "d1", 1, 2]], columns=["qid", "docno", "score", "score"]), "two columns score"),
        (pandas.DataFrame(), "has no column query_id (or qid, q_id, query); there is none"),
        ([{"query_id": "q1", "document_id": "d1", "score": 1.0}], "a list is no run"),
        (lambda: importlib.import_module("ranx").Qrels({"q1": {"d1": 1}}), "Qrels is no run, but judgments"),
        (pandas.Series([1.0]), "Series is no run"),
        (None, "a NoneType is no run"),
        (pandas.DataFrame({"qid": ["q1", None], "docno": ["d1", "d2"], "score": [1, 2]}), "row 1 of the DataFrame"),
        (pandas.DataFrame({"qid": ["q1", "q1"], "docno": ["d1", np.nan], "score": [1, 2]}), "id nan is no text"),
        (pandas.DataFrame({"qid": ["q1"], "docno": ["d1"], "score": [None]}), "is None; want a number"),
    ],
)  # fmt: skip
def test_what_is_no_run_in_memory_is_named(given, message, beir, tmp_path, monkeypatch):
    """`None` among the ids was an AttributeError, and ["d1", "d2"] was the documents "d" with scores 1 and 2."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        harness.score(given() if callable(given) else given, str(beir()))
    assert message in str(caught.value)
    assert not list(tmp_path.glob("results/*/*/*"))


def test_whole_numbers_stand_for_their_digits(beir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = str(beir("n", docs=[("1", "", "apple"), ("2", "", "pear")], queries=[("7", "apple")],
                      qrels={"test": [("7", "1", 1)]}))  # fmt: skip
    frame = pandas.DataFrame({"qid": [7, 7], "docno": [1, 2], "score": [2, 1]})
    for given in ({7: {1: 2.0, 2: 1.0}}, {np.int64(7): [(np.int32(1), np.float32(2)), (2, 1)]}, frame):
        assert harness.score(given, folder, metrics="MRR@10").metrics == {"MRR@10": 1.0}
    assert list(harness.retrieve("bm25", folder, {3: "apple"}).to_dict()) == ["3"]


@pytest.mark.parametrize(
    "given",
    [["apple"], {"q": None}, {"a b": "apple"}, {None: "apple"}, {}, "apple", {"q": "\ud800 x"}, {1: "a", "1": "b"}],
)
def test_what_are_no_queries_is_named(given, beir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"quer"):
        harness.retrieve("bm25", str(beir()), given)


@pytest.mark.parametrize("field", ["title", "text"])
def test_a_text_longer_than_the_indexer_reads(tmp_path, field, bad, monkeypatch):
    """Anserini's reader of JSON left it out, and the message was "the index holds 0 … Is there space?"."""
    docs = [("d1", "", "apple"), ["big", "", ""]]
    docs[1][1 if field == "title" else 2] = "apple " * 3_333_333 + "abc"
    folder = write_beir(tmp_path / "long", docs, [("q1", "apple")], {"test": [("q1", "d1", 1)]})
    message = bad("run", "-r", "bm25", "-d", folder)
    assert f"document 'big': its {field} has 20,000,001 characters" in message
    assert "reads 20,000,000 at most" in message
    monkeypatch.setattr(lucene, "_LONGEST", 4)
    lucene._check_length(Document("a", "\U0001f600" * 2, "four"))
    with pytest.raises(InputError, match="has 6 characters"):  # as Java counts them
        lucene._check_length(Document("a", "\U0001f600" * 3, ""))


@pytest.mark.parametrize(
    "found", [{"問": {"文一": 1.0, "文": 2.0}}, {"q": {"aĀ": 3.0, "a": 1.0, "b一c": 2.0}}, {"q": {"x\u3000": 1.0}}]
)
def test_ids_that_numba_cuts(found):
    """A last letter whose code point ends in a zero byte, such as 一, was lost on the way out of a ranx Run."""
    ranx = importlib.import_module("ranx")
    assert exchange.to_dict(exchange.of_any(ranx.Run(found))) == found
    assert exchange.to_dict(exchange.of_any(exchange.to_ranx(Run.of(found)))) == found


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: harness.score({"q1": {"d1": 1.0}}, d, name=5), "--name is 5"),
        (lambda d: harness.score({"q1": {"d1": 1.0}}, d, name="n" * 101), "is too long: want 100 letters at most"),
        (lambda d: harness.score({"q1": {"d1": 1.0}}, d, name="a\nb"), "holds what cannot be printed"),
        (lambda d: harness.score({"q1": {"d1": 1.0}}, d, results=None), "results is None; want a path"),
        (lambda d: harness.score({"q1": {"d1": 1.0}}, d, results="a\0"), "holds a NUL byte"),
        (lambda d: harness.run(None, d), "the retriever is None; want its name"),
        (lambda d: harness.read(None), "a record's folder is None"),
        (lambda d: harness.compare({}, {}), "do not say which collection they are of"),
        (lambda d: harness.compare({}, {}, dataset=d), "the run in memory holds no results"),
        (lambda d: harness.fuse(*TWO, dataset=d, method="weighted", weights="1,2"), "want a list of numbers"),
        (lambda d: harness.fuse(*TWO, dataset=d, method="weighted", weights=[1, None]), "harness fuse: weights.1: "),
        (lambda d: harness.fuse(*TWO, dataset=d, k=1.5), "k is 1.5; want a whole"),
        (lambda d: harness.fuse(*TWO, dataset=d, k="x"), "k is x; want a whole"),
    ],
)  # fmt: skip
def test_what_is_given_in_python_and_cannot_be(beir, tmp_path, monkeypatch, call, message):
    """A raw exception of another library told nothing of what was given."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r".") as caught:
        call(str(beir()))
    assert isinstance(caught.value, InputError), caught.value
    assert message in str(caught.value)


def test_numpys_numbers_and_paths_will_do(beir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = beir()
    run = harness.run(
        "bm25", folder, top_k=np.int64(1000), queries_with_text=np.True_, force=np.False_, threads=np.int32(1)
    )
    assert harness.run("bm25", str(folder)).folder == run.folder
    assert list(harness.retrieve("bm25", folder, {np.str_("z"): np.str_("apples")}).to_dict()) == ["z"]
