"""What can be known to be wrong before hours are spent: lengths, batches and starting points of every stage."""

import json
from collections.abc import Iterator
from pathlib import Path

from harness.recipe import Finetune, Pretrain, Recipe, Teacher
from retrievers.errors import InputError


def check(recipe: Recipe, base: Path, processes: int) -> None:
    """Raise InputError that lists what the stages ask of the model in `base`, or of so many processes, in vain."""
    config = json.loads((base / "config.json").read_text())
    positions = int(config.get("max_position_embeddings", 1 << 30))
    wrong = list(_wrong(recipe, positions, int(config["hidden_size"]), processes))
    if wrong:
        raise InputError(f"the recipe {recipe.name}: {'; '.join(wrong)}.")


def _wrong(recipe: Recipe, positions: int, hidden: int, processes: int) -> Iterator[str]:
    for name, stage in recipe.stages.items():
        lengths = {}
        if isinstance(stage, Pretrain):
            lengths = {"length": stage.length}
            if stage.batch % (stage.micro_batch * processes):
                yield (
                    f"{name}: a batch of {stage.batch} is no multiple of micro-batches of {stage.micro_batch} on "
                    f"{_count(processes)}"
                )
        elif isinstance(stage, Finetune):
            lengths = {"query_length": stage.query_length, "passage_length": stage.passage_length}
            if stage.batch % processes:
                yield f"{name}: a batch of {stage.batch} queries cannot be shared out among {_count(processes)}"
            if stage.dense is not None and stage.dense > hidden:
                yield f"{name}.dense is {stage.dense}; the model is {hidden} wide, and a projection only narrows it"
        elif isinstance(stage, Teacher):
            if stage.start_from == "base" or stage.start_from in recipe.stages:
                lengths = {"length": stage.length}
            if stage.batch % (stage.chunk * processes):
                yield (
                    f"{name}: a batch of {stage.batch} queries is no multiple of {stage.chunk} at once on "
                    f"{_count(processes)}"
                )
        for setting, length in lengths.items():
            if length > positions:
                yield f"{name}.{setting} is {length}; the model has positions for {positions} tokens at most"


def _count(processes: int) -> str:
    return f"{processes} process{'es' * (processes > 1)}"
