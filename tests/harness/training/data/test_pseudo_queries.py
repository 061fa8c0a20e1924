"""Training pairs made of plain texts: what each kind takes and leaves, and the collection that comes of them."""

import json

import numpy as np
import pytest
from pydantic import ValidationError

from harness.datasets.loader import resolve
from harness.retrievers.errors import InputError
from harness.retrievers.types import Document, Run
from harness.runs.config import RetrieverSpec
from harness.runtime.job import HarnessJob
from harness.training.data import pseudo_queries
from harness.training.recipe_data import CorpusPart, Pseudo

TEXT = "Tides rise and fall twice a day. The Moon draws the water towards itself. Harbours keep tables of the hours."
DOCUMENT = Document("", "Tide", TEXT)


def pseudo(*kinds, corpus="texts.jsonl", words=16, **more):
    return Pseudo(corpora=[CorpusPart(name=str(corpus))], kinds=dict.fromkeys(kinds, 1.0), words=words, **more)


def made(kind, document=DOCUMENT, words=16, seed=0):
    return pseudo_queries.pair(document, pseudo(kind, words=words), np.random.default_rng(seed))


def test_a_title_asks_for_its_text_which_comes_without_it():
    assert made("title") == ("Tide", Document("", "", TEXT))


@pytest.mark.parametrize("seed", range(12))
def test_a_sentence_is_taken_out_of_its_text(seed):
    query, left = made("sentence", seed=seed)
    sentences = TEXT.replace(". ", ".|").split("|")
    assert query in sentences
    assert left == Document("", "Tide", " ".join(s for s in sentences if s != query))


@pytest.mark.parametrize("seed", range(12))
def test_a_crop_is_a_run_of_words_that_the_text_still_holds(seed):
    query, left = made("crop", words=5, seed=seed)
    assert left == DOCUMENT
    assert query in TEXT
    assert 3 <= len(query.split()) <= 5


@pytest.mark.parametrize("seed", range(5))
def test_a_long_sentence_is_cut_to_the_words_asked_for(seed):
    query, left = made("sentence", words=4, seed=seed)
    assert len(query.split()) == 4
    assert query in TEXT
    assert query not in left.text


def test_a_text_that_cannot_have_a_kind_has_another_or_none():
    untitled = Document("", "", TEXT)
    assert made("title", untitled) is None
    assert made("sentence", Document("", "Tide", "Tides rise and fall.")) is None
    assert made("crop", Document("", "Tide", "Tides rise.")) is None
    both = pseudo("title", "crop")
    assert all(pseudo_queries.pair(untitled, both, np.random.default_rng(n))[1] == untitled for n in range(8))


def test_kinds_come_by_their_shares():
    many = Pseudo(corpora=[CorpusPart(name="x")], kinds={"title": 1.0, "sentence": 0.0, "crop": 3.0})
    queries = [pseudo_queries.pair(DOCUMENT, many, np.random.default_rng([1, n]))[0] for n in range(4000)]
    # binomial(4000, 1/4) has a standard deviation of 27.4; five of them
    assert abs(queries.count("Tide") - 1000) < 137


def test_a_collection_is_made_once_and_read_by_the_loader(tmp_path):
    corpus = tmp_path / "texts.jsonl"
    rows = [{"title": "Tide", "text": TEXT}, {"title": "", "text": "Too short."}, {"title": "Sea", "text": TEXT}]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    job, wanted = HarnessJob(tmp_path / "cache", None), pseudo("sentence", corpus=corpus)
    place = pseudo_queries.collection(wanted, [str(corpus)], job)
    dataset = resolve(str(place))[0]
    dataset.open(job)
    assert [document.doc_id for document in dataset.documents()] == ["d0", "d2"]
    assert dataset.qrels == {"q0": {"d0": 1}, "q2": {"d2": 1}}
    for query, document in zip(dataset.queries, dataset.documents(), strict=True):
        assert query.text in TEXT
        assert query.text not in document.text
    before = (place / "queries.jsonl").stat().st_mtime_ns
    assert pseudo_queries.collection(wanted, [str(corpus)], job) == place
    assert (place / "queries.jsonl").stat().st_mtime_ns == before
    assert pseudo_queries.collection(wanted.model_copy(update={"seed": 1}), [str(corpus)], job) != place


def collection_of(tmp_path, texts, **more):
    """The pairs of some texts, opened; `asked` are lines of a file of queries."""
    asked = None
    if "asked" in more:
        asked = tmp_path / "asked.txt"
        asked.write_text("".join(f"{line}\n" for line in more["asked"]))
        more["asked"] = str(asked)
    corpus = tmp_path / "texts.txt"
    corpus.write_text("".join(f"{text}\n" for text in texts))
    wanted = pseudo("crop", corpus=corpus, **more)
    job = HarnessJob(tmp_path / "cache", 1)
    [dataset] = resolve(str(pseudo_queries.collection(wanted, [str(corpus)], job, asked and str(asked))))
    dataset.open(job)
    return dataset


TEXTS = ["red apples grow on trees in the sun", "the river runs to the sea past the bank", "x y z " * 4, "x y z " * 5]


