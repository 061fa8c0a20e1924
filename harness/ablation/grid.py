"""The grid of Table 3: three pre-trainings, seven fine-tunings, eight rows; each arm is a recipe of its own."""

import json
from dataclasses import dataclass
from pathlib import Path

from harness.models.checkpoints import hub
from harness.models.errors import CheckpointError
from harness.reports.ablation.rows import BOTH, CLS, OT, ROWS, label, widths
from harness.retrievers.errors import InputError
from harness.training.recipe import Recipe
from harness.training.schedule import Schedule
from harness.training.stage import ENCODER, FINE_TUNED, NEGATIVES, SCORES, TEACHER
from harness.training.stages.finetune import Finetune
from harness.training.stages.pretrain import Objective, Pretrain

_SHORT = {CLS: "cls", OT: "ot", BOTH: "both"}


@dataclass(frozen=True)
class Arm:
    """One pre-training and one representation with one seed: a recipe, and where its stages lie."""

    recipe: Recipe
    output: Path
    folders: dict[str, Path]
    rows: tuple[str, ...]  # of Table 3

    @property
    def checkpoint(self) -> Path:
        """The last encoder: of fine-tuning, or of what came after it, such as the weighing of its halves."""
        return self.folders[[name for name, stage in self.recipe.stages.items() if ENCODER in stage.leaves][-1]]


def stage_2(recipe: Recipe) -> Recipe:
    """The recipe without what comes after the paper's stage 2: pre-training, in-batch, mining, hard negatives.

    Of what follows the first fine-tuning on mined negatives everything that trains or mines is left out, and the
    teacher and distillation wherever they stand. What does neither stays, such as weighing the halves.

    Raises InputError for a recipe without pre-training, without mined negatives, or that pre-trains after fine-tuning;
    and for one that has nothing to be measured on.
    """
    names = list(recipe.stages)
    ends = [n for n, s in recipe.of_kind(Finetune).items() if s.negatives and not s.distil]
    if not ends:
        raise _unfit(recipe, "has no fine-tuning on mined negatives (negatives: 1 or more, without distil)")
    after = names[names.index(ends[0]) + 1 :]
    stages = {
        name: stage
        for name, stage in recipe.stages.items()
        if not {TEACHER, SCORES} & {*stage.leaves, *stage.needs()}
        and not (name in after and (isinstance(stage, Schedule) or NEGATIVES in stage.leaves))
    }
    pretrained = [name for name in stages if name in recipe.of_kind(Pretrain)]
    if not pretrained:
        raise _unfit(recipe, "has no pre-training before them")
    tuned = [name for name, stage in stages.items() if FINE_TUNED in stage.leaves]
    if names.index(pretrained[-1]) > names.index(tuned[0]):
        raise _unfit(recipe, "pre-trains after fine-tuning, so that representations cannot share a pre-training")
    if not recipe.data.evaluate:
        raise _unfit(recipe, "names no collection in data.evaluate")
    return recipe.model_copy(update={"stages": stages})


def _unfit(recipe: Recipe, what: str) -> InputError:
    return InputError(
        f"the recipe {recipe.name} {what}. An ablation wants pre-training, in-batch fine-tuning, mining and hard "
        "negatives, in that order, and a collection to measure on; `harness ablate --recipe small --plan` shows one."
    )


def arms(recipe: Recipe, hidden: int, output: Path, seeds: int = 1, share_pretraining: bool = False) -> list[Arm]:
    """All arms of a recipe for a model `hidden` wide, seed by seed, from the recipe's seed up.

    With `share_pretraining` all start from the pre-trainings of the first seed. Raises InputError as `stage_2`, and for
    an objective that cannot be taken apart into the two decoding tasks.
    """
    recipe = stage_2(recipe)
    pairs = list(dict.fromkeys((row.pretraining, row.representation) for row in ROWS))
    first = recipe.seed
    if share_pretraining:
        recipe = recipe.model_copy(update={"pretraining_seed": first})
    return [_arm(recipe, hidden, output, seed, *pair) for seed in range(first, first + seeds) for pair in pairs]


def _arm(recipe: Recipe, hidden: int, output: Path, seed: int, pretraining: str, representation: str) -> Arm:
    dense, lexical = widths(representation, hidden)
    before = seed if recipe.pretraining_seed is None else recipe.pretraining_seed
    shared = output / f"seed-{before}" / _SHORT[pretraining]
    output, base = output / f"seed-{seed}", output / f"seed-{before}" / "base"
    # a stage's name holds no point, so these cannot meet
    own = output / f"{_SHORT[pretraining]}.{label(dense, lexical).replace(':', '').replace(', ', '-')}"
    pretrained = recipe.of_kind(Pretrain)
    last = max(list(recipe.stages).index(name) for name in pretrained)
    folders = {name: (shared if n <= last else own) / name for n, name in enumerate(recipe.stages)} | {"base": base}
    stages = dict(recipe.stages)
    for name, stage in pretrained.items():
        stages[name] = stage.model_copy(update={"objective": objective(stage.objective, pretraining)})
    for name, tuned in recipe.of_kind(Finetune).items():
        stages[name] = tuned.model_copy(update={"dense": dense, "lexical": lexical})
    rows = tuple(row.name for row in ROWS if (row.pretraining, row.representation) == (pretraining, representation))
    system = "retromae-finetune" if rows == ("RetroMAE",) else "dupmae"
    changed = recipe.model_copy(update={"stages": stages, "seed": seed, "system": system})
    return Arm(changed, output, folders, rows)


def objective(given: Objective, pretraining: str) -> Objective:
    """`given` with the decoding tasks of one pre-training alone.

    CLS decoding is kind RetroMAE: DupMAE with a bag-of-words weight of 0 has the same losses (in the preset `paper`;
    the authors' codes for the two also differ in the decoder's query). OT decoding is DupMAE without reconstruction.
    Raises InputError where a weight of `given` is 0 already.
    """
    change = {name: value for name, value in given.change.items() if pretraining != CLS or not name.startswith("bow_")}
    if pretraining == OT:
        change["reconstruction_weight"] = 0.0
    found = Objective(preset=given.preset, kind="RetroMAE" if pretraining == CLS else "DupMAE", change=change)
    if found.config().tasks != pretraining:
        raise InputError(
            f"objective.change is {given.change}, which leaves no {pretraining} to pre-train. Leave bow_loss_weight "
            "and reconstruction_weight above 0: the ablation itself takes the one or the other out."
        )
    return found


def hidden_width(recipe: Recipe, guess: bool = False) -> int:
    """H of the model that the recipe starts from.

    With `guess` a checkpoint that is not at hand is taken to be as wide as both halves of the recipe's fine-tuning
    together, which is how the paper cuts it. Raises CheckpointError for one that is not at hand.
    """
    from transformers import BertConfig

    if recipe.base.model is not None:
        return int(recipe.base.model.get("hidden_size", BertConfig().hidden_size))
    try:
        return int(json.loads((hub.locate(str(recipe.base.checkpoint)) / "config.json").read_text())["hidden_size"])
    except CheckpointError:
        halves = [(s.dense, s.lexical) for s in recipe.of_kind(Finetune).values()]
        if guess and halves and halves[0][0] and halves[0][1]:
            return halves[0][0] + halves[0][1]
        raise
