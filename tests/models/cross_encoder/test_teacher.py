"""The teacher: how pairs are put together, its loss, its scores, and what it is loaded from."""

import json

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from harness.models.cross_encoder import teacher as cross_encoder
from harness.models.cross_encoder.teacher import Joiner, load, score
from harness.models.errors import CheckpointError
from harness.models.finetuning.examples import Examples, FinetuneConfig
from harness.models.training.config import LoopConfig
from harness.models.training.loop import fit
from harness.models.training.tokens import Ragged
from tests.support import tiny
from tests.support.training import SPECIAL, classifier, cross, examples, random_tokens

pytestmark = pytest.mark.usefixtures("one_thread")
JOINER = Joiner(SPECIAL, 16)
CPU = torch.device("cpu")


# --- pairs


def test_a_pair_by_hand():
    """[CLS] q q [SEP] p p p [SEP]; the passage begins at 4, and its type goes on to its [SEP]."""
    ids, start = JOINER.pair(np.array([7, 8], np.uint16), np.array([9, 10, 11], np.uint16))
    assert (ids.tolist(), start) == ([2, 7, 8, 3, 9, 10, 11, 3], 4)
    short = JOINER.pair(np.array([5]), np.array([6]))
    pairs = JOINER.pad([(ids, start), short])
    assert pairs.input_ids.tolist() == [[2, 7, 8, 3, 9, 10, 11, 3], [2, 5, 3, 6, 3, 0, 0, 0]]
    assert pairs.attention_mask.tolist() == [[1] * 8, [1, 1, 1, 1, 1, 0, 0, 0]]
    assert pairs.token_types.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 0, 0, 0]]


def test_the_passage_alone_is_cut():
    """Ten tokens less three special ones and four of the query leave three."""
    joiner = Joiner(SPECIAL, 10)
    ids, start = joiner.pair(np.array([5, 6, 7, 8]), np.arange(10, 30))
    assert (ids.tolist(), start) == ([2, 5, 6, 7, 8, 3, 10, 11, 12, 3], 6)
    assert joiner.pair(np.arange(5, 11), np.arange(10, 30))[0].tolist() == [2, *range(5, 11), 3, 10, 3]
    with pytest.raises(ValueError, match="a query of 7 tokens leaves no room for a passage in 10"):
        joiner.pair(np.arange(5, 12), np.arange(10, 30))


def test_a_pair_is_what_the_tokenizer_of_bert_makes_of_it():
    from transformers import BertTokenizerFast

    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tiny.VOCABULARY))}
    theirs = BertTokenizerFast(vocab=vocabulary)("red apples", "water runs", padding="max_length", max_length=9)
    plain = tiny.tokenizer()
    texts = [np.array(plain(text, add_special_tokens=False)["input_ids"]) for text in ("red apples", "water runs")]
    ours = JOINER.pad([JOINER.pair(*texts), (np.zeros(9, dtype=np.int64), 9)])
    assert ours.input_ids[0].tolist() == theirs["input_ids"]
    assert ours.attention_mask[0].tolist() == theirs["attention_mask"]
    assert ours.token_types[0].tolist() == theirs["token_type_ids"]


def test_types_reach_a_model_that_has_them():
    module = classifier()
    pairs = JOINER.pad([JOINER.pair(np.array([5, 6]), np.array([7, 8]))])
    with torch.no_grad():
        assert module.with_types
        expected = module.classifier(pairs.input_ids, pairs.attention_mask, pairs.token_types).logits[:, 0]
        assert torch.equal(module(*pairs), expected)
        assert not torch.equal(module(*pairs), module(*pairs._replace(token_types=pairs.token_types * 0)))


# --- scores


def some_rows(known, most=6, seed=0):
    draw = np.random.default_rng(seed)
    return Ragged.of([draw.integers(0, len(known.passages), draw.integers(0, most)) for _ in known.queries])


def one_by_one(module, known, rows):
    found = {}
    for number, wanted in enumerate(rows):
        for row in wanted.tolist():
            pairs = JOINER.pad([JOINER.pair(known.queries[number], known.passages[row])])
            with torch.no_grad():
                found[number, row] = module(*pairs).item()
    return found


@pytest.mark.parametrize("at_once", [1, 60, 16_384])
def test_scores_are_those_of_the_pairs_one_by_one(at_once, monkeypatch):
    monkeypatch.setattr(cross_encoder, "_TOKENS_AT_ONCE", at_once)
    module, known = classifier(dropout=True).train(), examples(queries=12, passages=30)
    rows, heard = some_rows(known), []
    found = score(module, known.queries, known.passages, rows, JOINER, CPU, heard.append)
    assert (found.lengths == rows.lengths).all()
    assert sum(heard) == len(rows.flat)
    assert len(heard) == len(rows.flat) if at_once == 1 else len(heard) < len(rows.flat)
    assert found.flat.dtype == np.float32
    expected = one_by_one(module.eval(), known, rows)
    assert len(set(expected.values())) > 10
    for number, wanted in enumerate(rows):
        assert found[number].tolist() == pytest.approx([expected[number, row] for row in wanted.tolist()], abs=1e-5)
    mirrored = Ragged.of([row[::-1] for row in rows])
    again = score(module, known.queries, known.passages, mirrored, JOINER, CPU)
    for number in range(len(rows)):
        assert again[number][::-1].tolist() == pytest.approx(found[number].tolist(), abs=1e-5)


def test_nothing_to_score():
    known = examples()
    found = score(classifier(), known.queries, known.passages, Ragged.of([[]] * 12), JOINER, CPU)
    assert (len(found), len(found.flat)) == (12, 0)


# --- training


