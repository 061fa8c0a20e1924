"""Objects of a program as retrievers: functions, PyTerrier's transformers, and `Retriever` itself."""

import functools
import json
import sys
from types import SimpleNamespace

import pandas
import pytest

import harness
from harness.retrievers import functions
from harness.retrievers.errors import InputError
from harness.runs.results import Result
from tests.support.paths import ROOT
from tests.support.retrievers import Fixed

FOUND = {"q1": {"d2": 2.0, "d1": 1.0}, "q2": {"d3": 1.0}}


@pytest.fixture
def here(beir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return str(beir())


class Terrier:
    """A transformer as PyTerrier's documentation says: qid and query in; qid, query, docid, docno, rank, score out."""

    def __init__(self, found=FOUND):
        self.found, self.asked = found, None

    def transform(self, frame):
        self.asked = frame
        rows = [
            (row.qid, row.query, 7, doc_id, rank, score)
            for row in frame.itertuples()
            for rank, (doc_id, score) in enumerate(self.found.get(row.qid, {}).items())
        ]
        return pandas.DataFrame(rows, columns=["qid", "query", "docid", "docno", "rank", "score"])

    def __call__(self, frame):
        return self.transform(frame)


def test_a_function_is_searched_scored_and_recorded(here):
    """Words in common: d1 has both of q1's and d3 both of q2's; of those with none the greater id comes first."""

    asked = []

    def overlap(queries, corpus, k):
        texts = {doc.doc_id: doc.joined.casefold().split() for doc in corpus}
        assert (len(corpus), corpus.name, len(corpus.content_hash)) == (3, "tiny/test", 64)
        asked.append(k)
        assert texts == {doc.doc_id: doc.joined.casefold().split() for doc in corpus}  # it can be read again
        return {q: {d: len({*text.split()} & {*words}) for d, words in texts.items()} for q, text in queries.items()}

    run = harness.run(overlap, here, metrics=["NDCG@2", "R@2"], top_k=2)
    assert isinstance(run, Result)
    assert run.to_dict() == {"q1": {"d1": 2.0, "d3": 0.0}, "q2": {"d3": 2.0, "d2": 0.0}}
    system = run.manifest.system
    assert (system.retriever, system.system) == ("overlap", "overlap, a function")
    assert system.options["function"].endswith("test_a_function_is_searched_scored_and_recorded.<locals>.overlap")
    assert run.metrics["R@2"] == pytest.approx((1 / 2 + 1) / 2)
    assert run.folder.parts[-3:-1] == ("tiny-test", "overlap")
    assert harness.retrieve(overlap, here, {"mine": "pears"}, name="other").to_dict()["mine"]["d2"] == 1.0
    assert asked == [2, 3]  # what a ranking may hold, never more than there are documents


def test_whatever_is_a_run_may_be_returned(here):
    import ranx

    frame = pandas.DataFrame([("q1", "d2", 2), ("q1", "d1", 1), ("q2", "d3", 1)], columns=["qid", "docno", "score"])
    for number, found in enumerate((FOUND, harness.Run.of(FOUND), frame, ranx.Run(FOUND))):
        run = harness.run(lambda queries, corpus, k, found=found: found, here, name=f"n{number}", rerank=None)
        assert run.to_dict() == FOUND


def test_a_function_without_a_version_is_never_found(here):
    asked = []

    def mine(queries, corpus, k):
        asked.append(k)
        return {"q1": {"d1": len(asked) // 2}}

    first, second, third = (harness.run(mine, here, metrics=["NDCG@10"]) for _ in range(3))
    assert len(asked) == 3
    assert first.folder != second.folder == third.folder  # the results name the record: 0, 1 and 1
    assert (first.to_dict()["q1"], second.to_dict()["q1"]) == ({"d1": 0.0}, {"d1": 1.0})  # also of the first, still
    assert any("nothing says which state of mine made this record" in each for each in second.manifest.warnings)
    assert second.manifest.created <= third.manifest.created


def test_a_version_is_found_again_and_only_that(here):
    asked = []

    def mine(queries, corpus, k):
        asked.append(k)
        return FOUND

    first = harness.run(mine, here, version="a")
    assert harness.run(mine, here, version="a").folder == first.folder
    assert harness.run(mine, here, version="a", metrics=["MAP@2"]).metrics["MAP@2"] > 0  # scored from the record
    assert len(asked) == 1
    assert harness.run(mine, here, version="b").folder != first.folder
    assert harness.run(mine, here, version="a", force=True).folder == first.folder
    assert len(asked) == 3
    assert not [each for each in first.manifest.warnings if "state of" in each]
    assert "mine (version=a)" in repr(first)

    def other(queries, corpus, k):
        return {"q1": {"d1": 1}}

    assert harness.run(other, here, name="mine", version="a").folder != first.folder


def test_names_come_from_the_object_unless_given(here):
    def mine(queries, corpus, k, more=1):
        return FOUND

    class Model:
        def __call__(self, queries, corpus, k):
            return FOUND

    for found, name in ((mine, "mine"), (functools.partial(mine, more=2), "mine"), (Model(), "Model")):
        assert harness.run(found, here).name == name
    assert harness.run(mine, here, name="my-own").name == "my-own"


def test_a_transformer_of_pyterrier(here):
    pipeline = Terrier()
    run = harness.run(pipeline, here, top_k=1, metrics=["NDCG@1"], name="dph")
    assert pipeline.asked.columns.tolist() == ["qid", "query"]
    assert pipeline.asked.values.tolist() == [["q1", "red apples"], ["q2", "sea water"]]
    assert run.to_dict() == {"q1": {"d2": 2.0}, "q2": {"d3": 1.0}}
    assert run.manifest.system.options["transformer"].endswith("test_asked.Terrier")
    assert harness.run(Terrier({}), here).manifest.data.counts["queries_without_results"] == 2


def test_pyterriers_release_is_in_the_record_of_its_transformers(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyterrier", SimpleNamespace(__version__="1.1.2"))
    theirs = type("Compose", (Terrier,), {"__module__": "pyterrier._ops"})()
    said = functions.of_object(theirs, None, None).resolved()
    assert said == {"version": None, "transformer": "pyterrier._ops.Compose", "pyterrier": "1.1.2"}
    assert "pyterrier" not in functions.of_object(Terrier(), None, None).resolved()


def test_the_function_of_the_documentation_runs(here):
    """Words in common are the weakest of retrievers, and find more of `mini` than no order at all would."""
    page = (ROOT / "docs" / "others.md").read_text(encoding="utf-8")
    names = {}
    code = page.partition("```python\n")[2].partition("```")[0]
    exec(code.partition("print")[0], names)  # the lines after it compare with BM25
    assert 0.3 < names["run"].metrics["NDCG@10"] < 0.6


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"q1": {"d9": 1.0, "d1": 2.0}}, "found returned 1 documents that tiny/test has not, such as 'd9'"),
        ({"q3": {"d1": 1.0}}, "found returned 1 queries that it was not asked, such as 'q3'. Use the ids that it is"),
        ({"q1": [("d1", 1.0), ("d1", 2.0)]}, "'d1'"),
        ({"q1": {"d1": float("nan")}}, "the score of document 'd1' for query 'q1' is nan"),
        ({"q1": ["d1"]}, "what found returned is no run"),
        (None, "what found returned is no run: a NoneType is no run"),
        (pandas.DataFrame({"qid": ["q1"], "score": [1.0]}), "has no column document_id"),
    ],
)
def test_what_no_retriever_may_return_is_refused(here, tmp_path, found, message):
    with pytest.raises(InputError) as error:
        harness.run(lambda queries, corpus, k: found, here, name="found")
    assert message in str(error.value)
    assert not list((tmp_path / "results").glob("*/*"))


