"""What an ablation is going to do: every stage once, the rows that need it, and whether it is there already."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.ablation.grid import Arm
from harness.training.conductor import open_context, survey
from harness.training.stage import in_words
from harness.training.stage_folder import StageFolder


@dataclass(frozen=True)
class Planned:
    """One stage of the plan, however many arms share it."""

    place: Path
    what: str
    rows: tuple[str, ...]
    state: str  # "done", "unfinished", "to do"


def plan(chosen: Sequence[Arm], places: Sequence[dict[str, StageFolder]] | None) -> list[Planned]:
    """Every stage once, in the order in which they are done; without `places` none is taken to be there."""
    found: dict[Path, Planned] = {}
    for number, arm in enumerate(chosen):
        for name, stage in arm.recipe.stages.items():
            path = arm.folders[name]
            before = found[path].rows if path in found else ()
            state = _state(places[number][name]) if places else "to do"
            found[path] = Planned(path, in_words(stage), (*before, *arm.rows), state)
    return list(found.values())


def _state(place: StageFolder) -> str:
    return "done" if place.finished else "unfinished" if place.begun else "to do"


def look(chosen: Sequence[Arm], output: Path) -> list[Planned]:
    """The plan with what is done already; corpora and collections are read only where there is something to find.

    Raises InputError for what another recipe left under `output`.
    """
    if not any(path.exists() for arm in chosen for folder in arm.folders.values() for path in _either(folder)):
        return plan(chosen, None)
    first = open_context(chosen[0].recipe, output)
    return plan(chosen, [survey(first.of(arm.recipe, arm.output, arm.folders)) for arm in chosen])


def _either(folder: Path) -> tuple[Path, Path]:
    return folder, folder.with_name(f"{folder.name}.partial")


def as_text(stages: Sequence[Planned], output: Path) -> str:
    """A Markdown table, and how much of it is left to do."""
    lines = [f"| stage, under {output} | what | rows of Table 3 | state |", "| --- | --- | --- | --- |"]
    for stage in stages:
        rows = "; ".join(dict.fromkeys(stage.rows))
        lines.append(f"| {stage.place.relative_to(output)} | {stage.what} | {rows} | {stage.state} |")
    done = sum(stage.state == "done" for stage in stages)
    return "\n".join(lines) + f"\n\n{len(stages)} stages, {done} of them done\n"
