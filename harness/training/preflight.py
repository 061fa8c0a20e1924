"""What can be known to be wrong before hours are spent; what is wrong with a stage its kind says itself."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from harness.datasets.loader import resolve
from harness.models import hybrid
from harness.models.checkpoints.checkpoint import PROJECTION
from harness.models.checkpoints.weights import positions
from harness.models.hybrid import HybridSpec
from harness.models.layers.families import has_head
from harness.retrievers.errors import InputError
from harness.retrievers.registry import get
from harness.runs.config import RetrieverSpec, make_retriever
from harness.training.data import corpora, written_queries
from harness.training.recipe import Recipe
from harness.training.recipe_data import Data
from harness.training.stage import Outlook, said

_LEAST = 8  # tokens of a text: with fewer [CLS] and [SEP] leave hardly any to learn from


def check_names(recipe: Recipe) -> None:
    """Raise InputError for a retriever, a collection or a starting point that there is not."""
    data = recipe.data
    for name in (*data.against, recipe.system):
        get(name)
    for name in recipe.collections:
        with _sourced(name, data):
            resolve(recipe.place(name))
    for part in recipe.corpora:
        with _sourced(part.name, data):
            corpora.check(recipe.place(part.name))
    for name, pseudo in data.pseudo.items():
        if pseudo.asked:
            corpora.check(recipe.place(pseudo.asked))
        if pseudo.writer:
            written_queries.check(pseudo.writer)
        if pseudo.round_trip:
            with _within(f"data.pseudo.{name}.round_trip"):
                make_retriever(RetrieverSpec(name=pseudo.round_trip.retriever, options=pseudo.round_trip.options))
    outlook = Outlook(data, tuple(recipe.stages))
    for outlook.name, stage in recipe.stages.items():
        with _within(outlook.name):
            stage.check_names(outlook)
        for what in stage.leaves:
            outlook.left.setdefault(what, []).append(outlook.name)


def check(recipe: Recipe, base: Path, processes: int, done: Collection[str] = (), mixed: str = "no") -> None:
    """Raise InputError that lists what the stages ask of the model in `base`, or of so many processes, in vain.

    `mixed` is the mixed precision. Stages that are `done` ask for nothing any more, but those after them begin from
    what they leave.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(base, local_files_only=True)  # whose names are the same in every family
    spec = hybrid.read(base) or HybridSpec()
    outlook = Outlook(
        recipe.data,
        tuple(recipe.stages),
        projection=spec.dense if (base / PROJECTION).is_file() else None,
        hidden=int(config.hidden_size),
        family=str(config.model_type),
        head=has_head(config),
        positions=positions(config),
        vocabulary=int(config.vocab_size),
        processes=processes,
    )
    wrong: list[str] = []
    if outlook.family == "deberta" and mixed != "no":
        wrong.append(
            f"the base is a 'deberta' model, which transformers cannot train in {mixed} (v2 and v3 it can). "
            "--set precision=fp32 can"
        )
    if outlook.positions < _LEAST:
        wrong.append(f"the base has positions for {outlook.positions} tokens, and a stage needs {_LEAST} at least")
    for outlook.name, stage in recipe.stages.items():
        found = said(stage, "check_model", outlook)
        wrong += found if outlook.name not in done else []
    _refuse(recipe, wrong)


def check_examples(recipe: Recipe, queries: Mapping[tuple[str, ...], int]) -> None:
    """Raise InputError that lists the stages that want more queries or negatives than there can be.

    `queries` says how many training queries the collections of each stage have together.
    """
    outlook = Outlook(recipe.data, tuple(recipe.stages), queries=queries)
    wrong: list[str] = []
    for outlook.name, stage in recipe.stages.items():
        wrong += said(stage, "check_examples", outlook)
    _refuse(recipe, wrong)


def _refuse(recipe: Recipe, wrong: list[str]) -> None:
    if wrong:
        raise InputError(f"the recipe {recipe.name}: {'; '.join(wrong)}.")


@contextmanager
def _within(place: str) -> Iterator[None]:
    """Of what is wrong, say where in the recipe."""
    try:
        yield
    except InputError as error:
        raise error if str(error).startswith(place) else InputError(f"{place}: {error}") from error


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
