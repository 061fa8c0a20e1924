"""What the stages of a recipe share: where they are, their data, the processes, the loop."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.datasets.dataset import Dataset
from harness.datasets.loader import resolve
from harness.models.layers import attention
from harness.models.training import loop
from harness.models.training.tokens import Tokens
from harness.retrievers.errors import InputError
from harness.runtime.hashing import digest
from harness.runtime.job import HarnessJob
from harness.runtime.stopping import Stopping
from harness.training.data import corpora, pseudo_queries
from harness.training.data.collections import Training
from harness.training.recipe import Recipe
from harness.training.recipe_data import CorpusPart
from harness.training.stage import ENCODER

_FAR = 2  # times the loss of guessing


@dataclass
class Context:
    """What all stages of a recipe share."""

    recipe: Recipe
    output: Path
    accelerator: Any
    job: HarnessJob
    stopping: Stopping = field(default_factory=Stopping)
    folders: dict[str, Path] = field(default_factory=dict)  # of stages that do not lie under `output` by their names
    latest: dict[str, Path] = field(default_factory=dict)  # what a stage leaves → the last finished stage that left it
    _stamps: dict[CorpusPart, Any] = field(default_factory=dict)
    _opened: dict[tuple[str, ...], Training] = field(default_factory=dict)

    def of(self, recipe: Recipe, output: Path, folders: dict[str, Path]) -> "Context":
        """Another recipe of the same data, on the same processes; what was opened is not opened again."""
        return replace(self, recipe=recipe, output=output, folders=folders, latest={})

    def seeded(self, stage: str | None) -> "Context":
        """This context with the seed that a stage has, or the base (None); what one opens or leaves, both know."""
        return replace(self, recipe=self.recipe.seeded(stage))

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
                self._opened[names] = Training([self.collection(name) for name in names], self.job)
        return self._opened[names]

    def collection(self, name: str) -> str:
        """Where a collection of the recipe lies, as the loader takes it; one of pseudo-queries is made if need be."""
        pseudo = self.recipe.data.pseudo.get(name)
        if pseudo is None:
            return self.recipe.place(name)
        places = [self.recipe.place(part.name) for part in pseudo.corpora]
        asked = self.recipe.place(pseudo.asked) if pseudo.asked else None
        apart = Path(self.collection(pseudo.apart_from)) if pseudo.apart_from else None
        return str(pseudo_queries.collection(pseudo, places, self.job, asked, apart))

    def dataset(self, name: str) -> Dataset:
        """A collection of the recipe by name, opened; of a composite the first part."""
        dataset = resolve(self.collection(name), queries_with_text=True)[0]
        dataset.open(self.job)
        return dataset

    def stamp(self, parts: tuple[CorpusPart, ...]) -> list[Any]:
        """What changes when these corpora do; each is read for it once. Raises InputError for one that is not there."""
        for part in parts:
            if part not in self._stamps:
                self._stamps[part] = corpora.stamp(part, self.recipe.place(part.name))
        return [self._stamps[part] for part in parts]

    @property
    def main(self) -> bool:
        """Whether this process writes."""
        return bool(self.accelerator.is_main_process)

    @property
    def encoder(self) -> Path:
        """The checkpoint of the encoder so far."""
        return self.latest.get(ENCODER) or self.place("base")

    def left(self, what: str) -> Path:
        """The folder of the last stage that left something, such as `harness.training.stage.NEGATIVES`."""
        return self.latest[what]

    @property
    def share(self) -> dict[str, int]:
        """Which of how many processes this is."""
        return {"rank": self.accelerator.process_index, "processes": self.accelerator.num_processes}

    def trained(self, name: str, learned: Mapping[str, Any]) -> dict[str, Any]:
        """What a checkpoint says of how it was trained: this stage's settings, and what all stages until now learned.

        Of `learned`, which is `HybridSpec.learned` of the checkpoint that it started from and what the stage adds,
        `pretraining` names the decoding tasks of Table 3, `pretrained_on` the corpora and `finetuned_on` the
        collections, each once, in order, and `finetuned_as` the widths [D, K]; these decide which cell of a table a run
        may fill (`harness.reports.paper.rows`). `weighed_on` are the collections that the halves were weighed on.
        """
        own = {"recipe": self.recipe.name, "stage": name, "seed": self.recipe.seed}
        return own | self.recipe.stages[name].model_dump(mode="json", exclude_defaults=True) | dict(learned)


def added(learned: Mapping[str, Any], name: str, more: Iterable[str]) -> list[str]:
    """The list `name` of what a checkpoint has learned, and `more`, each once, in order."""
    return list(dict.fromkeys([*learned.get(name, []), *more]))


def token_pairs(
    context: Context,
    training: Training,
    tokenizer: Any,
    query: int,
    passage: int,
    query_prefix: str = "",
    passage_prefix: str = "",
) -> tuple[Tokens, Tokens]:
    """Token ids of the training queries and documents, at most so many each; made by one process for all."""
    prefixes = query_prefix, passage_prefix
    with context.accelerator.main_process_first():
        return training.tokens(tokenizer, vocabulary_hash(tokenizer), query, passage, prefixes)


def vocabulary_hash(tokenizer: Any) -> str:
    """What two tokenizers that cut texts alike have in common."""
    return digest(tokenizer.backend_tokenizer.to_str())


def sound(name: str, make: Callable[[], Any]) -> Any:
    """Make a task; raises InputError for settings that it cannot work with."""
    try:
        return make()
    except ValueError as error:
        raise InputError(f"{name}: {error}. Change it in the recipe, or with --set {name}.…") from error


def fit_stage(context: Context, name: str, task: Any, settings: Any, folder: Path, passages: int | None = None) -> None:
    """Run the loop under a progress bar; warn where the first contrastive loss among `passages` is beyond guessing."""
    with context.job.phase(name, settings.steps, "steps") as meter:

        def report(done: int, seen: int, found: Any) -> None:
            meter.reach(done)
            meter.say(seen, f"loss {found['loss']:.3f}")
            if done == 1 and passages is not None:
                _look(context, name, found.get("contrastive", found["loss"]), passages, task.extra())

        with context.stopping.saving():
            loop.fit(task, settings, folder, context.accelerator, report, context.stopping)


def _look(context: Context, name: str, loss: float, passages: int, extra: Mapping[str, float]) -> None:
    chance = math.log(passages)
    if loss > _FAR * chance:
        settled = ", ".join(f"{key.replace('_', ' ')} {value:.3g}" for key, value in extra.items())
        context.job.warn(
            f"{name}: the first loss is {loss:.3g}, and guessing among {passages:,} passages gives {chance:.3g}: the "
            f"scores are wrong and sure of it ({settled}). Raise temperature, or start from an encoder that has "
            "learned more."
        )


def choose_attention(context: Context, model: Any, length: int) -> bool:
    """Have the model compute attention in the way that pays for such texts; whether it is written out."""
    accelerator = context.accelerator
    pays = attention.written_out_pays(accelerator.device.type, accelerator.mixed_precision, length)
    if pays:
        attention.choose(model, pays)
    return pays