def test_what_is_no_retriever_is_refused(here):
    class Sized(Fixed):
        results = FOUND

    async def later(queries, corpus, k):
        return FOUND

    def mine(queries, corpus, k):
        return FOUND

    for asked, message in (
        (lambda: harness.run(lambda q, c, k: FOUND, here), r"has no name of its own, .* Give name=…"),
        (lambda: harness.run(print, here, k1=2), "k1: options are of retrievers by name"),
        (
            lambda: harness.run(lambda queries: FOUND, here, name="a"),
            r"a takes \(queries\); a retriever is called as a\(q",
        ),
        (lambda: harness.run(later, here), r"later is a coroutine"),
        (lambda: harness.run(mine, here, name="bm25"), "bm25 is a retriever of its own"),
        (lambda: harness.run(mine, here, name="hf:model"), "hf:model is a retriever of its own"),
        (lambda: harness.run(mine, here, name="a\nb"), r"the name 'a\\nb' is no word. Want 1 to 100 .*, such as a-b"),
        (lambda: harness.run(Sized, here, name=""), "the name '' is no word"),
        (lambda: harness.run(Sized(Sized.Options()), here, name=3), "the name 3 is no word. Want 1 to 100 [^,]*, digi"),
        (lambda: harness.run(3, here), "the retriever is 3; want its name, such as bm25, a function"),
        (lambda: harness.run(Terrier, here), r"the retriever is <class .*Terrier'>; want its name"),
        (
            lambda: harness.run(Sized(Sized.Options()), here, version="1"),
            "version is of functions and transformers; Sized",
        ),
        (lambda: harness.run(Sized, here, depth_=3), "retriever Sized: depth_: unknown; there is none"),
        (lambda: harness.run("bm25", here, version="1"), "no retriever of this run has the option 'version'"),
    ):
        with pytest.raises(InputError, match=message):
            asked()


def test_what_a_function_raises_is_not_caught(here):
    def broken(queries, corpus, k):
        return {}["lost"]

    with pytest.raises(KeyError, match="lost"):
        harness.run(broken, here)


def test_a_retriever_of_ones_own_is_run_as_a_registered_one_is(here):
    class Mine(Fixed):
        results = FOUND
        searches = 0

        class Options(harness.Options):
            width: int = 3

    first = harness.run(Mine(Mine.Options(width=2)), here)
    again = harness.run(Mine, here, width=2)
    assert (first.folder, first.name, first.manifest.system.asked) == (again.folder, "Mine", {"width": 2})
    assert harness.run(Mine, here, name="other").folder != first.folder
    assert Mine.searches == 2


def test_an_object_is_reranked_fused_and_compared_like_any(here):
    def mine(queries, corpus, k):
        return FOUND

    run = harness.run(mine, here)
    fused = harness.fuse(run, harness.run(Terrier({"q1": {"d1": 1.0}}), here))
    assert json.loads((fused.folder / "manifest.json").read_text())["system"]["fused"][0]["name"] == "mine"
    assert harness.compare(run, fused).significance.queries == 2
