"""What a recipe leaves open: lengths and micro-batches, which depend on the model and on the processes."""

import json
from pathlib import Path
from typing import Any

from harness.retrievers.places import expanded
from harness.training.recipe import Base, Recipe
from harness.training.schedule import Schedule
from harness.training.stage import Outlook
from harness.training.stage_folder import MANIFEST, STARTED

_BERT_POSITIONS = 512  # BertConfig's default


def settled(recipe: Recipe, positions: int, processes: int, folders: dict[str, Path] | None = None) -> Recipe:
    """The recipe with a value for every setting that it leaves open.

    Lengths are the usual ones, cut to `positions` (0: not known). A stage that lies in its folder already, finished or
    not, keeps the micro-batch that it was made with, on however many processes.
    """
    outlook = Outlook(recipe.data, tuple(recipe.stages), positions=positions, processes=processes)
    stages = {}
    for outlook.name, stage in recipe.stages.items():
        outlook.there = _made_with(folders[outlook.name]) if folders else {}
        found = stage.left_open(outlook)
        stages[outlook.name] = stage.model_copy(update=found) if found else stage
    return recipe.model_copy(update={"stages": stages})


def planned(recipe: Recipe) -> Recipe:
    """`settled` for one process; a hub's checkpoint is not fetched for a plan, so its positions stay unknown."""
    open_ = any(getattr(stage, length) is None for stage in recipe.stages.values() for length in stage.lengths)
    return settled(recipe, positions(recipe.base) if open_ and at_hand(recipe.base) else 0, processes=1)


def cut(recipe: Recipe, settled: Recipe) -> list[str]:
    """Which lengths are shorter than usual since the model has no positions for more, a line each."""
    return [
        f"{name}.{setting} is {getattr(settled.stages[name], setting)}, the most that the base has positions for; "
        f"{usual} is usual"
        for name, stage in recipe.stages.items()
        for setting, usual in stage.lengths.items()
        if getattr(stage, setting) is None and getattr(settled.stages[name], setting) < usual
    ]


def slow(recipe: Recipe, settled: Recipe) -> list[str]:
    """Which micro-batches are small only since the batch has no larger divisor, a line each."""
    return [
        f"{name}.micro_batch is {size}, the most up to 32 that a batch of {stage.batch} can be cut into: a batch with "
        "more divisors, such as a multiple of 32, is faster"
        for name, stage in recipe.of_kind(Schedule).items()
        if getattr(stage, "micro_batch", 0) is None
        and (size := settled.stages[name].settled("micro_batch")) < 8 <= stage.batch
    ]


def at_hand(base: Base) -> bool:
    """Whether what the recipe starts from need not be fetched."""
    from harness.models.checkpoints import packaged

    return base.checkpoint is None or base.checkpoint in packaged.NAMES or expanded(base.checkpoint).exists()


def positions(base: Base) -> int:
    """How many tokens the base reads at most. Raises CheckpointError for a checkpoint that is not there or damaged."""
    if base.model is not None:
        most = base.model.get("max_position_embeddings", _BERT_POSITIONS)
        return most if isinstance(most, int) else 0  # BertConfig refuses what is no number
    from harness.models.checkpoints import checkpoint, hub, layouts, weights

    source = layouts.read(hub.locate(str(base.checkpoint))).backbone
    return weights.positions(checkpoint.parts(source)[0])


def _made_with(folder: Path) -> dict[str, Any]:
    """The settings of the stage in `folder`; none where there is no stage, or where it cannot be read."""
    for path in (folder / MANIFEST, folder.with_name(f"{folder.name}.partial") / STARTED):
        if path.is_file():
            try:
                return dict(json.loads(path.read_text(encoding="utf-8"))["decides"]["stage"])
            except (OSError, ValueError, KeyError, TypeError):  # StageFolder says so
                return {}
    return {}
