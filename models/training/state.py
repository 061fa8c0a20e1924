"""What a training keeps on disk while it runs: its state, replaced at one stroke, and its log."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from harness.models.errors import CheckpointError, first_line

STATE, METRICS = "state.pt", "metrics.jsonl"


@dataclass
class Course:
    """How far a run has come."""

    step: int = 0
    tokens: int = 0
    window: int = 0  # steps since the last line of the log, and the sums of their losses
    sums: dict[str, float] = field(default_factory=dict)
    owed: bool = False  # whether the validation at this step is still to be made


def save(path: Path, task: Any, optimizer: Any, schedule: Any, course: Course, accelerator: Any) -> None:
    """Replace the state at one stroke; the first process writes for all."""
    if not accelerator.is_main_process:
        return
    state = {
        "course": asdict(course),
        "extra": task.extra(),
        "module": task.module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "scaler": None if accelerator.scaler is None else accelerator.scaler.state_dict(),
    }
    new = path.with_name(path.name + ".new")
    torch.save(state, new)
    new.replace(path)


def resume(folder: Path, task: Any, optimizer: Any, schedule: Any, accelerator: Any) -> Course:
    """Take up the state in `folder`; the start where there is none."""
    path = folder / STATE
    if not path.is_file():
        return Course()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        task.module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        if accelerator.scaler is not None and state["scaler"] is not None:
            accelerator.scaler.load_state_dict(state["scaler"])
        task.restore(state["extra"])
        return Course(**state["course"])
    except Exception as error:  # torch, pickle and zipfile each have their own ways to fail
        raise CheckpointError(
            f"{path} is damaged or of another model ({first_line(error)}). Remove it to train this stage from its "
            "start."
        ) from error


def keep_lines(path: Path, step: int) -> None:
    """Drop what the log says of steps after the state that is taken up; they come again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError):  # the last line of a killed run may be cut
            break
    new = path.with_name(path.name + ".new")
    new.write_text("".join(kept))
    new.replace(path)


def append(path: Path, line: Mapping[str, Any]) -> None:
    """Add a line to the log."""
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")