def test_a_round_trip_keeps_the_queries_that_find_their_own_text(tmp_path):
    """`coordination` counts shared words: of the two texts of the same words each is found by either's query."""
    all_kept = collection_of(tmp_path, TEXTS, round_trip={"retriever": "coordination", "within": 2})
    assert [query.query_id for query in all_kept.queries] == ["q0", "q1", "q2", "q3"]
    first = collection_of(tmp_path, TEXTS, round_trip={"retriever": "coordination", "within": 1})
    assert [query.query_id for query in first.queries] == ["q0", "q1", "q3"]  # of a tie the greater id comes first
    assert first.count == 4  # documents stay
    assert first.content_hash == all_kept.content_hash


def test_a_round_trip_through_another_model_of_the_same_name_is_made_anew(tmp_path, monkeypatch):
    """By the retriever's fingerprint, which holds the bytes of a checkpoint."""
    trip = {"round_trip": {"retriever": "coordination", "within": 2}}
    first = collection_of(tmp_path, TEXTS, **trip).source.folder
    assert collection_of(tmp_path, TEXTS, **trip).source.folder == first
    kind = type(pseudo_queries.make_retriever(RetrieverSpec(name="coordination")))
    monkeypatch.setattr(kind, "fingerprint", lambda _self: "other weights")
    assert collection_of(tmp_path, TEXTS, **trip).source.folder != first


def test_what_is_kept_apart_is_not_among_them(tmp_path):
    """Titles are no draw: without it every pair would be held out and learned from."""
    corpus = tmp_path / "texts.jsonl"
    rows = [{"title": f"Title {number % 5}", "text": TEXT} for number in range(10)]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    job = HarnessJob(tmp_path / "cache", 1)
    few = Pseudo(corpora=[CorpusPart(name=str(corpus), documents=2)], kinds={"title": 1.0})
    held_out = pseudo_queries.collection(few, [str(corpus)], job)
    rest = pseudo("title", corpus=corpus, apart_from="held_out")
    [dataset] = resolve(str(pseudo_queries.collection(rest, [str(corpus)], job, None, held_out)))
    dataset.open(job)
    assert {query.text for query in dataset.queries} == {"Title 2", "Title 3", "Title 4"}


def test_own_questions_are_answered_by_what_is_found_first(tmp_path):
    asked = ["where does the river run", "apples", "", "apples", "nothing of this"]
    found = collection_of(tmp_path, TEXTS, asked=asked, round_trip={"retriever": "coordination"})
    assert [query.text for query in found.queries][:2] == ["where does the river run", "apples"]
    assert [found.qrels[query.query_id] for query in found.queries][:2] == [{"d1": 1}, {"d0": 1}]
    assert found.count == 4


def test_a_round_trip_that_nothing_survives(tmp_path, monkeypatch):
    none = Run.from_blocks(["q0", "q1", "q2", "q3"], [])
    monkeypatch.setattr(pseudo_queries, "searched", lambda *_words: none)
    with pytest.raises(InputError, match=r"0 of 4 queries find their own text among the best 20 by coordination"):
        collection_of(tmp_path, TEXTS, round_trip={"retriever": "coordination"})
    with pytest.raises(InputError, match=r"asked.txt holds no query"):
        collection_of(tmp_path, TEXTS, asked=[""], round_trip={"retriever": "coordination"})


def test_what_trained_by_them_is_named():
    of = {"corpora": [CorpusPart(name="texts", documents=5)]}
    trip = {"retriever": "bm25"}
    shown = [
        next(pseudo_queries.names(Pseudo(**of, **more)))
        for more in ({}, {"writer": {"model": "t5"}}, {"asked": "my.txt", "round_trip": trip})
    ]
    assert shown == [
        f"pseudo-queries ({how}) of texts, first 5" for how in ("title, sentence, crop", "written by t5", "of my.txt")
    ]


def test_corpora_without_a_query_are_refused_and_leave_nothing(tmp_path):
    corpus = tmp_path / "lines.txt"
    corpus.write_text("one\ntwo words\n")
    with pytest.raises(InputError, match="hold no text to make a query of"):
        pseudo_queries.collection(pseudo("crop", corpus=corpus), [str(corpus)], HarnessJob(tmp_path, None))
    assert not [path for path in (tmp_path / pseudo_queries.FOLDER).iterdir() if not path.name.startswith(".")]


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"kinds": {"crop": 0}}, "give one of title, sentence, crop a share above 0"),
        ({"kinds": {"poem": 1}}, "Input should be 'title', 'sentence' or 'crop'"),
        ({"corpora": []}, "at least 1 item"),
        ({"asked": "my.txt"}, "round_trip names the retriever that does"),
        ({"asked": "my.txt", "writer": {"model": "x"}}, "writer and asked: give one of them"),
        ({"writer": {"model": "x", "prompt": "write"}}, "{text} must stand where the text comes in"),
        ({"round_trip": {"retriever": "bm25", "within": 0}}, "greater than or equal to 1"),
        ({"corpora": [{"name": "x", "join": 5}]}, "texts that are joined have no titles"),
    ],
)
def test_what_cannot_be_asked_for(values, part):
    with pytest.raises(ValidationError, match=part):
        Pseudo.model_validate({"corpora": ["x"]} | values)
