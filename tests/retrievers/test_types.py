"""The run type: one order, and nothing that cannot be ranked."""

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from harness.retrievers.errors import InputError
from harness.retrievers.ordering import best_first, repeated
from harness.retrievers.run_files import trec
from harness.retrievers.types import Document, Run

# few ids and few scores, so that ties are the rule; ids that differ in length, case, and beyond ASCII
IDS = st.sampled_from(["a", "A", "aa", "b", "10", "9", "é", "z", "日本", "\U0001f600", "￿"])
RESULTS = st.dictionaries(
    st.sampled_from(["q1", "q2", "q3"]), st.dictionaries(IDS, st.sampled_from([0.0, -0.0, 1.0, 1.00000001, -2.5]))
)


def test_ties_go_to_the_greater_id():
    """By hand: 2.0 first; the tie at 1.0 descends by id as text, so '9' before '10' before '1'."""
    run = Run.of({"q": {"1": 1.0, "10": 1.0, "9": 1.0, "x": 2.0}})
    assert [d.decode() for d in run.rows(0)[0]] == ["x", "9", "10", "1"]


def test_scores_are_compared_as_float32():
    """1 + 1e-9 is 1 in float32, so the id decides."""
    run = Run.of({"q": {"a": 1.0 + 1e-9, "b": 1.0}})
    assert [d.decode() for d in run.rows(0)[0]] == ["b", "a"]


@given(results=RESULTS)
def test_the_order_is_trec_evals(results):
    """trec_eval's success at rank r, asked with one relevant document at a time, tells the rank it gives each."""
    run = Run.of(results)
    assert run.query_ids == tuple(results)
    for number, (query_id, scores) in enumerate(results.items()):
        ids = [d.decode() for d in run.rows(number)[0]]
        assert ids == sorted(scores, key=lambda d: (np.float32(scores[d]), d.encode()), reverse=True)
        for rank, doc_id in enumerate(ids, 1):
            found = pytrec_eval.RelevanceEvaluator({query_id: {doc_id: 1}}, {"recip_rank"}).evaluate({query_id: scores})
            assert round(1 / found[query_id]["recip_rank"]) == rank


@given(results=RESULTS)
def test_a_run_survives_its_file(results, tmp_path_factory):
    run = Run.of(results)
    path = tmp_path_factory.mktemp("run") / "run.trec.gz"
    trec.write(run, path, "tag")
    first = path.read_bytes()
    again = trec.read(path)
    for query_id in again.query_ids:
        ours, theirs = run.rows(run.query_ids.index(query_id)), again.rows(again.query_ids.index(query_id))
        assert ours[0].tolist() == theirs[0].tolist()
        np.testing.assert_array_equal(ours[1], theirs[1])
    trec.write(run, path, "tag")
    assert path.read_bytes() == first


def test_the_file_is_trec_format(tmp_path):
    trec.write(Run.of({"q": {"a": 0.1, "b": 3.0}}), tmp_path / "run.trec", "bm25")
    assert (tmp_path / "run.trec").read_text() == "q Q0 b 1 3.0 bm25\nq Q0 a 2 0.1 bm25\n"


def test_a_malformed_line_of_a_run_is_named(tmp_path):
    (tmp_path / "run.trec").write_text("q Q0 a 1 3.0 t\nq Q0 b 2 t\n")
    with pytest.raises(InputError, match=r"run\.trec, line 2: want six columns"):
        trec.read(tmp_path / "run.trec")


@pytest.mark.parametrize("score", [float("nan"), float("inf"), 1e39])
def test_scores_that_cannot_be_ranked_are_refused(score):
    with pytest.raises(InputError, match="document 'd' for query 'q'"):
        Run.of({"q": {"d": score}})


def test_a_document_comes_once():
    with pytest.raises(InputError, match="document 'd' occurs twice in the results of query 'q'"):
        Run.of({"q": [("d", 1.0), ("e", 2.0), ("d", 3.0)]})
    Run.of({"q": [("d", 1.0)], "p": [("d", 1.0)]})


ROWS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(["a", "aa", "b", "é", "123456789", "1234567890123456789", "日本"]),
        st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 3e38, -3e38, 0.1])
        | st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)


@given(rows=ROWS)
def test_the_order_by_numbers_is_the_order_by_strings(rows):
    """Against a sort of all rows by query, score and id at once; duplicates are left in, to tie in everything."""
    rows_query = np.array([row[0] for row in rows], np.int32)
    doc_ids = np.array([row[1].encode() for row in rows] or [b""], np.bytes_)[: len(rows)]
    scores = np.array([row[2] for row in rows], np.float32)
    order = best_first(rows_query, doc_ids, scores)
    plain = np.lexsort((doc_ids, scores, -rows_query.astype(np.int64)))[::-1]
    assert sorted(order) == list(range(len(rows)))
    for column in (rows_query, doc_ids, scores):
        np.testing.assert_array_equal(column[order], column[plain])
    again = [row for row in range(len(rows)) if [other[:2] for other in rows].count(rows[row][:2]) > 1]
    found = repeated(rows_query, doc_ids)
    assert found in again if again else found is None


def test_a_doubt_about_duplicates_is_looked_into(monkeypatch):
    """As if two fingerprints of different rows were equal."""
    monkeypatch.setattr("harness.retrievers.ordering._fingerprints_meet", lambda *columns: True)
    assert len(Run.of({"q": [("d", 1.0), ("e", 2.0)], "p": [("d", 1.0)]}).scores) == 3


def test_a_run_cannot_be_changed():
    run = Run.of({"q": {"d": 1.0}})
    with pytest.raises(ValueError, match="read-only"):
        run.scores[0] = 2.0


def test_without_self_drops_the_querys_own_document_and_then_cuts():
    run = Run.of({"a": {"a": 9.0, "b": 8.0, "c": 7.0}, "b": {"a": 1.0, "c": 2.0, "d": 3.0}, "c": {}})
    left = run.without_self(2)
    assert [[d.decode() for d in left.rows(i)[0]] for i in range(3)] == [["b", "c"], ["d", "c"], []]


def test_an_empty_run_is_a_run():
    run = Run.of({"q": {}})
    assert (len(run), run.silent, len(run.without_self(5).scores)) == (1, 1, 0)


def test_a_document_is_joined_without_a_stray_space():
    assert Document("d", "Title", "text").joined == "Title text"
    assert Document("d", "", "text").joined == "text"
