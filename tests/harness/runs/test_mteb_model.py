"""`harness.mteb` under the installed mteb: a task defined here, whose scores are those of our own records."""

import pytest

import harness
from harness.retrievers.errors import InputError
from harness.runs.mteb_model import MtebCorpus
from tests.support import sbert
from tests.support.datasets import write_beir
from tests.support.neural import DOCS, QRELS, QUERIES

mteb = pytest.importorskip("mteb", reason="the bridge is tested against mteb: pip install 'dupmae-harness[mteb]'")
from datasets import Dataset  # noqa: E402  # which mteb brings
from mteb.abstasks.retrieval import AbsTaskRetrieval  # noqa: E402
from mteb.abstasks.task_metadata import TaskMetadata  # noqa: E402

NOTHING = ("q3", "zzz")  # of which BM25 finds no document
JUDGED = [*QRELS["test"], ("q3", "d4", 1)]


def table(rows, *columns):
    return Dataset.from_list([dict(zip(columns, row, strict=True)) for row in rows])


class Toy(AbsTaskRetrieval):
    metadata = TaskMetadata(
        name="Toy",
        description="A river, apples and money.",
        type="Retrieval",
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
        dataset={"path": "none/none", "revision": "1"},
    )

    def load_data(self, **_):
        grades = {}
        for query_id, doc_id, grade in JUDGED:
            grades.setdefault(query_id, {})[doc_id] = grade
        self.dataset = {
            "default": {
                "test": {
                    "corpus": table(DOCS, "id", "title", "text"),
                    "queries": table([*QUERIES, NOTHING], "id", "text"),
                    "relevant_docs": grades,
                    "top_ranked": None,
                }
            }
        }
        self.data_loaded = True


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_beir(tmp_path / "toy", docs=DOCS, queries=[*QUERIES, NOTHING], qrels={"test": JUDGED})


def first_letters(queries, corpus, k):
    """So many words of a document begin as a word of the query does."""
    begins = {doc.doc_id: [word[0] for word in doc.joined.split()] for doc in corpus}
    return {q: {d: sum(map(found.count, {w[0] for w in text.split()})) for d, found in begins.items()}
            for q, text in queries.items()}  # fmt: skip


def test_mteb_computes_of_every_retriever_what_we_record(tmp_path, toy):
    folder, _ = sbert.static(tmp_path)
    metrics = ["NDCG@10", "MRR@10", "R@1", "R@5", "MAP@10", "P@3", "Success@1"]
    names = {"NDCG": "ndcg", "MRR": "mrr", "R": "recall", "MAP": "map", "P": "precision", "Success": "hit_rate"}
    for retriever, options in (("bm25", {"b": 0.2}), (f"st:{folder}", {"device": "cpu"}), (first_letters, {})):
        model = harness.mteb(retriever, **options)
        assert isinstance(model, mteb.SearchProtocol)
        assert not isinstance(model, mteb.EncoderProtocol)
        result = mteb.evaluate(model, tasks=[Toy()], cache=None, show_progress_bar=False)
        [task] = result.task_results
        [theirs] = task.scores["test"]
        ours = harness.run(retriever, toy, metrics=metrics, **options)
        found = {f"{names[name.split('@')[0]]}_at_{name.split('@')[1]}": value for name, value in ours.metrics.items()}
        assert {name: theirs[name] for name in found} == pytest.approx(found, abs=5.1e-6)  # five digits there
        assert theirs["main_score"] == theirs["ndcg_at_10"] > 0.1
        assert result.model_name.startswith("dupmae-harness/")
        written = mteb.results.TaskResult.from_disk(
            ours.to_mteb(tmp_path / "toy.mteb.json", task="Toy", languages="eng-Latn")
        )
        assert written.task_name == "Toy"
        assert written.get_score() == pytest.approx(task.get_score(), abs=5.1e-6)


def test_a_collection_has_one_store_whichever_way_it_comes(tmp_path, toy, monkeypatch):
    folder, _ = sbert.static(tmp_path)
    model = harness.mteb(f"st:{folder}", device="cpu")
    model.index(table(DOCS, "id", "title", "text"), task_metadata=Toy.metadata)
    found = model.search(table([*QUERIES, NOTHING], "id", "text"), top_k=3)
    monkeypatch.setattr(
        "sentence_transformers.SentenceTransformer.encode_document", lambda *a, **k: pytest.fail("encoded again")
    )
    assert harness.run(f"st:{folder}", toy, device="cpu", top_k=3).to_dict() == found


def test_the_revision_names_all_that_decides_the_results():
    revision = {
        name: harness.mteb(*asked, **options).mteb_model_meta.revision
        for name, asked, options in (
            ("plain", ["bm25"], {}),
            ("again", ["bm25"], {}),
            ("other", ["bm25"], {"k1": 2.0}),
            ("function", [first_letters], {}),
            ("next", [first_letters], {}),
            ("versioned", [first_letters], {"version": "1"}),
            ("versioned again", [first_letters], {"version": "1"}),
        )
    }
    assert revision["plain"] == revision["again"]
    assert revision["versioned"] == revision["versioned again"]
    assert len(set(revision.values())) == 5
    meta = harness.mteb(first_letters, name="my-own").mteb_model_meta
    assert (meta.name, meta.model_type) == ("dupmae-harness/my-own", [])


def test_instructions_follow_the_query_as_mteb_has_it():
    heard = {}

    def listens(queries, corpus, k):
        heard.update(queries)
        return {}

    model = harness.mteb(listens)
    model.index(table(DOCS, "id", "title", "text"), task_metadata=Toy.metadata)
    rows = [("q1", "apples", "Find red ones."), ("q2", "fish", None)]
    assert model.search(table(rows, "id", "text", "instruction"), top_k=9) == {"q1": {}, "q2": {}}
    assert heard == {"q1": "apples Find red ones.", "q2": "fish"}


def test_what_cannot_be_searched_is_refused(monkeypatch):
    model = harness.mteb(first_letters)
    queries = table(QUERIES, "id", "text")
    with pytest.raises(InputError, match="search comes before index"):
        model.search(queries, top_k=3)
    for rows, columns, message in (
        ([("d1", "a.png")], ("id", "image"), "Toy: its corpus have no text; there is id, image. Texts alone"),
        ([("d1", "a"), ("d1", "b")], ("id", "text"), "Toy: the document id 'd1' occurs twice in the corpus"),
        ([("d 1", "a")], ("id", "text"), "Toy: the document id 'd 1' holds white space"),
    ):
        with pytest.raises(InputError, match=message):
            model.index(table(rows, *columns), task_metadata=Toy.metadata)
    with pytest.raises(InputError, match="the corpus of Toy is empty"):
        MtebCorpus(Dataset.from_dict({"id": [], "text": []}), "Toy")
    model.index(table(DOCS, "id", "title", "text"), task_metadata=Toy.metadata)
    with pytest.raises(
        InputError, match="Toy re-ranks documents that it names, and first_letters searches whole corpora"
    ):
        model.search(queries, top_k=3, top_ranked={"q1": ["d1"]})
    with pytest.raises(InputError, match="Toy: the query 'q1' is no text"):
        model.search(table([("q1", ["a turn", "another"])], "id", "text"), top_k=3)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"harness\.mteb needs mteb: pip install 'dupmae-harness\[mteb\]'"):
        harness.mteb("bm25")
