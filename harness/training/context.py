"""What the stages of a recipe share: where they are, their data, the processes, the loop."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.models.hybrid import HybridSpec
from harness.models.layers import attention
from harness.models.training import loop
from harness.models.training.tokens import Ragged, Tokens
from harness.retrievers.errors import InputError
from harness.runtime.hashing import digest
from harness.runtime.job import HarnessJob
from harness.training.data import corpora, pseudo_queries
from harness.training.data.collections import Training
from harness.training.recipe import Finetune, Pretrain, Recipe, Weigh
from harness.training.recipe_data import CorpusPart

NEGATIVES, SCORES = "negatives.npz", "scores.npz"
Facts = dict[str, Any]


@dataclass
class Context:
    """What all stages of a recipe share."""

    recipe: Recipe
    output: Path
    root: Path | None
    accelerator: Any
    job: HarnessJob
    folders: dict[str, Path] = field(default_factory=dict)  # of stages that do not lie under `output` by their names
    # the last finished stage of each kind; `encoder` is the last that left one
    latest: dict[str, Path] = field(default_factory=dict)
    _stamps: dict[CorpusPart, Any] = field(default_factory=dict)
    _opened: dict[tuple[str, ...], Training] = field(default_factory=dict)

    def of(self, recipe: Recipe, output: Path, folders: dict[str, Path]) -> "Context":
        """Another recipe on the same processes and under the same root; what was opened is not opened again."""
        return replace(self, recipe=recipe, output=output, folders=folders, latest={})

    def place(self, name: str) -> Path:
        """The folder of a stage, or of the `base`."""
        return self.folders.get(name, self.output / name)

    @property
    def training(self) -> Training:
        """The collections of `data.train`, opened."""
        return self.opened(self.recipe.data.train)

    def opened(self, names: tuple[str, ...]) -> Training:
        """Training collections by name, each opened once; pseudo-queries are made where they are not there yet."""
        if names not in self._opened:
            with self.accelerator.main_process_first():
                places = [self._place(name) for name in names]
                self._opened[names] = Training(places, self.root, self.job)
        return self._opened[names]

    def _place(self, name: str) -> str:
        pseudo = self.recipe.data.pseudo.get(name)
        return name if pseudo is None else str(pseudo_queries.collection(pseudo, self.root, self.job.cache, self.job))

    def stamp(self, parts: tuple[CorpusPart, ...]) -> list[Any]:
        """What changes when these corpora do; each is read for it once. Raises InputError for one that is not there."""
        for part in parts:
            if part not in self._stamps:
                self._stamps[part] = corpora.stamp(part, self.root)
        return [self._stamps[part] for part in parts]

    @property
    def main(self) -> bool:
        """Whether this process writes."""
        return bool(self.accelerator.is_main_process)

    @property
    def encoder(self) -> Path:
        """The checkpoint of the encoder so far."""
        return self.latest.get("encoder") or self.place("base")

    @property
    def share(self) -> dict[str, int]:
        """Which of how many processes this is."""
        return {"rank": self.accelerator.process_index, "processes": self.accelerator.num_processes}

    def trained(self, name: str, before: HybridSpec) -> dict[str, Any]:
        """What a checkpoint says of how it was trained: this stage's settings, and what all stages until now learned.

        `before` is of the checkpoint that it started from, with the widths that the stage gives it. `pretraining` names
        the decoding tasks of Table 3, `pretrained_on` the corpora and `finetuned_on` the collections, each once, in
        order; these decide which cell of a table a run may fill (`harness.reports.paper.rows`). `weighed_on` are the
        collections that the halves were weighed on.
        """
        stage, data = self.recipe.stages[name], self.recipe.data
        learned = before.learned
        if isinstance(stage, Pretrain):
            parts = [part.shown for part in stage.corpora or data.corpora]
            learned["pretraining"] = stage.objective.config().tasks
            learned["pretrained_on"] = list(dict.fromkeys([*learned.get("pretrained_on", []), *parts]))
        elif isinstance(stage, Finetune):
            learned["finetuned_on"] = list(dict.fromkeys([*learned.get("finetuned_on", []), *self._sets(stage)]))
            learned["finetuned_as"] = [before.dense, before.lexical]
        elif isinstance(stage, Weigh):
            learned["weighed_on"] = list(dict.fromkeys([*learned.get("weighed_on", []), *stage.collections]))
            # no weight of the model changes: it is trained as the stage before says
            return before.trained | {"stage": name} | learned
        own = {"recipe": self.recipe.name, "stage": name, "seed": self.recipe.seed}
        return own | stage.model_dump(mode="json", exclude_defaults=True) | learned

    def _sets(self, stage: Finetune) -> Iterator[str]:
        pseudo = self.recipe.data.pseudo
        for name in self.recipe.trains_on(stage):
            yield from pseudo_queries.names(pseudo[name]) if name in pseudo else (name,)


def token_pairs(
    context: Context, training: Training, tokenizer: Any, query: int, passage: int
) -> tuple[Tokens, Tokens]:
    """Token ids of the training queries and documents, at most so many each; made by one process for all."""
    with context.accelerator.main_process_first():
        return training.tokens(tokenizer, vocabulary_hash(tokenizer), query, passage)


def vocabulary_hash(tokenizer: Any) -> str:
    """What two tokenizers that cut texts alike have in common."""
    return digest(tokenizer.backend_tokenizer.to_str())


def mined(context: Context) -> Ragged:
    """The negatives of the last mining stage."""
    return read_rows(context.latest["mine"] / NEGATIVES)


def read_rows(path: Path) -> Ragged:
    """Rows of documents for each query, as a mining stage wrote them."""
    found = np.load(path)
    return Ragged(found["rows"].astype(np.int64), found["offsets"])


def sound(name: str, make: Callable[[], Any]) -> Any:
    """Make a task; raises InputError for settings that it cannot work with."""
    try:
        return make()
    except ValueError as error:
        raise InputError(f"{name}: {error}. Change it in the recipe, or with --set {name}.…") from error


def fit_stage(context: Context, name: str, task: Any, settings: Any, folder: Path, validate: Any = None) -> None:
    """Run the loop under a progress bar."""
    with context.job.phase(name, settings.steps, "steps") as meter:

        def report(done: int, seen: int, found: Any) -> None:
            meter.reach(done)
            meter.say(seen, f"loss {found['loss']:.3f}")

        loop.fit(task, settings, folder, context.accelerator, report, validate)


def choose_attention(context: Context, model: Any, length: int) -> bool:
    """Have the model compute attention in the way that pays for such texts; whether it is written out."""
    accelerator = context.accelerator
    pays = attention.written_out_pays(accelerator.device.type, accelerator.mixed_precision, length)
    if pays:
        attention.choose(model, pays)
    return pays
