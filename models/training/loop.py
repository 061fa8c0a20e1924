"""The training loop that all stages share: explicit, on accelerate, and resumed exactly.

Of a run's course only weights, optimizer, step and the log's sums are kept: data order, masks and dropout are pure
functions of (seed, step, process). So a run that was killed goes on as if nothing had happened, bit for bit on the CPU.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from harness.models.errors import TrainingError, TrainingStopped
from harness.models.training.config import LoopConfig
from harness.models.training.seeds import mixed
from harness.models.training.state import METRICS, STATE, Course, append, keep_lines, resume, save

Report = Callable[[int, int, Mapping[str, float]], None]  # steps done, tokens so far, what was measured


class Task(Protocol):
    """What a stage trains. Each process does its share of the step's global batch."""

    module: nn.Module

    def prepare(self, step: int) -> Any:
        """Make the batch of a step, on the CPU; called ahead of time from another thread."""
        ...

    def backward(self, model: Any, batch: Any, accelerator: Any) -> tuple[dict[str, Tensor], int]:
        """Losses of the batch, with `loss` among them, gradients left in the parameters; and its tokens."""
        ...

    def name(self, batch: Any) -> str:
        """Which texts the batch holds, for a message."""
        ...

    def extra(self) -> dict[str, float]:
        """Numbers that were set at step 0 and belong to the checkpoint."""
        ...

    def restore(self, extra: Mapping[str, float]) -> None:
        """Take such numbers back."""
        ...

    def validate(self, accelerator: Any) -> Mapping[str, float]:
        """Scores of the current weights, by name, or none; the main process alone is asked, its model in eval mode."""
        ...