def test_the_loss_is_the_naive_one_in_value_and_gradient():
    """Each query apart: -log of the positive's share among its own passages."""
    found = {}
    for chunk in (1, 2, 6):
        task = cross(FinetuneConfig(6, negatives=3, chunk=chunk))
        losses, count = task.backward(task.module, task.prepare(0), Accelerator(cpu=True))
        found[chunk] = losses["loss"].item(), count, [w.grad.clone() for w in task.module.parameters()]
        task.module.zero_grad(set_to_none=True)
    known, total, tokens = task.examples, 0.0, 0
    numbers = [number for _, part in task.prepare(0) for number in part]
    for number in numbers:
        rows = known.pick(task.config, 0, number).rows
        pairs = [task.joiner.pair(known.queries[number], known.passages[int(row)]) for row in rows]
        tokens += sum(len(ids) for ids, _ in pairs)
        logits = torch.cat([task.module(*task.joiner.pad([pair])) for pair in pairs])
        total = total - logits.log_softmax(0)[0] / len(numbers)
    total.backward()
    for loss, count, grads in found.values():
        assert loss == pytest.approx(total.item(), rel=1e-5)
        assert count == tokens
        for ours, weight in zip(grads, task.module.parameters(), strict=True):
            torch.testing.assert_close(ours, weight.grad, rtol=1e-4, atol=1e-5)


def test_a_few_queries_are_learnt_by_heart(tmp_path):
    known = Examples(
        random_tokens(8, 0, 2, 5),
        random_tokens(32, 1),
        Ragged.of([[4 * n] for n in range(8)]),
        Ragged.of([[4 * n + 1, 4 * n + 2, 4 * n + 3] for n in range(8)]),
    )
    task = cross(FinetuneConfig(8, negatives=3, chunk=4), known=known)
    losses = []
    config = LoopConfig(steps=40, learning_rate=3e-3)
    accelerator = Accelerator(cpu=True)
    fit(task, config, tmp_path, accelerator, report=lambda step, tokens, found: losses.append(found["loss"]))
    assert losses[-1] < 0.2 * losses[0]
    rows = Ragged.of([[4 * n + 2, 4 * n, 4 * n + 3, 4 * n + 1] for n in range(8)])
    found = score(task.module, known.queries, known.passages, rows, task.joiner, CPU)
    assert [int(row.argmax()) for row in found] == [1] * 8


def test_what_cannot_be_shared_out_or_learnt_is_an_error():
    for config, words in (
        (FinetuneConfig(6, negatives=1, chunk=4), "6 queries is no multiple of 4 at once on 1 processes"),
        (FinetuneConfig(6, negatives=9, chunk=1), "9 negatives of each query were asked for"),
        (FinetuneConfig(6, chunk=1), "none were asked for"),
    ):
        with pytest.raises(ValueError, match=words):
            cross(config)


# --- loading


@pytest.fixture
def saved(tmp_path):
    return tiny.save_hybrid(tmp_path / "base", seed=4)


def test_a_masked_language_model_becomes_a_classifier(saved):
    first, second, third = load(saved), load(saved), load(saved, seed=1)
    backbone = first.classifier.bert.encoder.state_dict()
    expected = tiny.masked_lm(4).bert.encoder.state_dict()
    assert backbone.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in backbone.items())
    head = [module.classifier.classifier.weight for module in (first, second, third)]
    assert head[0].shape == (1, 32)
    assert torch.equal(head[0], head[1])
    assert not torch.equal(head[0], head[2])


def test_what_was_trained_is_loaded_again(tmp_path):
    module = classifier()
    module.classifier.save_pretrained(tmp_path)
    other = load(tmp_path, seed=9)
    pairs = JOINER.pad([JOINER.pair(np.array([5, 6]), np.array([7, 8]))])
    with torch.no_grad():
        torch.testing.assert_close(module(*pairs), other(*pairs))


def test_half_precision_weights_are_trained_in_full(tmp_path):
    tiny.masked_lm().half().save_pretrained(tmp_path)
    assert {weight.dtype for weight in load(tmp_path).parameters()} == {torch.float32}


@pytest.mark.parametrize(
    "damage", ["nothing there", "no weights", "rubbish", "foreign", "cut", "no encoder", "two labels"]
)
def test_rubbish_is_a_checkpoint_error(damage, saved, tmp_path):
    weights = saved / "model.safetensors"
    if damage == "nothing there":
        saved = tmp_path / "empty"
        saved.mkdir()
    elif damage == "no weights":
        weights.unlink()
    elif damage == "rubbish":
        weights.write_bytes(b"rubbish")
    elif damage == "foreign":
        save_file({f"x.{name}": value for name, value in load_file(weights).items()}, weights, {"format": "pt"})
    elif damage == "cut":
        kept = {name: value for name, value in load_file(weights).items() if "layer.1.attention" not in name}
        save_file(kept, weights, {"format": "pt"})
    elif damage == "no encoder":
        (saved / "config.json").write_text(json.dumps({"model_type": "who knows"}))
    else:
        from transformers import BertForSequenceClassification

        BertForSequenceClassification(tiny.config(num_labels=2)).save_pretrained(saved)
    with pytest.raises(CheckpointError, match=str(saved)):
        load(saved)


def test_scores_in_bf16_are_float32_and_near():
    """As a recipe of that precision trains; a stage scored in float32 whatever it said."""
    known = examples()
    rows = Ragged.of([[0, 1, 2]] * 12)
    module = classifier()
    exact = score(module, known.queries, known.passages, rows, JOINER, CPU)
    half = score(
        module, known.queries, known.passages, rows, JOINER, CPU, autocast=lambda: torch.autocast("cpu", torch.bfloat16)
    )
    assert half.flat.dtype == np.float32
    assert 0 < np.abs(half.flat - exact.flat).max() < 0.1
