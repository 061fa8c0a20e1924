"""`harness adapt`: check, measure, plan, train, judge; stopped at any place, the same command goes on."""

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import yaml

from harness.adapt import judgement, plan
from harness.adapt.wish import HELD_OUT, Wish, recipe
from harness.datasets.loader import resolve
from harness.models.checkpoints import hub
from harness.models.errors import CheckpointError
from harness.reports.files import check_folder, write_whole
from harness.retrievers.errors import InputError
from harness.retrievers.places import cache, expanded
from harness.retrievers.torch_threads import torch_threads
from harness.runs.config import RetrieverSpec, make_retriever
from harness.runtime.job import HarnessJob
from harness.runtime.stopping import Stopping
from harness.training import recipe_files
from harness.training.base_model import says
from harness.training.context import Context
from harness.training.data import corpora, written_queries
from harness.training.recipe import Recipe
from harness.training.recipe_data import CorpusPart, Writer

RECIPE, WISH = "adapt.yaml", "adapt.json"
_MOST_MINUTES = 1_000_000


def adapt(
    wish: Wish, command: Sequence[str], say: Callable[[str], object], threads: int | None, stopping: Stopping | None
) -> tuple[str, Path]:
    """Do it, and return the table and the folder of the hybrid.

    The recipe lies in the output folder as `adapt.yaml`, and is found again there.

    Raises InputError or CheckpointError for a base, a corpus or a time that cannot do, before anything is trained.
    """
    if not 0 < wish.minutes < _MOST_MINUTES:
        raise InputError(f"--minutes is {wish.minutes:g}; want a number above 0 and below {_MOST_MINUTES:,}.")
    source = hub.locate(wish.base)
    check_folder(wish.output)
    if wish.output.resolve() == source.resolve():
        raise InputError(f"--output {wish.output} is the base itself. Name another folder.")
    for name in wish.evaluate:
        if name in wish.pairs:
            say(f"warning: {name} is learned from (--pairs) and evaluated on: its scores are not held out")
    known = (wish.output / RECIPE).is_file()
    with torch_threads(threads) if threads else nullcontext():
        chosen = planned(wish, source, say)
    from harness.training.conductor import train

    try:
        context = train(chosen, wish.output, command, threads, stopping)
    except (InputError, CheckpointError):
        if not known and not any((wish.output / name).is_dir() for name in chosen.stages):
            _forget(wish.output)
        raise
    hybrid = context.place(list(chosen.stages)[-1])
    rows = judgement.judge(wish.base, hybrid, _datasets(context, wish), wish.output / "results", command, threads)
    found = judgement.as_text(rows)
    write_whole(wish.output / "adapt.md", found)
    return found, hybrid


def _forget(output: Path) -> None:
    """Remove a plan that came to nothing, so that a corrected command begins anew."""
    for name in (RECIPE, WISH, ".lock"):
        (output / name).unlink(missing_ok=True)
    shutil.rmtree(output / "base", ignore_errors=True)
    with suppress(OSError):  # something else is in there
        output.rmdir()


def planned(wish: Wish, source: Path, say: Callable[[str], object]) -> Recipe:
    """The recipe in the output folder, or a new one that fits into the time, written there.

    Raises InputError where another wish lies there.
    """
    path, asked = wish.output / RECIPE, wish.output / WISH
    said = json.loads(json.dumps(_of(wish)))
    if path.is_file() and asked.is_file():
        before = json.loads(asked.read_text(encoding="utf-8"))
        if before != said:
            differ = [key for key in sorted(said) if before.get(key) != said[key]]
            other = ", ".join(f"{key.replace('_', ' ')} {before.get(key)!r}, not {said[key]!r}" for key in differ)
            raise InputError(f"{wish.output} was made with {other}. Name another --output, or remove it.")
        say(f"goes on with {path}")
    else:
        spec, head = says(source), _has_head(source)
        say(licence(source))
        _check(wish)
        measured = plan.measure(wish, source, spec, head, say)
        steps = plan.steps(wish, measured)
        shown = ", ".join(f"{name} {getattr(steps, name):,} x {s:.2f} s" for name, s in measured.seconds.items())
        say(f"planned for --minutes {wish.minutes:g}, in steps or texts: {shown}")
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
        return f"the base's licence is {named}, by its README.md; it also applies to what you make of it"
    return (
        f"notice: the licence of {source} is unknown, since no README.md there names one (license: …). Find it out "
        "before you hand on what you make of it"
    )


def _check(wish: Wish) -> None:
    """Raise InputError or CheckpointError for a generator, queries, a teacher or a collection that there is not."""
    for name in (*wish.pairs, *wish.evaluate):
        for part in resolve(name):
            part.open(HarnessJob(cache(), None))
    if wish.query_generator:
        written_queries.check(Writer(model=wish.query_generator))
    if wish.queries:
        if not expanded(wish.queries).is_file():
            raise InputError(f"--queries {wish.queries} is not a file. Want one question a line (.txt), or .jsonl.")
        asked = corpora.documents(CorpusPart(name=wish.queries), wish.queries)
        if not sum(bool(question.text.strip()) for question in asked):  # all are read
            raise InputError(f"--queries {wish.queries} holds no question.")
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
