"""Training on the pretended GPU: it leaves what a CPU leaves, in every precision; run by test_pretended_cuda.py."""

import json
from dataclasses import replace

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState

from harness.models.errors import TrainingStopped
from harness.models.training.loop import fit
from tests.support.recipes import STAGES, WHOLE
from tests.support.training import LOOP, TASKS, Watching, course_of

pytestmark = pytest.mark.usefixtures("one_thread")


def accelerator(cuda=True, precision="no"):
    AcceleratorState._reset_state(reset_partial_state=True)
    return Watching(cpu=not cuda, mixed_precision=precision)


@pytest.fixture(autouse=True)
def _anew():
    """The next accelerator may be another device's."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def near(found, expected, share):
    """Each tensor to a `share` of the largest norm: what is 0 but for rounding differs by rounding."""
    assert found.keys() == expected.keys()
    largest = max(value.norm() for value in expected.values())
    for name, value in expected.items():
        assert (found[name].cpu() - value).norm() <= share * largest, name


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("name", TASKS)
def test_steps_are_the_cpus(name, dropout, tmp_path):
    """Losses and gradients, dropout included: both devices' generators begin a step with the same seed."""
    ours = course_of(name, tmp_path / "cuda", 3, dropout, accelerator())
    theirs = course_of(name, tmp_path / "cpu", 3, dropout, accelerator(cuda=False))
    assert {value.device.type for value in (*ours["grads"].values(), *ours["weights"].values())} == {"cuda"}
    near(ours["grads"], theirs["grads"], 1e-5)
    assert ours["extra"] == pytest.approx(theirs["extra"], rel=1e-5)
    for (tokens, found), (tokens_there, expected) in zip(ours["log"], theirs["log"], strict=True):
        assert tokens == tokens_there
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "precision"), [*((name, "bf16") for name in TASKS), *((name, "fp16") for name in ("pretrain", "cross"))]
)
def test_steps_in_half_precision(name, precision, tmp_path):
    ours = course_of(name, tmp_path / precision, 2, False, accelerator(precision=precision))
    whole = course_of(name, tmp_path / "fp32", 2, False, accelerator())
    assert {value.dtype for value in ours["weights"].values() if value.is_floating_point()} == {torch.float32}
    first, expected = ours["log"][0][1]["loss"], whole["log"][0][1]["loss"]
    assert first == pytest.approx(expected, rel=0.1)
    assert first != expected  # something was computed in it


@pytest.mark.parametrize(("name", "precision"), [("pretrain", "bf16"), ("chunked", "no"), ("cross", "fp16")])
def test_a_stopped_training_goes_on_bit_for_bit(name, precision, tmp_path):
    short, seen = replace(LOOP, steps=4), []
    place, task, watched = tmp_path / "stopped", TASKS[name](dropout=True), accelerator(precision=precision)
    with pytest.raises(TrainingStopped):
        fit(task, short, place, watched, lambda step, *_: seen.append(step), lambda: len(seen) > 1)
    weights = []
    for place in ("at once", "stopped"):
        task = TASKS[name](dropout=True)
        fit(task, short, tmp_path / place, accelerator(precision=precision))
        weights.append(task.module.state_dict())
    near(weights[1], {name: value.cpu() for name, value in weights[0].items()}, 0)


def write(folder, stages=STAGES, **base):
    values = WHOLE | {"stages": stages, "base": WHOLE["base"] | {"model": WHOLE["base"]["model"] | base}}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


def test_every_stage_leaves_what_it_leaves_on_a_cpu(tmp_path, cli, monkeypatch):
    calm = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    write(tmp_path, **calm)
    answer = cli("train", "--recipe", "tiny.yaml", "--threads", 1, "-O", "cuda", "--set", "precision=fp32")
    assert answer.code == 0, answer.err
    assert torch.cuda.memory_allocated() == 0  # no stage leaves a model there
    for name in STAGES:
        facts = json.loads((tmp_path / "cuda" / name / "manifest.json").read_text())
        assert facts["device"] == "cuda"
        if (tmp_path / "cuda" / name / "metrics.jsonl").exists():
            assert facts["peak_gpu_memory_bytes"] > 10_000
    # of these no later decision depends on rounding, as mining's does
    same = ("pretrain", "in_batch", "bm25", "teacher")
    write(tmp_path, {name: STAGES[name] for name in same}, **calm)
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    answer = cli("train", "--recipe", "tiny.yaml", "--threads", 1, "-O", "cpu", "--no-evaluate")
    assert answer.code == 0, answer.err
    for name in ("pretrain", "in_batch", "teacher"):
        logs = [(tmp_path / place / name / "metrics.jsonl").read_text().splitlines() for place in ("cuda", "cpu")]
        for one, two in zip(*(map(json.loads, log) for log in logs), strict=True):
            for key in {"loss", "validation"} & one.keys():
                assert one[key] == pytest.approx(two[key], rel=2e-3, abs=2e-3), f"{name}, {one['step']}: {key}"


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_whole_recipe_in_half_precision(precision, tmp_path, cli):
    """With what the other one leaves at its defaults: the authors' objective, and texts grouped by length."""
    pretrain = STAGES["pretrain"] | {"objective": {"preset": "official"}, "group_by_length": 2}
    write(tmp_path, STAGES | {"pretrain": pretrain})
    answer = cli("train", "--recipe", "tiny.yaml", "--threads", 1, "--no-evaluate", "--set", f"precision={precision}")
    assert answer.code == 0, answer.err
    facts = json.loads((tmp_path / "trained" / "tiny" / "distil" / "manifest.json").read_text())
    assert facts["mixed_precision"] == precision


def test_a_full_gpu_is_one_line_that_says_what_to_lower(tmp_path, bad):
    write(tmp_path, {"in_batch": STAGES["in_batch"] | {"chunk": 16}})
    torch.ops.pretended_cuda.set_limit(torch.cuda.memory_allocated() + 400_000)
    try:
        message = bad("train", "--recipe", "tiny.yaml", "--threads", 1)
    finally:
        torch.ops.pretended_cuda.set_limit(80 << 30)
    assert "in_batch: there is no memory left on cuda with in_batch.chunk = 16. --set in_batch.chunk=8" in message
