"""The training loop: exact resume, the schedule, and what stops it."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from harness.models.errors import CheckpointError, TrainingError, TrainingStopped
from harness.models.training.config import LoopConfig
from harness.models.training.loop import METRICS, STATE, fit
from tests.support.paths import ROOT
from tests.support.training import LOOP, TASKS

pytestmark = pytest.mark.usefixtures("one_thread")
KINDS = ("pretrain", "chunked")


class Toy:
    """A linear layer 2 → 1 with weights 1 and bias 1; `loss` makes a loss of it and of the step."""

    def __init__(self, loss):
        self.module, self.loss = nn.Linear(2, 1), loss
        self.given = {"settled": 0.5}
        for weight in self.module.parameters():
            nn.init.ones_(weight)

    def prepare(self, step):
        return step

    def backward(self, model, batch, accelerator):
        loss = self.loss(model, batch)
        accelerator.backward(loss)
        return {"loss": loss.detach()}, 10

    def name(self, batch):
        return f"items {batch}"

    def extra(self):
        return self.given

    def restore(self, extra):
        self.given = dict(extra)

    def validate(self, accelerator):
        return {}


def summed(model, step):
    """Gradient 1 everywhere, loss = step."""
    total = sum(weight.sum() for weight in model.parameters())
    return total - total.detach() + step


def nothing(model, step):
    return 0.0 * sum(weight.sum() for weight in model.parameters())


def train(task, folder, **settings):
    """Returns the log's lines."""
    extra = {name: settings.pop(name) for name in ("report", "stop") if name in settings}
    fit(task, LoopConfig(**({"steps": 10, "learning_rate": 0.1} | settings)), folder, Accelerator(cpu=True), **extra)
    return lines(folder)


def lines(folder):
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def without_time(found):
    return [{name: value for name, value in line.items() if name != "tokens_per_second"} for line in found]


def same(one, other):
    mine, theirs = one.module.state_dict(), other.module.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in mine.items())


# --- by hand


def test_the_schedule_by_hand(tmp_path):
    """10 steps, 2 of them warm-up: 0, 1/2, then 8/8, 7/8 … 1/8 of 0.1."""
    found = train(Toy(summed), tmp_path, warmup=0.2, log_every=1)
    assert [line["learning_rate"] for line in found] == pytest.approx([0, 0.05, *(n / 80 for n in range(8, 0, -1))])


@pytest.mark.parametrize(("warmup", "expected"), [(0.0, [1, 3 / 4, 2 / 4, 1 / 4]), (1.0, [0, 1 / 4, 2 / 4, 3 / 4])])
def test_no_warm_up_and_nothing_else(warmup, expected, tmp_path):
    found = train(Toy(summed), tmp_path, steps=4, warmup=warmup, learning_rate=1.0, log_every=1)
    assert [line["learning_rate"] for line in found] == pytest.approx(expected)


def test_a_share_that_is_a_whole_number_of_steps_is_not_rounded_up(tmp_path):
    """0.1 · 70 is 7.000000000000001 in floating point; step 8 (the first after 7 of warm-up) is at the full rate."""
    found = train(Toy(summed), tmp_path, steps=70, warmup=0.1, learning_rate=1.0, log_every=1)
    assert found[7]["learning_rate"] == 1.0


def test_the_log_by_hand(tmp_path):
    """Losses 0, 1, 2 | 3, 4, 5 | 6: means 1, 4, 6. Three parameters with gradient 1: norm √3; 10 tokens a step."""
    reported = []
    found = train(
        Toy(summed), tmp_path, steps=7, log_every=3, report=lambda step, tokens, losses: reported.append((step, tokens))
    )
    assert [(line["step"], line["loss"], line["tokens"]) for line in found] == [(3, 1, 30), (6, 4, 60), (7, 6, 70)]
    assert all(line["gradient_norm"] == pytest.approx(math.sqrt(3)) for line in found)
    assert all(line["tokens_per_second"] > 0 for line in found)
    assert reported == [(n, 10 * n) for n in range(1, 8)]


def test_matrices_decay_and_vectors_do_not(tmp_path):
    """Without a gradient a step at rate 0.1 and decay 0.5 multiplies weights by 0.95, and spares biases."""
    task = Toy(nothing)
    train(task, tmp_path, steps=1, warmup=0.0, weight_decay=0.5)
    torch.testing.assert_close(task.module.weight, torch.full((1, 2), 0.95))
    assert task.module.bias.item() == 1.0


def test_what_is_frozen_stays(tmp_path):
    task = Toy(summed)
    task.module.bias.requires_grad_(False)
    train(task, tmp_path, steps=3, warmup=0.0, weight_decay=0.5)
    assert task.module.bias.item() == 1.0
    assert (task.module.weight < 0.9).all()