def fit(
    task: Task,
    config: LoopConfig,
    folder: Path,
    accelerator: Any,
    report: Report = lambda _step, _tokens, _found: None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train `task.module` for `config.steps` steps, or go on from the state in `folder`.

    `folder` then holds `metrics.jsonl`, one line each `log_every` steps: mean losses since the last line, over all
    processes, learning rate, gradient norm, tokens/s; and lines with validation scores. The state there is replaced
    every `save_every` steps, and after `save_minutes`. Once `stop` says so in any process, the step is finished, its
    state written, and TrainingStopped raised in all of them; a validation that was due then is made when it goes on.

    Raises TrainingError at the first step whose loss or gradient is not finite, before it changes a weight, and leaves
    the state as it was last saved; CheckpointError for a state that does not fit.
    """
    from concurrent.futures import ThreadPoolExecutor

    rank, main = accelerator.process_index, accelerator.is_main_process
    model, optimizer, schedule = _prepared(task, config, accelerator)
    course = resume(folder, task, optimizer, schedule, accelerator)
    start = course.step
    if main:
        keep_lines(folder / METRICS, start)
    model.train()
    if course.owed and main:
        _validate(task, model, folder / METRICS, start, accelerator)
    state = _State(folder / STATE, lambda path, now: save(path, task, optimizer, schedule, now, accelerator))
    since, began = 0, time.perf_counter()  # tokens since the last line
    with ThreadPoolExecutor(1) as ahead:
        following = ahead.submit(task.prepare, start) if start < config.steps else None
        for step in range(start, config.steps):
            assert following is not None
            batch = following.result()
            following = ahead.submit(task.prepare, step + 1) if step + 1 < config.steps else None
            torch.manual_seed(mixed(config.seed, step, rank))  # dropout's

            found, norm, passed, halt = _gradients(task, model, batch, config, accelerator, step, stop)
            # fp16's scaler meets overflowing gradients by itself; elsewhere they mean that training went wrong
            if not math.isfinite(found["loss"]) or not (math.isfinite(norm) or accelerator.mixed_precision == "fp16"):
                raise TrainingError(_broken(step, found, norm, task.name(batch), folder))
            rate = float(schedule.get_last_lr()[0])  # of this step
            _advance(optimizer, schedule, accelerator)

            since, done = since + passed, step + 1
            sums = {name: course.sums.get(name, 0.0) + value for name, value in found.items()}
            course = Course(done, course.tokens + passed, course.window + 1, sums)
            report(done, course.tokens, found)
            if done % config.log_every == 0 or done == config.steps:
                line = {"step": done, **{name: value / course.window for name, value in sums.items()}}
                line |= {"gradient_norm": norm, "learning_rate": rate, "tokens": course.tokens}
                line["tokens_per_second"] = since / (time.perf_counter() - began)
                if main:
                    append(folder / METRICS, line)
                course, since, began = Course(done, course.tokens), 0, time.perf_counter()
            last = done == config.steps
            due = last or bool(config.validate_every and done % config.validate_every == 0)
            if (halt or (accelerator.num_processes == 1 and stop())) and not last:
                # a validation may take longer than whoever asks to stop will wait
                state.save(replace(course, owed=due))
                accelerator.wait_for_everyone()  # a launcher ends all when one ends
                raise TrainingStopped(done)
            if due:
                if main:  # the other processes wait at the next step's first exchange
                    _validate(task, model, folder / METRICS, done, accelerator)
                began, since = time.perf_counter(), 0
            if done % config.save_every == 0 or last or state.minutes > config.save_minutes:
                state.save(course)  # after the validation: a run killed in it makes it again
    accelerator.unwrap_model(model).eval()


class _State:
    """The saved state, and how long ago that was."""

    def __init__(self, path: Path, write: Callable[[Path, Course], None]) -> None:
        self._path, self._write, self._saved = path, write, time.monotonic()

    @property
    def minutes(self) -> float:
        return (time.monotonic() - self._saved) / 60

    def save(self, course: Course) -> None:
        self._write(self._path, course)
        self._saved = time.monotonic()


def _prepared(task: Task, config: LoopConfig, accelerator: Any) -> tuple[Any, Any, Any]:
    """The model, the optimizer and the schedule, on their device."""
    optimizer = torch.optim.AdamW(_groups(task.module, config.weight_decay), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, config))
    model, optimizer = accelerator.prepare(task.module, optimizer)
    if hasattr(model, "broadcast_buffers"):  # under DDP; ours never change, and two forwards share one backward
        model.broadcast_buffers = False
    return model, optimizer, schedule


def _gradients(
    task: Task, model: Any, batch: Any, config: LoopConfig, accelerator: Any, step: int, stop: Callable[[], bool]
) -> tuple[dict[str, float], float, int, bool]:
    """Leave clipped gradients; mean losses over processes, the norm before clipping, tokens of all processes.

    And whether any process was asked to stop, which all learn at the same step.
    """
    try:
        losses, count = task.backward(model, batch, accelerator)
    except ValueError as error:  # a batch that nothing can be learned from
        raise TrainingError(f"step {step + 1}: {error}. The batch: {task.name(batch)}.") from error
    counts = losses["loss"].new_tensor([float(count), float(stop())])
    totals = torch.cat([torch.stack(list(losses.values())), counts]).float()
    *means, tokens, halts = (accelerator.reduce(totals, reduction="sum") / accelerator.num_processes).tolist()
    norm = float(accelerator.clip_grad_norm_(model.parameters(), config.clip))
    return dict(zip(losses, means, strict=True)), norm, round(tokens * accelerator.num_processes), halts > 0


def _advance(optimizer: Any, schedule: Any, accelerator: Any) -> None:
    optimizer.step()
    if not accelerator.optimizer_step_was_skipped:  # as fp16's scaler does where a gradient overflowed
        schedule.step()
    optimizer.zero_grad(set_to_none=True)


def _validate(task: Task, model: nn.Module, path: Path, step: int, accelerator: Any) -> None:
    model.eval()
    if found := task.validate(accelerator):
        append(path, {"step": step, "validation": dict(found)})
    model.train()


def _rate(step: int, config: LoopConfig) -> float:
    """The factor of the learning rate: up from 0 over the warm-up, then down to 0."""
    warm = math.ceil(round(config.warmup * config.steps, 6))  # 0.1 * 70 is a little more than 7
    if step < warm:
        return step / warm
    return max(0.0, (config.steps - step) / max(1, config.steps - warm))


def _groups(module: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Matrices decay, vectors (biases, LayerNorm) do not; what is frozen is left out."""
    trained = [weight for weight in module.parameters() if weight.requires_grad]
    return [
        {"params": [weight for weight in trained if weight.ndim > 1], "weight_decay": decay},
        {"params": [weight for weight in trained if weight.ndim <= 1], "weight_decay": 0.0},
    ]


def _broken(step: int, found: Mapping[str, float], norm: float, batch: str, folder: Path) -> str:
    saved = folder / STATE
    kept = f"The last good state is kept in {saved}" if saved.is_file() else "No state had been saved yet"
    losses = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
    return (
        f"step {step + 1}: {losses}, gradient norm {norm:.4g}, which is not finite. The batch: {batch}. {kept}. Lower "
        "learning_rate, raise warmup, or look at these texts."
    )
