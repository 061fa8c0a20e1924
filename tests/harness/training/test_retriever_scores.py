"""Any retriever as a teacher: scores of given documents from its lists, their scale, the stages that use them."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from harness.models.losses import ranking
from harness.models.training.tokens import Ragged
from harness.retrievers import registry
from harness.retrievers.errors import InputError
from harness.training.data.collections import Training
from harness.training.retriever_scores import Teacher, best_scale, scored
from harness.training.stage_outputs import read_scores
from tests.support.recipes import STAGES
from tests.support.retrievers import Fixed, registered

DOCS = [(f"d{n}", "", f"text {n}") for n in range(6)]
QUERIES = [("q0", "zero"), ("q1", "one")]
QRELS = {"test": [("q0", "d0", 1), ("q1", "d4", 1)]}


def named(**results):
    return type("Named", (Fixed,), {"results": results})


@pytest.fixture
def collection(beir, job):
    [found] = Training([str(beir(docs=DOCS, queries=QUERIES, qrels=QRELS))], job).collections
    return found, SimpleNamespace(job=job, main=True)


def test_scores_of_given_documents(collection):
    """q0 has d0 (positive), d1, d2; d2 is beyond its list and gets the least of it; q1 has d4, d5 and neither d3."""
    made, context = collection
    kept = Ragged.of([[1, 2], [5, 3]])
    registry.available()
    with registered(one=named(q0={"d1": 5.0, "d0": 4.0, "d3": 1.5}, q1={"d4": 2.0, "d5": -1.0})):
        found, bounds = scored([Teacher(retriever="one")], made, kept, 10, context)
    assert found.tolist() == [4.0, 5.0, 1.5, 2.0, -1.0, -1.0]
    assert bounds == 2


def test_a_weighted_sum_of_several(collection):
    """Each list is put between 0 and 1 first: q0 of the first d1 1, d0 0.5; of the second d0 1, d2 0."""
    made, context = collection
    kept = Ragged.of([[1, 2], [5, 3]])
    first, second = named(q0={"d1": 6.0, "d0": 4.0, "d3": 2.0}, q1={"d4": 1.0}), named(q0={"d0": 9.0, "d2": 7.0}, q1={})
    registry.available()
    with registered(first=first, second=second):
        teachers = [Teacher(retriever="first", weight=2), Teacher(retriever="second")]
        found, _ = scored(teachers, made, kept, 10, context)
    assert found[:3].tolist() == [2 * 0.5 + 1, 2 * 1.0, 0.0]


def test_a_teacher_that_returns_what_is_not_there(collection):
    made, context = collection
    registry.available()
    with (
        registered(odd=named(q0={"d9": 1.0}, q1={})),
        pytest.raises(InputError, match=r"odd returned the document 'd9', which .* does not have"),
    ):
        scored([Teacher(retriever="odd")], made, Ragged.of([[1], [5]]), 10, context)


def test_the_scale_under_which_positives_are_told_best():
    """Two queries whose positives lead by 1 and by 3: against brute force over the same scales."""
    scores = Ragged.of([[2.0, 1.0, 0.5], [0.4, 0.9, 0.5, 0.0]], np.float32)
    positives = Ragged.of([[0], [0, 1]])
    found = best_scale(scores, positives)

    def loss(scale):
        rows = [([2.0], [1.0, 0.5]), ([0.4, 0.9], [0.5, 0.0])]
        each = [
            -torch.tensor([scale * value, *(scale * other for other in others)]).log_softmax(0)[0].item()
            for own, others in rows
            for value in own
        ]
        return sum(each) / len(each)

    assert all(loss(found) <= loss(found * 2 ** (n / 2)) + 1e-9 for n in range(-6, 7))


@pytest.mark.parametrize("shared", [False, True])
def test_other_processes_search_only_where_a_teacher_shares_that_out(collection, shared):
    made, context = collection
    teacher = named(q0={"d0": 1.0}, q1={})
    teacher.distributed, context.main = shared, False
    registry.available()
    with registered(one=teacher):
        assert scored([Teacher(retriever="one")], made, Ragged.of([[1], [5]]), 10, context) is None
    assert teacher.searches == shared


@given(st.floats(0.01, 100))
def test_the_scale_undoes_that_of_the_scores(factor):
    rows = [[3.0, 1.0, 2.0, 0.0], [1.0, 2.0, 0.5, 0.0]]
    positives = Ragged.of([[0], [0]])
    plain = best_scale(Ragged.of(rows, np.float64), positives)
    other = best_scale(Ragged.of([[factor * value for value in row] for row in rows], np.float64), positives)
    assert other * factor == pytest.approx(plain)


def test_margins_by_hand():
    """Margins 2 and 4 of the student halved by τ = 2, 1 and 0 of the teacher: (0² + 2²) / 2."""
    scores, teacher = torch.tensor([[5.0, 3.0, 1.0]]), torch.tensor([[1.0, 0.0, 1.0]])
    assert ranking.margin_mse(scores, teacher, 2.0).item() == pytest.approx(2.0)
    assert ranking.margin_mse(scores + 7, teacher, 2.0).item() == pytest.approx(2.0)  # margins alone count


def write(folder, teacher, **distil):
    stages = {
        "in_batch": STAGES["in_batch"], "bm25": STAGES["bm25"],
        "score": {"kind": "score", "candidates": 4, "teacher": teacher},
        "distil": STAGES["distil"] | distil,
    }  # fmt: skip
    values = {
        "name": "taught", "base": {"checkpoint": "dupmae-mini"}, "stages": stages,
        "data": {"train": ["mini"], "corpora": ["mini"]},
    }  # fmt: skip
    stages["in_batch"] = stages["in_batch"] | {"dense": 96, "lexical": 16, "steps": 1}
    (folder / "taught.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


@pytest.mark.integration
@pytest.mark.parametrize("distillation", ["kl", "margin_mse"])
def test_bm25_and_a_dense_model_teach_together(tmp_path, cli, distillation):
    """Without a stage `teacher`; stopped before the end it goes on from the collections that are scored."""
    write(tmp_path, [{"retriever": "bm25"}, {"retriever": "retromae-mini", "weight": 2}], distillation=distillation)
    train = ("train", "-R", "taught.yaml", "--threads", 1)
    plan = cli(*train, "--plan").out
    assert "score 4 negatives of each query with 1 bm25 + 2 retromae-mini" in plan
    answer = cli(*train)
    assert answer.code == 0, answer.err
    left = tmp_path / "trained" / "taught"
    facts = json.loads((left / "score" / "manifest.json").read_text())
    _, scores = read_scores(left / "score")
    assert facts["pairs"] == len(scores.flat)
    assert 0 <= scores.flat.min() <= scores.flat.max() <= facts["scale"] * 3 * (1 + 1e-6)
    log = [json.loads(line) for line in (left / "distil" / "metrics.jsonl").read_text().splitlines()]
    assert all(line["distillation"] >= 0 for line in log if "distillation" in line)


def test_settings_that_do_not_go_together(tmp_path, bad):
    for change, part in (
        ("score.teacher={retriever: bm26}", "score: unknown retriever 'bm26'"),
        ("score.teacher={retriever: bm25, options: {k2: 3}}", "score: retriever bm25: k2: unknown"),
        ("score.teacher={retriever: bm25, weight: 0}", "weight: Input should be greater than 0"),
        ("score.query_prefix=x", "query_prefix and passage_prefix are of a cross-encoder"),
        ("distil.distillation=mse", "Input should be 'kl' or 'margin_mse'"),
    ):
        write(tmp_path, {"retriever": "bm25"})
        assert part in bad("train", "-R", "taught.yaml", "--set", change)
    write(tmp_path, None)
    assert "depth and scale are of a teacher that is a retriever" in bad(
        "train", "-R", "taught.yaml", "--set", "score.depth=5"
    )
