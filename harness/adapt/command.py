"""`harness adapt`: check, measure, plan, train, judge; stopped at any place, the same command goes on."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from harness.adapt import judgement, plan
from harness.adapt.wish import HELD_OUT, Wish, recipe
from harness.datasets.dataset import resolve
from harness.models.checkpoints import hub
from harness.models.errors import CheckpointError
from harness.reports.files import write_whole
from harness.retrievers.errors import InputError
from harness.runs.config import RetrieverSpec, make_retriever
from harness.runtime.stopping import Stopping
from harness.training import recipe_files
from harness.training.base_model import says
from harness.training.context import Context
from harness.training.data import corpora, written_queries
from harness.training.recipe import Recipe
from harness.training.recipe_data import Writer

RECIPE, WISH = "adapt.yaml", "adapt.json"


def adapt(
    wish: Wish, command: Sequence[str], say: Callable[[str], object], threads: int | None, stopping: Stopping | None
) -> tuple[str, Path]:
    """Do it, and return the table and the folder of the hybrid.

    The recipe lies in the output folder as `adapt.yaml`, and is found again there.

    Raises InputError or CheckpointError for a base, a corpus or a time that cannot do, before anything is trained.
    """
    source = hub.locate(wish.base)
    chosen = planned(wish, source, say)
    from harness.training.conductor import train

    context = train(chosen, wish.output, command, threads, stopping)
    hybrid = context.place(list(chosen.stages)[-1])
    rows = judgement.judge(wish.base, hybrid, _datasets(context, wish), wish.output / "results", command, threads)
    found = judgement.as_text(rows)
    write_whole(wish.output / "adapt.md", found)
    return found, hybrid


def planned(wish: Wish, source: Path, say: Callable[[str], object]) -> Recipe:
    """The recipe in the output folder, or a new one that fits into the time, written there.

    Raises InputError where another wish lies there.
    """
    path, asked = wish.output / RECIPE, wish.output / WISH
    said = json.loads(json.dumps(_of(wish)))
    if path.is_file() and asked.is_file():
        before = json.loads(asked.read_text(encoding="utf-8"))
        if before != said:
            differ = ", ".join(sorted(key for key in said if before.get(key) != said[key]))
            raise InputError(f"{wish.output} was adapted with other {differ}. Name another --output, or remove it.")
        say(f"goes on with {path}")
    else:
        spec, head = says(source), _has_head(source)
        say(licence(source))
        _check(wish)
        measured = plan.measure(wish, source, spec, head, say)
        steps = plan.steps(wish, measured)
        shown = ", ".join(f"{name} {getattr(steps, name):,} x {s:.2f} s" for name, s in measured.seconds.items())
        say(f"what fits into {wish.minutes:g} minutes, in steps or texts: {shown}")
        wish.output.mkdir(parents=True, exist_ok=True)
        values = recipe(wish, steps, measured.length, measured.searched, measured.terms, measured.precision)
        write_whole(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
        write_whole(asked, json.dumps(said, indent=1) + "\n")
    return recipe_files.load(str(path), [])


def licence(source: Path) -> str:
    """What a model folder's README.md says of its licence; where it says nothing, a notice of that."""
    from huggingface_hub import metadata_load

    path = source / "README.md"
    try:
        found = (metadata_load(path) or {}) if path.is_file() else {}
    except (ValueError, yaml.YAMLError):  # a front matter that is no YAML, or no mapping
        found = {}
    named = found.get("license_name") or found.get("license")
    if named:
        return f"the base's licence is {named}, by its README.md; what you make of it has to keep to that"
    return (
        f"notice: the licence of {source} is unknown, since no README.md there names one (license: …). Find it out "
        "before you hand on what you make of it"
    )


def _check(wish: Wish) -> None:
    """Raise InputError or CheckpointError for a generator, queries, a teacher or a collection that there is not."""
    for name in (*wish.pairs, *wish.evaluate):
        resolve(name)
    if wish.query_generator:
        written_queries.check(Writer(model=wish.query_generator))
    if wish.queries:
        corpora.check(wish.queries)
    if wish.teacher:
        make_retriever(RetrieverSpec(name=wish.teacher)).check()


def _of(wish: Wish) -> dict[str, Any]:
    return {name: value for name, value in vars(wish).items() if name not in ("output", "evaluate")}


def _has_head(source: Path) -> bool:
    """Whether it is a masked-LM. Raises CheckpointError for what is no encoder of a known family."""
    from harness.models.checkpoints import checkpoint, layouts
    from harness.models.layers.families import FAMILIES, has_head

    config, _ = checkpoint.parts(layouts.read(source).backbone)
    checkpoint.check_architecture(source, config, with_head=False)
    if config.model_type not in FAMILIES:
        raise CheckpointError(
            f"{source} is a {config.model_type!r} model; adapting knows {', '.join(FAMILIES)}. Name another --base."
        )
    return has_head(config)


def _datasets(context: Context, wish: Wish) -> dict[str, str | None]:
    return {context.collection(HELD_OUT): "held-out pairs", **dict.fromkeys(wish.evaluate)}