def test_the_first_step_of_adam_by_hand(tmp_path):
    """m̂ / √v̂ is the gradient's sign, however it was clipped: 1 - 0.1."""
    task = Toy(lambda model, step: 50 * summed(model, step))
    train(task, tmp_path, steps=1, warmup=0.0)
    torch.testing.assert_close(task.module.weight, torch.full((1, 2), 0.9))
    assert not task.module.training


# --- resume


class StopError(Exception):
    pass


def stop_at(step):
    def report(done, tokens, found):
        if done == step:
            raise StopError

    return report


def course(task, folder, **settings):
    def validate(accelerator):
        assert not task.module.training
        torch.rand(3)  # validation may use the generator
        return {"sum": sum(weight.double().sum().item() for weight in task.module.parameters())}

    settings = {"steps": 9, "learning_rate": 1e-3, "log_every": 2, "save_every": 3, "validate_every": 4} | settings
    task.validate = validate
    return without_time(train(task, folder, weight_decay=0.1, **settings))


@pytest.fixture(scope="module", params=KINDS)
def whole(request, tmp_path_factory):
    """A run that nothing disturbed, with dropout."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    task = TASKS[request.param](dropout=True)
    log = course(task, tmp_path_factory.mktemp("whole"))
    torch.set_num_threads(before)
    return request.param, task, log


@pytest.mark.parametrize("stops", [(1,), (5,), (9,), (3, 7)])
def test_an_interrupted_run_goes_on_to_the_bit(whole, stops, tmp_path):
    kind, expected, log = whole
    for stop in stops:
        with pytest.raises(StopError):
            course(TASKS[kind](dropout=True), tmp_path, report=stop_at(stop))
    task = TASKS[kind](dropout=True)
    assert course(task, tmp_path) == log
    assert same(task, expected)
    assert task.extra() == expected.extra()
    assert [line["step"] for line in log] == [2, 4, 4, 6, 8, 8, 9, 9]
    assert ["validation" in line for line in log] == [False, False, True, False, False, True, False, True]
    assert course(task, tmp_path) == log  # a finished run is finished
    assert same(task, expected)


def test_a_run_stopped_in_its_last_validation_makes_it_again(tmp_path):
    def broken(accelerator):
        raise StopError

    task = Toy(summed)
    task.validate = broken
    with pytest.raises(StopError):
        train(task, tmp_path, steps=4)
    task = Toy(summed)
    task.validate = lambda accelerator: {"sum": 1.0}
    assert [line["step"] for line in train(task, tmp_path, steps=4)] == [4, 4]
    assert [line["step"] for line in train(Toy(summed), tmp_path / "none", steps=4)] == [4]  # nothing to score, no line


def test_dropout_differs_from_step_to_step_and_seed_to_seed(tmp_path):
    def drawn(seed, name):
        found = []

        def loss(model, step):
            found.append(torch.rand(1).item())
            return nothing(model, step)

        train(Toy(loss), tmp_path / name, steps=3, seed=seed)
        return found

    first, second = drawn(0, "a"), drawn(1, "b")
    assert len({*first, *second}) == 6
    assert drawn(0, "c") == first


@pytest.mark.process
def test_a_run_killed_outright_goes_on_to_the_bit(tmp_path):
    """kill -9 at a random step of two runs at once, in processes of their own; each is then finished here."""
    draw = random.Random()
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = {}
    for kind in KINDS:
        words = [sys.executable, "-m", "tests.support.training", "fit", str(tmp_path / kind), kind]
        killed[kind] = subprocess.Popen(words, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    at = {kind: draw.randint(1, 12) for kind in KINDS}
    waiting = set(KINDS)
    while waiting:
        for kind in list(waiting):
            log = tmp_path / kind / METRICS
            if killed[kind].poll() is not None or (log.is_file() and log.read_bytes().count(b"\n") >= at[kind]):
                time.sleep(draw.random() * 0.02)
                killed[kind].send_signal(signal.SIGKILL)
                waiting.discard(kind)
        time.sleep(0.002)
    said = {kind: process.communicate()[0].decode() for kind, process in killed.items()}
    for kind in KINDS:
        assert killed[kind].returncode == -signal.SIGKILL, (at, said[kind])
        assert (tmp_path / kind / METRICS).read_bytes().count(b"\n") < LOOP.steps, at
        task, expected = TASKS[kind](dropout=True), TASKS[kind](dropout=True)
        fit(task, LOOP, tmp_path / kind, Accelerator(cpu=True))
        fit(expected, LOOP, tmp_path / f"{kind} whole", Accelerator(cpu=True))
        assert same(task, expected), at
        ours, theirs = (without_time(lines(tmp_path / name)) for name in (kind, f"{kind} whole"))
        assert ours == theirs
        assert [line["step"] for line in ours if "loss" in line] == list(range(1, LOOP.steps + 1))


def test_a_line_that_was_cut_is_written_anew(tmp_path):
    log = train(Toy(summed), tmp_path / "whole", steps=6, log_every=1, save_every=2)
    with pytest.raises(StopError):
        train(Toy(summed), tmp_path / "cut", steps=6, log_every=1, save_every=2, report=stop_at(6))
    path = tmp_path / "cut" / METRICS
    path.write_text(path.read_text()[:-15])  # in the midst of step 5's
    found = train(Toy(summed), tmp_path / "cut", steps=6, log_every=1, save_every=2)
    assert without_time(found) == without_time(log)


# --- what stops it


def breaks(at, how):
    """Loss or gradient is not finite at a step: 0 · ∞, or √0 with its slope."""

    def loss(model, step):
        total = summed(model, step)
        if step != at:
            return total
        return total * float("nan") if how == "loss" else total + (total - total.detach()).abs().sqrt()

    return loss


@pytest.mark.parametrize("how", ["loss", "gradient"])
def test_what_is_not_finite_stops_the_run_and_keeps_the_state(how, tmp_path):
    kept = {}

    def report(step, tokens, found):
        if step == 5:
            kept["state"] = (tmp_path / STATE).read_bytes()
            kept["weights"] = {name: value.clone() for name, value in task.module.state_dict().items()}

    task = Toy(breaks(5, how))
    words = (
        r"step 6: loss .*gradient norm .*not finite\. The batch: items 5\. The last good state is kept in .*state\.pt"
    )
    with pytest.raises(TrainingError, match=words):
        train(task, tmp_path, save_every=2, log_every=1, report=report)
    assert (tmp_path / STATE).read_bytes() == kept["state"]
    assert torch.load(tmp_path / STATE, weights_only=True)["course"]["step"] == 4
    assert all(torch.equal(value, kept["weights"][name]) for name, value in task.module.state_dict().items())
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4, 5]
    healed = Toy(summed)
    found = train(healed, tmp_path, save_every=2, log_every=1)
    assert [line["step"] for line in found] == list(range(1, 11))


def test_before_the_first_save_it_says_so(tmp_path):
    with pytest.raises(TrainingError, match=r"step 1: loss nan, .*No state had been saved yet"):
        train(Toy(breaks(0, "loss")), tmp_path)


@pytest.mark.parametrize("damage", ["empty", "rubbish", "cut", "list", "other model", "older"])
def test_a_damaged_state_is_an_error(damage, tmp_path):
    train(Toy(summed), tmp_path, steps=2)
    path = tmp_path / STATE
    whole = path.read_bytes()
    if damage in ("empty", "rubbish", "cut"):
        path.write_bytes({"empty": b"", "rubbish": b"not a state", "cut": whole[: len(whole) // 2]}[damage])
    elif damage == "list":
        torch.save([1, 2], path)
    elif damage == "other model":
        torch.save(torch.load(path) | {"module": nn.Linear(3, 1).state_dict()}, path)
    else:
        torch.save({name: value for name, value in torch.load(path).items() if name != "extra"}, path)
    with pytest.raises(CheckpointError, match=r"state\.pt is damaged or of another model .*Remove it"):
        train(Toy(summed), tmp_path, steps=4)


class After:
    """Asks to stop once so many steps are done."""

    def __init__(self, steps):
        self.left = steps

    def report(self, step, tokens, found):
        self.left -= 1

    def __call__(self):
        return self.left <= 0


@pytest.mark.parametrize("stops", [(1,), (4,), (8,), (2, 3)])
def test_a_run_that_is_asked_to_stop_saves_that_step_and_goes_on_to_the_bit(whole, stops, tmp_path):
    """With `save_every` far away: at steps 4 and 8 a validation is due, which is made when the run goes on."""
    kind, expected, log = whole
    at = 0
    for steps in stops:
        stop = After(steps)
        with pytest.raises(TrainingStopped, match=f"saved at step {at + steps}") as stopped:
            course(TASKS[kind](dropout=True), tmp_path, save_every=500, report=stop.report, stop=stop)
        at += steps
        assert stopped.value.step == at
        assert torch.load(tmp_path / STATE, weights_only=True)["course"]["step"] == at
    task = TASKS[kind](dropout=True)
    assert course(task, tmp_path, save_every=500) == log
    assert same(task, expected)


def test_asked_to_stop_at_the_last_step_it_is_finished(tmp_path):
    stop = After(3)
    found = train(Toy(summed), tmp_path, steps=3, log_every=1, report=stop.report, stop=stop)
    assert [line["step"] for line in found] == [1, 2, 3]


def test_the_state_is_saved_after_so_many_minutes(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("harness.models.training.loop.time.monotonic", lambda: clock[0])
    seen = []

    def report(step, tokens, found):
        there = (tmp_path / STATE).exists()
        seen.append(torch.load(tmp_path / STATE, weights_only=True)["course"]["step"] if there else 0)
        clock[0] += 45  # seconds a step

    train(Toy(summed), tmp_path, steps=7, save_every=500, save_minutes=2, report=report)
    assert seen == [0, 0, 0, 3, 3, 3, 6]  # after 135 s, more than 2 minutes
