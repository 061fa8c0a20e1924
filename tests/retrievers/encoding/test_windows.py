"""Windows of long documents: where they are, what they score, and the search by them against every window scored."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import harness
from harness.retrievers.encoding.windows import (
    Grouping,
    Splitter,
    WindowedCorpus,
    Windows,
    combined,
    document_of,
    spans,
)
from harness.retrievers.errors import InputError
from harness.retrievers.registry import get
from harness.retrievers.types import Document
from tests.support import late, tiny
from tests.support.datasets import opened, write_beir

pytestmark = pytest.mark.usefixtures("one_thread")


def test_spans_by_hand():
    """Tokens of one letter: windows of 4, each 2 behind the one before; the last ends with the text."""
    letters = [(n, n + 1) for n in range(9)]
    words = list(range(9))
    assert spans(letters, words, 4, 2) == [(0, 4), (2, 6), (4, 8), (6, 9)]
    assert spans(letters[:4], words[:4], 4, 2) == [(0, 4)]
    assert spans([], [], 4, 2) == [(0, 0)]
    # tokens 3 to 5 are one word, which no window begins or ends inside
    assert spans(letters, [0, 1, 2, 3, 3, 3, 6, 7, 8], 4, 4) == [(0, 3), (3, 7), (7, 9)]
    # but for one that is longer than a window
    assert spans(letters, [0, 1, 1, 1, 1, 1, 1, 1, 1], 4, 4) == [(0, 1), (1, 5), (5, 9)]


@given(
    lengths=st.lists(st.integers(1, 7), max_size=30),
    size=st.integers(1, 12),
    data=st.data(),
)
def test_windows_hold_every_token_and_none_is_too_long(lengths, size, data):
    stride = data.draw(st.integers(1, size))
    words = [number for number, length in enumerate(lengths) for _ in range(length)]
    offsets = [(n, n + 1) for n in range(len(words))]
    found = spans(offsets, words, size, stride)
    covered = {n for low, high in found for n in range(low, high)}
    assert covered == set(range(len(words)))
    assert all(high - low <= size for low, high in found)
    assert all(low < other for (low, _), (other, _) in pairwise(found))


def test_scores_by_hand():
    scores = np.array([1.0, 4.0, 2.0, 3.0], dtype=np.float32)
    assert [combined(scores, how) for how in ("max", "first", "sum", "top3")] == [4, 1, 10, 3]
    assert combined(scores[:2], "top3") == 2.5
    grouping = Grouping.of(np.array([2, 1, 3]), "max")
    assert grouping.owners(np.array([0, 1, 2, 3, 5])).tolist() == [0, 0, 1, 2, 2]
    assert grouping.distinct(np.array([4, 0, 3, 2, 1])).tolist() == [2, 0, 1]
    assert grouping.rows_of(np.array([0, 2])).tolist() == [0, 1, 3, 4, 5]
    assert grouping.scores(np.array([0, 2]), scores[[0, 1, 2, 3, 0]]).tolist() == [4, 3]
    assert document_of(b"a#b#0") == b"a#b"


WORDS = tiny.WORDS  # each is one token
rng = np.random.default_rng(3)
SIZES = rng.integers(0, 140, 25)
DOCS = [(f"d{n}", "red", " ".join(rng.choice(WORDS, size=int(size)))) for n, size in enumerate(SIZES)]
QUERIES = [("q0", "river bank"), ("q1", "sea fish"), ("q2", "green apples money")]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.save_hybrid(tmp_path / "m")
    write_beir(tmp_path / "col", DOCS, QUERIES, {"test": [("q0", "d1", 1), ("q1", "d2", 1), ("q2", "d3", 1)]})
    return tmp_path


def windows_as_documents(place, job, size, stride):
    """The collection whose documents are the windows, made by the splitter alone; {window id: document id}."""
    retriever = get("dupmae")
    made = retriever(retriever.Options(checkpoint=str(place / "m")))
    splitter = Splitter(made.encoder.loaded.tokenizer, Windows(size, stride), made.titles, "")
    corpus = WindowedCorpus(opened(place / "col", job), splitter, "x", False, job)
    found = list(corpus.documents())
    assert len(found) == corpus.count > len(DOCS)
    qrels = {"test": [("q0", found[0].doc_id, 1), ("q1", found[0].doc_id, 1), ("q2", found[0].doc_id, 1)]}
    write_beir(place / "cut", [tuple(doc) for doc in found], QUERIES, qrels)
    return corpus.count


@pytest.mark.parametrize("score", ["max", "sum", "top3"])
@pytest.mark.parametrize("top_k", [25, 3])
def test_a_document_scores_by_its_windows(place, job, score, top_k):
    """Against a search of the windows as documents of a collection, put together by hand."""
    count = windows_as_documents(place, job, 24, 10)
    every = harness.run("dupmae", "cut", checkpoint="m", max_length=24).to_dict()
    found = harness.run("dupmae", "col", checkpoint="m", windows="24/10", window_score=score, top_k=top_k)
    for query_id, windows in every.items():
        by_document = {}
        for window, value in windows.items():
            by_document.setdefault(window.rpartition("#")[0], []).append(value)
        rank = {"max": max, "sum": sum, "top3": lambda v: sum(sorted(v)[-3:]) / len(sorted(v)[-3:])}[score]
        expected = {doc_id: rank(values) for doc_id, values in by_document.items()}
        own = found.to_dict()[query_id]
        assert len(own) == top_k
        for doc_id, value in own.items():
            assert value == pytest.approx(expected[doc_id], rel=1e-5)
        if score == "max" or top_k == 25:
            assert set(own) == set(sorted(expected, key=lambda one: (expected[one], one), reverse=True)[:top_k])
    system = found.manifest.system
    assert (system.options["windows"], system.options["windows_searched"]) == ("24/10", count)
    assert system.options["window_score"] == score
    cut = harness.run("dupmae", "col", checkpoint="m", max_length=24).manifest.system
    assert system.bytes_per_document == pytest.approx(cut.bytes_per_document * count / len(DOCS))


def test_the_first_window_is_a_text_that_is_cut(place):
    first = harness.run("dupmae", "col", checkpoint="m", windows="24/24", window_score="first").to_dict()
    cut = harness.run("dupmae", "col", checkpoint="m", max_length=24).to_dict()
    for query_id, scores in cut.items():
        assert scores == pytest.approx(first[query_id])


def test_counts_are_kept_and_damage_is_counted_again(place, job):
    windows_as_documents(place, job, 24, 10)
    [kept] = (job.cache / "windows").iterdir()
    before = np.load(kept)
    kept.write_bytes(b"damaged")
    windows_as_documents(place, job, 24, 10)
    assert np.load(kept).tolist() == before.tolist()


def test_a_long_title_takes_half_a_window(place, job):
    retriever = get("dupmae")
    tokenizer = retriever(retriever.Options(checkpoint=str(place / "m"))).encoder.loaded.tokenizer
    splitter = Splitter(tokenizer, Windows(20, 10), "space", "")
    doc = Document("d", " ".join(["red"] * 50), " ".join(["sea"] * 30))
    [(cut, found)] = splitter.split([doc])
    assert cut.title == " ".join(["red"] * 9)  # half of the 18 tokens beside CLS and SEP
    assert doc.text[slice(*found[0])] == " ".join(["sea"] * 9)  # the other half
    assert found[-1][1] == len(doc.text)
    [(same, _)] = Splitter(tokenizer, Windows(20, 10), "none", "").split([doc])
    assert same.title == doc.title  # which is not encoded


def test_late_interaction_by_windows(place, monkeypatch):
    late.save(place / "late")
    whole = harness.run("colbertv2", "col", checkpoint="late", first_stage="all", windows="24/12")
    assert whole.manifest.system.options["windows_searched"] > len(DOCS)
    first = harness.run("colbertv2", "col", checkpoint="late", first_stage="all", windows="24/24", window_score="first")
    cut = harness.run("colbertv2", "col", checkpoint="late", first_stage="all", max_length=24)
    for query_id, scores in cut.to_dict().items():
        assert scores == pytest.approx(first.to_dict()[query_id])
        best = whole.to_dict()[query_id]
        assert all(best[doc_id] >= value - 1e-4 for doc_id, value in first.to_dict()[query_id].items())
    with pytest.raises(InputError, match="windows are searched over all documents"):
        harness.run("colbertv2", "col", checkpoint="late", first_stage="bm25", depth=5, windows="24/12")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"windows": "256"}, "windows is '256'; want tokens/stride, such as 256/128"),
        ({"windows": "64/65"}, "a stride from 1 to as many as a window has"),
        ({"windows": "8/4"}, "want at least 16 tokens"),
        ({"windows": "64/0"}, "a stride from 1"),
        ({"window_score": "max"}, "window_score says how windows make a score, and there are none"),
        ({"windows": "64/32", "max_length": 64}, "windows and max_length both say how long a passage is"),
        ({"windows": "9999/128"}, "9999"),
    ],
)
def test_refusals(place, options, message):
    with pytest.raises(ValueError, match=message):
        harness.run("dupmae", "col", checkpoint="m", **options)


def test_a_tokenizer_that_does_not_say_where():
    with pytest.raises(InputError, match="windows needs a tokenizer that says where each token is"):
        Splitter(object(), Windows(64, 32), "space", "")


def test_texts_that_are_cut_are_counted(place, capsys):
    """CLS and SEP leave 22 of 24 tokens, one of them the title's."""
    cut = sum(size + 1 > 22 for size in SIZES.tolist())
    found = harness.run("dupmae", "col", checkpoint="m", max_length=24).manifest
    message = f"col/test: {cut} of 25 texts ({cut / 25:.1%}) are longer than 24 tokens and were cut"
    assert message in capsys.readouterr().err
    assert any(message in warning for warning in found.warnings)
    assert found.system.options["texts_cut"] == cut
    again = harness.run("dupmae", "col", checkpoint="m", max_length=24, top_k=5).manifest  # from the store
    assert again.system.options["texts_cut"] == cut
    whole = harness.run("dupmae", "col", checkpoint="m", max_length=150).manifest
    assert whole.system.options["texts_cut"] == 0
    assert not any("were cut" in warning for warning in whole.warnings)
    late.save(place / "late")
    tokens = 20 - 3  # CLS, the marker and SEP
    of_late = harness.run("colbertv2", "col", checkpoint="late", first_stage="all", max_length=20).manifest
    assert of_late.system.options["texts_cut"] == sum(size + 1 > tokens for size in SIZES.tolist())
