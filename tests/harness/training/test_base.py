"""What a training starts from: a checkpoint that keeps how it makes vectors, of any family and layout."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml
from accelerate import Accelerator
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling
from torch import nn
from transformers import RobertaConfig, RobertaForMaskedLM

from harness.datasets.loader import MINI
from harness.models import hybrid
from harness.models.checkpoints.weights import quiet
from harness.models.finetuning.biencoder import BiEncoder
from harness.models.finetuning.examples import Examples, FinetuneConfig
from harness.models.finetuning.task import FinetuneTask
from harness.models.training.tokens import Ragged
from harness.training import base_model
from harness.training.recipe import Base
from harness.training.student import load_student, special_ids
from tests.support import tiny
from tests.support.layouts import SIZE, saved

PROMPTS = {"query": "what is ", "document": "fish "}
TUNE = {
    "kind": "finetune", "steps": 2, "batch": 4, "learning_rate": 0.001, "query_length": 10, "passage_length": 12,
}  # fmt: skip
PRETRAIN = {
    "kind": "pretrain", "steps": 1, "batch": 4, "micro_batch": 4, "length": 12, "learning_rate": 0.001,
}  # fmt: skip


@pytest.fixture
def prompted(tmp_path):
    """A folder of sentence-transformers that says mean pooling, cosine and both prompts; and the library's model."""
    return saved(tmp_path, lambda: Pooling(32, "mean"), Normalize, prompts=PROMPTS)


@pytest.fixture
def train(tmp_path, monkeypatch, cli, bad):
    """Run a recipe of these stages; the folder that it left, or the error where it is to `fail`."""

    def run(checkpoint, stages, *words, fail=False):
        monkeypatch.chdir(tmp_path)
        values = {
            "name": "own", "base": {"checkpoint": str(checkpoint)}, "stages": stages,
            "data": {"train": ["mini"], "corpora": [str(MINI)], "validate_on": "mini"},
        }  # fmt: skip
        Path("own.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
        command = ("train", "--recipe", "own.yaml", "--threads", 1, *words)
        if fail:
            return bad(*command)
        answer = cli(*command)
        assert answer.code == 0, answer.err
        return answer.out if "--plan" in words else tmp_path / "trained" / "own"

    return run


def test_the_loss_and_the_gradient_are_sentence_transformers(prompted, tmp_path):
    """Prefixes, mean pooling, cosine: their MultipleNegativesRankingLoss on the same batch, scale 20 being τ 0.05."""
    folder, theirs = prompted
    queries = ["a river bank", "apples", "green fish", "money"]
    passages = ["water runs to the sea", "red apples grow on trees", "pears", "bank money is a river of red money"]
    base_model.prepare(Base(checkpoint=str(folder)), tmp_path / "base", (), 0, keep=True)
    student = load_student(tmp_path / "base", None, None, 12, 12, 0)
    spec, tokenizer = student.spec, student.tokenizer

    def rows(prefix, texts):
        return Ragged.of(tokenizer([prefix + text for text in texts], add_special_tokens=False).input_ids)

    known = Examples(
        rows(spec.query_prefix, queries), rows(spec.passage_prefix, passages), Ragged.of([[n] for n in range(4)])
    )
    config = FinetuneConfig(4, temperature=0.05, lexical_scale=1.0)
    task = FinetuneTask(BiEncoder(student.encoder), known, config, special_ids(tokenizer, folder))
    batch = task.prepare(0)
    found, _ = task.backward(task.module, batch, Accelerator(cpu=True))

    order = batch.numbers
    texts = [[PROMPTS["query"] + queries[n] for n in order], [PROMPTS["document"] + passages[n] for n in order]]
    loss = MultipleNegativesRankingLoss(theirs, scale=20.0)([theirs.preprocess(part) for part in texts], None)
    loss.backward()
    torch.testing.assert_close(found["loss"], loss.detach(), rtol=1e-5, atol=1e-6)
    own, their = (dict(model.named_parameters()) for model in (student.encoder.backbone, theirs[0].model))
    compared = [name for name, weight in own.items() if weight.grad is not None]
    assert len(compared) > 30
    for name in compared:
        torch.testing.assert_close(own[name].grad, their[name].grad, rtol=1e-4, atol=1e-6)


@pytest.mark.integration
def test_prefixes_and_similarity_hold_to_the_end(prompted, train):
    """They were "" and dot, and no recipe could say otherwise."""
    folder, _ = prompted
    stages = {"tune": TUNE, "mine": {"kind": "mine", "depth": 5}, "hard": TUNE | {"negatives": 1}}
    left = train(folder, stages)
    for name in ("base", "tune", "hard"):
        spec = hybrid.read(left / name)
        assert (spec.similarity, spec.pooling) == ("cosine", "mean")
        assert (spec.query_prefix, spec.passage_prefix) == ("what is ", "fish ")
    assert (
        not {"query_prefix", "similarity"}
        & json.loads((left / "tune/manifest.json").read_text())["decides"]["stage"].keys()
    )
    with quiet():
        again = SentenceTransformer(str(folder), device="cpu")
    moved = load_file(left / "hard" / "model.safetensors")
    name = "encoder.layer.0.output.dense.weight"
    assert not torch.equal(moved.get(name, moved.get(f"bert.{name}")), again[0].model.state_dict()[name])


@pytest.mark.integration
def test_a_stage_may_say_otherwise(prompted, train):
    chosen = {"query_prefix": "", "passage_prefix": "the ", "similarity": "dot"}
    mine = {"kind": "mine", "depth": 5, "query_prefix": "is "}
    plan = train(prompted[0], {"tune": TUNE | chosen, "mine": mine}, "--plan")
    first, second, third = plan.splitlines()[:3]
    assert first.endswith("cosine of mean pooling, query prefix 'what is ', passage prefix 'fish '")
    assert second.endswith("2 steps of 4, query prefix '', passage prefix 'the ', similarity 'dot'")
    assert third.endswith("mine 5 with the student itself, query prefix 'is '")
    left = train(prompted[0], {"tune": TUNE | chosen, "mine": mine})
    spec = hybrid.read(left / "tune")
    assert (spec.query_prefix, spec.passage_prefix, spec.similarity) == ("", "the ", "dot")


def tuned(folder, **more):
    """A hybrid that was fine-tuned: a projection, and numbers that its training settled."""
    trained = {"finetuned_on": ["x"], "finetuned_as": [16, 12]}
    return tiny.save_hybrid(folder, temperature=3.5, lexical_scale=0.25, trained=trained, **more)


@pytest.mark.integration
def test_a_fine_tuned_hybrid_stays_what_it_is(tmp_path, train):
    """It lost its projection, its temperature and its scale, and said nothing."""
    source = tuned(tmp_path / "source", similarity="cosine", query_prefix="a ")
    left = train(source, {"tune": TUNE | {"learning_rate": 1e-9}})
    was, base, spec = (hybrid.read(folder) for folder in (source, left / "base", left / "tune"))
    for now in (base, spec):
        same = ("dense", "lexical", "temperature", "lexical_scale", "similarity", "query_prefix")
        assert [getattr(now, name) for name in same] == [getattr(was, name) for name in same]
    weights = [
        load_file(folder / "cls_projection.safetensors")["weight"] for folder in (source, left / "base", left / "tune")
    ]
    for one, other in pairwise(weights):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    assert "already" not in train(source, {"tune": TUNE}, "--plan")
    assert "tune.dense is 8; the stages before it have a projection to 16" in train(
        source, {"tune": TUNE | {"dense": 8}}, "--output", "elsewhere", fail=True
    )


@pytest.mark.integration
def test_a_fine_tuned_hybrid_that_is_pre_trained_first_is_a_masked_lm_again(tmp_path, train):
    left = train(tuned(tmp_path / "source"), {"pretrain": PRETRAIN, "tune": TUNE | {"dense": 8, "lexical": 6}})
    assert not (left / "base" / "cls_projection.safetensors").exists()
    spec = hybrid.read(left / "tune")
    assert (spec.dense, spec.lexical) == (8, 6)
    assert spec.temperature != 3.5
    assert spec.lexical_scale != 0.25


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["roberta", "distilbert"])
def test_other_families_are_fine_tuned(tmp_path, train, kind):
    left = train(saved(tmp_path, lambda: Pooling(32, "cls"), kind=kind)[0], {"tune": TUNE})
    assert json.loads((left / "tune/config.json").read_text())["model_type"] == kind
    assert hybrid.read(left / "tune").lexical == 0


