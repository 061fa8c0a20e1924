"""What can be known to be wrong before hours are spent: lengths, batches and starting points of every stage."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.datasets.dataset import resolve
from harness.retrievers.errors import InputError
from harness.retrievers.registry import get
from harness.training.data import corpora
from harness.training.recipe import ENCODERS, Finetune, Mine, Pretrain, Recipe, Score, Teacher, Weigh
from harness.training.recipe_data import Data
from harness.training.recipe_files import placed


def check(recipe: Recipe, base: Path, processes: int) -> None:
    """Raise InputError that lists what the stages ask of the model in `base`, or of so many processes, in vain."""
    config = json.loads((base / "config.json").read_text())
    positions = int(config.get("max_position_embeddings", 1 << 30))
    wrong = list(_wrong(recipe, positions, int(config["hidden_size"]), processes))
    if wrong:
        raise InputError(f"the recipe {recipe.name}: {'; '.join(wrong)}.")


def check_names(recipe: Recipe, root: Path | None) -> None:
    """Raise InputError for a retriever, a collection or a starting point that there is not."""
    data = recipe.data
    for name in (*data.against, recipe.system):
        get(name)
    own = [name for stage in recipe.stages.values() if isinstance(stage, Finetune) for name in stage.train]
    own += [name for stage in recipe.stages.values() if isinstance(stage, Weigh) for name in stage.collections]
    for name in (*data.train, *own, *data.evaluate, *((data.validate_on,) if data.validate_on else ())):
        if name not in data.pseudo:
            with _sourced(name, data):
                resolve(placed(name, root))
    pretrained = [part for stage in recipe.stages.values() if isinstance(stage, Pretrain) for part in stage.corpora]
    for part in (*data.corpora, *pretrained, *(part for made in data.pseudo.values() for part in made.corpora)):
        with _sourced(part.name, data):
            corpora.check(part, root)
    before: list[str] = ["base"]
    for name, stage in recipe.stages.items():
        if isinstance(stage, Mine) and stage.retriever != "model":
            get(stage.retriever)
        if isinstance(stage, Teacher) and stage.start_from in recipe.stages and stage.start_from not in before:
            raise InputError(
                f"{name}.start_from is {stage.start_from}, which leaves no encoder before it; there is "
                f"{', '.join(before)}, or a folder or hub id."
            )
        if stage.kind in ENCODERS:
            before.append(name)


@contextmanager
def _sourced(name: str, data: Data) -> Iterator[None]:
    """Of what cannot be found or read, say where the public gets it, if the recipe knows."""
    try:
        yield
    except InputError as error:
        found = next(
            (where for known, where in data.sources.items() if name == known or name.startswith(f"{known}/")), ""
        )
        if not found:
            raise
        raise InputError(f"{error} The source of {name}: {found}.") from error


def check_examples(recipe: Recipe, count: Callable[[Finetune | Teacher], int]) -> None:
    """Raise InputError that lists the stages that want more queries or negatives than there can be.

    `count` tells how many training queries a stage has.
    """
    wrong, depth = [], 0
    for name, stage in recipe.stages.items():
        if isinstance(stage, Mine):
            depth = stage.depth
        if isinstance(stage, Finetune | Teacher):
            queries = count(stage)
            if stage.batch > queries:
                wrong.append(f"{name}: a batch of {stage.batch:,} queries was asked for, and there are {queries:,}")
            if stage.negatives > depth:
                wrong.append(f"{name}: {stage.negatives:,} negatives of each query were asked for, of {depth:,} mined")
        if isinstance(stage, Score):
            depth = min(depth, stage.candidates)
    if wrong:
        raise InputError(f"the recipe {recipe.name}: {'; '.join(wrong)}.")


def _wrong(recipe: Recipe, positions: int, hidden: int, processes: int) -> Iterator[str]:
    projected: int | None = None  # the width of the projection so far
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
            if projected and stage.dense and stage.dense != projected:
                yield f"{name}.dense is {stage.dense}; the stages before it have a projection to {projected}"
            projected = projected or (stage.dense if stage.dense not in (None, 0, hidden) else None)
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
