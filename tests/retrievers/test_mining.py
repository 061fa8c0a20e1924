"""Hard negatives: by hand, by a plain loop, and by a real search."""

import numpy as np
import pytest

from harness.datasets.loader import resolve
from harness.models.training.tokens import Ragged
from harness.retrievers import mining
from harness.retrievers.errors import InputError
from harness.retrievers.types import Run
from harness.runs.config import RetrieverSpec, make_retriever
from harness.training.data.collections import Training


def test_rows_find_documents_by_id():
    rows = mining.Rows(["b", "a", "long-id"])
    assert rows.of(np.array([b"a", b"long-id", b"b", b"zz"])).tolist() == [1, 2, 0, -1]
    assert mining.Rows([]).of(np.array([b"a"])).tolist() == [-1]


def test_negatives_by_hand():
    """q1 ranks c, a, b and a answers it: c, b; of depth 1: c. q2 ranks b only, which answers it: nothing."""
    run = Run.of({"q1": {"c": 3.0, "a": 2.0, "b": 1.0}, "q2": {"b": 1.0}})
    rows, positives = mining.Rows(["a", "b", "c"]), Ragged.of([[0], [1]])
    found = mining.negatives(run, positives, rows, 10, 3)
    assert [found[i].tolist() for i in range(2)] == [[2, 1], []]
    assert mining.negatives(run, positives, rows, 1, 3)[0].tolist() == [2]


def test_negatives_equal_a_plain_loop():
    draw = np.random.default_rng(0)
    names = [f"d{i}" for i in range(50)]
    ranks = {f"q{q}": {names[d]: float(draw.normal()) for d in draw.choice(50, 20, replace=False)} for q in range(30)}
    positives = [sorted(draw.choice(50, draw.integers(1, 6), replace=False).tolist()) for _ in range(30)]
    run = Run.of(ranks)
    found = mining.negatives(run, Ragged.of(positives), mining.Rows(names), 8, 50)
    for q in range(30):
        ids = [doc_id.decode() for doc_id in run.rows(q)[0]]
        assert found[q].tolist() == [names.index(d) for d in ids if names.index(d) not in positives[q]][:8]


def test_a_query_with_too_few_is_filled_up_by_what_does_not_answer_it():
    """Of five documents 0 answers the query, 1 was mined: of 2, 3 and 4 come two for three in all, three for more."""
    mined, positives = Ragged.of([[1], [3, 2, 1]]), Ragged.of([[0], [0]])
    found = mining.filled(mined, positives, 3, 5, seed=7)
    assert found[0][0] == 1
    assert len(set(found[0])) == 3
    assert set(found[0]) <= {1, 2, 3, 4}
    assert found[1].tolist() == [3, 2, 1]
    assert sorted(mining.filled(mined, positives, 9, 5, seed=7)[0]) == [1, 2, 3, 4]
    assert mining.filled(mined, positives, 3, 5, seed=7).flat.tolist() == found.flat.tolist()


def test_bm25_mines_what_does_not_answer(job):
    """On mini: no positive among the negatives, best first as the run has them, `depth` at most."""
    training = Training(["mini"], job)
    (part,) = training.collections
    retriever = make_retriever(RetrieverSpec(name="bm25"))
    queries = part.dataset.queries
    found = mining.mine(retriever, part.dataset, queries, part.positives, part.rows, 20, job)
    assert len(found) == len(queries)
    assert found.lengths.max() == 20
    for number in range(len(queries)):
        assert not set(found[number]) & set(part.positives[number])
    ids = [doc.doc_id for doc in part.dataset.documents()]
    (fresh,) = resolve("mini")
    fresh.open(job)
    top = retriever.search(fresh, fresh.queries, 40, job)
    wanted = [d.decode() for d in top.rows(0)[0] if ids.index(d.decode()) not in set(part.positives[0])][:20]
    assert [ids[row] for row in found[0]] == wanted


def test_a_query_whose_positive_the_corpus_lacks_is_named(beir, job):
    folder = beir(qrels={"train": [("q1", "nowhere", 1), ("q2", "d3", 1)]})
    with pytest.raises(InputError, match=r"nothing that answers the training query 'q1' \(its positives are nowhere"):
        Training([str(folder / "train")], job)
    folder = beir("graded", qrels={"train": [("q1", "d1", 0)]})
    with pytest.raises(InputError, match="no judgment of it reaches 1"):
        Training([str(folder / "train")], job)


def test_collections_stand_one_behind_the_other(beir, job):
    """Two collections of three documents: the second's rows begin at 3."""
    one, two = beir("one"), beir("two")
    training = Training([str(one), str(two)], job)
    assert [training.positives[i].tolist() for i in range(4)] == [[0, 1], [2], [3, 4], [5]]