@pytest.mark.integration
def test_a_hybrid_of_another_family(tmp_path, train):
    config = RobertaConfig(
        vocab_size=SIZE, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=64, pad_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(0)
    with quiet():
        RobertaForMaskedLM(config).save_pretrained(tmp_path / "source")
    tiny.tokenizer().save_pretrained(tmp_path / "source")
    left = train(tmp_path / "source", {"tune": TUNE | {"dense": 16, "lexical": 6}})
    spec = hybrid.read(left / "tune")
    assert (spec.dense, spec.lexical) == (16, 6)
    assert "has no masked-LM head, and pre-training begins with one" in train(
        tmp_path / "source", {"tune": TUNE, "pretrain": PRETRAIN}, "--output", "other", fail=True
    )


@pytest.mark.integration
def test_a_splade_base_keeps_its_activation(tmp_path, train):
    source = tiny.save_hybrid(tmp_path / "source", dense=0, lexical=9, activation="log1p_relu")
    spec = hybrid.read(train(source, {"tune": TUNE}) / "tune")
    assert (spec.activation, spec.lexical_pooling, spec.lexical) == ("log1p_relu", "max", 9)


@pytest.mark.integration
def test_what_cannot_be_fine_tuned_is_named(tmp_path, train, prompted):
    assert "tune.lexical is 6; a lexical half is made of a masked-LM head's logits, and the base has none" in train(
        prompted[0], {"tune": TUNE | {"lexical": 6}}, fail=True
    )
    layers = saved(
        tmp_path / "layers", lambda: Pooling(32, "mean"), lambda: Dense(32, 8, activation_function=nn.Tanh())
    )[0]

    def refused(source):
        return train(source, {"tune": TUNE}, "--output", f"trained/{source.parent.name}", fail=True)

    assert "the layers behind the pooling are more than one matrix" in refused(layers)
    summed = tiny.save_hybrid(tmp_path / "splade", dense=0, lexical=9, activation="log1p_relu", lexical_pooling="sum")
    assert "makes its lexical half by the sum over a text's tokens; fine-tuning is written for the maximum" in refused(
        summed
    )
    t5 = saved(tmp_path / "t5", lambda: Pooling(32, "mean"), kind="t5")[0]
    path = next(t5.rglob("tokenizer.json"))
    values = json.loads(path.read_text())
    values["post_processor"]["single"].pop(0)  # as T5's own: a text and its end
    path.write_text(json.dumps(values))
    assert "does not put a text between CLS and SEP" in refused(t5)
