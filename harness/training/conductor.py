"""The conductor of a training: a recipe's stages in order, each from the one before; none is done twice."""

import json
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from harness.models.checkpoints import hub
from harness.models.errors import CheckpointError, TrainingStopped
from harness.models.training.precision import IMITATED, automatic, imitated
from harness.models.training.state import METRICS, STATE
from harness.reports.plots import training_curves
from harness.retrievers import devices
from harness.retrievers.errors import InputError
from harness.retrievers.places import cache
from harness.runtime import environment
from harness.runtime.hashing import digest
from harness.runtime.job import HarnessJob
from harness.runtime.locks import held
from harness.runtime.processes import Processes, leave_at_exit, rendezvous
from harness.runtime.stopping import Stopping
from harness.training import base_model, left_open, preflight
from harness.training.context import Context
from harness.training.data import corpora
from harness.training.recipe import Recipe
from harness.training.recipe_data import CorpusPart
from harness.training.stage import ENCODER, Facts, Stage, package_of
from harness.training.stage_folder import StageFolder

_PACKAGES = ("accelerate", "tokenizers", "torch", "transformers")
_PATIENCE = timedelta(days=7)  # processes wait for the one that mines


def train(
    recipe: Recipe, output: Path, command: Sequence[str], threads: int | None = None, stopping: Stopping | None = None
) -> Context:
    """Run the stages of `recipe` that are not finished in `output`, and return what was made.

    Raises InputError for wrong input, before a stage begins where it can be known then; TrainingError where a loss is
    not finite; TrainingStopped where `stopping` was asked for and the state is written.
    """
    context = open_context(recipe, output, threads, stopping)
    with alone(context):
        run(context, prepare(context), command)
    return context


def open_context(recipe: Recipe, output: Path, threads: int | None = None, stopping: Stopping | None = None) -> Context:
    """What the stages of `recipe` share, on the processes that a launcher started or on this one alone."""
    with rendezvous():
        accelerator = _accelerator(recipe)
    leave_at_exit()
    job = HarnessJob(cache(), threads, Processes(accelerator.process_index, accelerator.num_processes))
    torch.set_num_threads(job.threads)
    if imitated(accelerator.device.type, accelerator.mixed_precision):
        job.warn(IMITATED)
    environment.git_commit()  # forks, so it comes before mining may start Java
    return Context(recipe, output, accelerator, job, stopping or Stopping())


@contextmanager
def alone(context: Context) -> Iterator[None]:
    """Hold the output folder alone; the kernel lets go of the lock of a killed process.

    Raises InputError where another process holds it, or where it cannot be made.
    """
    if not context.main:
        yield
        return
    output = context.output
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {output} cannot be made a folder: {error.strerror}. Name another.") from error
    with held(
        output / ".lock",
        f"another process is training into {output} right now. Wait for it, or name another --output.",
    ):
        yield


def prepare(context: Context) -> dict[str, StageFolder]:
    """Check all that can be checked before a stage begins, make the base, and return the folder of every stage.

    Raises InputError for wrong input.
    """
    recipe, accelerator = context.recipe, context.accelerator
    preflight.check_names(recipe)
    base = _base(context)
    _settle(context)
    recipe = context.recipe
    places = _places(context, base)
    done = {name for name, place in places.items() if place.finished}
    preflight.check(recipe, base.path, accelerator.num_processes, done, accelerator.mixed_precision)
    # in the stages' order, in which all processes open them
    asked = dict.fromkeys(names for stage in recipe.stages.values() if (names := recipe.learns_from(stage)))
    preflight.check_examples(recipe, {names: len(context.opened(names).positives) for names in asked})
    if leaked := {name for names in asked for name in names} & {*recipe.data.evaluate, recipe.data.validate_on}:
        context.job.warn(f"{', '.join(sorted(leaked))}: trained on, and scored on: the scores are not held out")
    for name, stage in recipe.stages.items():
        if chosen := {*recipe.chooses_by(stage)} & {*recipe.data.evaluate}:
            shown = ", ".join(sorted(chosen))
            context.job.warn(f"{shown}: {name} chooses by it, and it is scored on: the scores are not held out")
    for place in places.values():
        if not place.finished and place.begun:
            how = (
                "goes on from its last saved state" if place.saved else "has no saved state, so it begins at its start"
            )
            _say(context, f"{place.partial} is unfinished; it {how}")
    return places


def survey(context: Context) -> dict[str, StageFolder]:
    """The folder of the base and of every stage, as `prepare` gives them; nothing is made but what the cache keeps.

    Raises InputError for what another recipe left there, or for a corpus or a collection that is not there.
    """
    base = _base_place(context)[0]
    _settle(context)
    return {"base": base} | _places(context, base)


def run(context: Context, places: dict[str, StageFolder], command: Sequence[str]) -> None:
    """Do the stages that are not finished, in order."""
    for name, place in places.items():
        if place.finished:
            _say(context, f"found {place.path}")
        else:
            _do(context, name, place, command)
            _stop_if_asked(context, name)
        context.latest |= dict.fromkeys(context.recipe.stages[name].leaves, place.path)


def _stop_if_asked(context: Context, name: str) -> None:
    """Stop behind a stage in whose last step a signal came to any process."""
    asked = torch.tensor(float(context.stopping()), device=context.accelerator.device)
    if context.accelerator.num_processes > 1:
        asked = context.accelerator.reduce(asked, reduction="sum")
    if asked > 0:
        raise TrainingStopped(finished=name)


def _settle(context: Context) -> None:
    """Give every setting that the recipe leaves open its value, and say which lengths are cut."""
    recipe = context.recipe
    folders = {name: context.place(name) for name in recipe.stages}
    processes = context.accelerator.num_processes
    context.recipe = left_open.settled(recipe, left_open.positions(recipe.base), processes, folders)
    for line in (*left_open.cut(recipe, context.recipe), *left_open.slow(recipe, context.recipe)):
        _say(context, line)


def _places(context: Context, base: StageFolder) -> dict[str, StageFolder]:
    """The folder of every stage; what another recipe left there is refused before anything begins."""
    found, before = {}, base.key
    for name, stage in context.recipe.stages.items():
        settings = stage.model_dump(mode="json")
        decides = {
            "stage": {key: value for key, value in settings.items() if value is not None or key not in stage.later},
            "seed": context.recipe.seeded(name).seed,
            "precision": context.recipe.precision,
            "system": context.recipe.system if stage.searches else None,
            "data": _data(context, stage),
            "before": before,
        }
        if (package := package_of(stage.kind)) is not None:
            decides["package"] = package
        found[name] = StageFolder(context.place(name), decides, stage.aside, stage.saved)
        _ = found[name].finished or found[name].begun  # refuses what is another's
        before = found[name].key
    return found


def _do(context: Context, name: str, place: StageFolder, command: Sequence[str]) -> None:
    stage, job = context.recipe.stages[name], context.job
    job.restart()
    with context.accelerator.main_process_first():
        folder = place.start() if context.main else place.partial
    began = time.perf_counter()
    try:
        facts = stage.run(context.seeded(name), name, folder)
    except CheckpointError as error:
        raise CheckpointError(_damaged(context, str(error))) from error
    except Exception as error:
        if _no_room(error):
            raise InputError(_less_at_once(name, stage, context.accelerator.device, place)) from error
        error.add_note(f"in the stage {name} of the recipe {context.recipe.name}")
        raise
    finally:
        context.accelerator.free_memory()  # it keeps the models and optimizers of all stages else
    context.accelerator.wait_for_everyone()
    if context.main:
        if (folder / METRICS).is_file():
            training_curves.draw(folder / METRICS, folder / "curves.png", f"{context.recipe.name}: {name}")
        (folder / STATE).unlink(missing_ok=True)
        own = _facts(context, name, command, time.perf_counter() - began)
        _check_outcome(stage, folder, facts, {*own, "key", "decides"})
        place.finish(own | facts)
        if context.accelerator.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        _say(context, f"wrote {place.path}")
    context.accelerator.wait_for_everyone()


def _damaged(context: Context, message: str) -> str:
    """A message of a checkpoint that a stage, or the base, left here says how to make it anew."""
    ours = [context.place(name) for name in ("base", *context.recipe.stages)]
    made = next((place for place in ours if str(place) in message), None)
    return f"{message} Remove {made}, and the same command makes it anew." if made else message


def _no_room(error: BaseException) -> bool:
    """Whether a device, or this machine, has no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _less_at_once(name: str, stage: Stage, device: Any, place: StageFolder) -> str:
    setting = stage.at_once
    if not setting:
        return f"{name}: there is no memory left on {device}. Free it, or train on a device with more."
    value = getattr(stage, setting)
    if value < 2:
        return f"{name}: there is no memory left on {device}, with {name}.{setting} at 1. Shorten the texts."
    if not place.saved:
        then = "the stage then begins at its start"
    elif setting in stage.aside:
        then = "the stage then goes on from its last saved state"
    else:
        then = f"it decides the outcome, so remove {place.partial} first: the stage begins again at its start"
    return (
        f"{name}: there is no memory left on {device} with {name}.{setting} = {value}. "
        f"--set {name}.{setting}={value // 2} takes about half for the texts that are encoded at once; {then}."
    )


def _check_outcome(stage: Stage, folder: Path, facts: object, taken: set[str]) -> None:
    """Raise TypeError or ValueError for a kind that returns what no manifest can hold, or leaves no checkpoint.

    Its work stays in `folder`, so that a corrected kind goes on from there.
    """
    where = f"{type(stage).__module__}.{type(stage).__qualname__}.run"
    if not isinstance(facts, dict):
        raise TypeError(f"{where} returned {facts!r:.60}; it must return a dictionary for the manifest")
    if again := sorted(taken & facts.keys()):
        raise ValueError(f"{where} returned {', '.join(again)}, which the manifest says of every stage already")
    try:
        json.dumps(facts, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{where} returned what JSON cannot hold: {error}") from error
    if ENCODER in stage.leaves and not (folder / "config.json").is_file():
        raise ValueError(f"{where} is to leave an encoder, and saved no checkpoint in {folder}")


def _facts(context: Context, name: str, command: Sequence[str], seconds: float) -> Facts:
    """What a stage's manifest says besides what decides it."""
    gpu = torch.cuda.max_memory_allocated() if context.accelerator.device.type == "cuda" else None
    return {
        "created": environment.now(),
        "recipe": context.recipe.name,
        "name": name,
        "kind": context.recipe.stages[name].kind,
        "aside": context.recipe.stages[name].model_dump(mode="json", include=set(context.recipe.stages[name].aside)),
        "command": list(command),
        "seconds": round(seconds, 1),  # of this process; a stage that was resumed took longer in all
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "peak_gpu_memory_bytes": gpu,
        "processes": context.accelerator.num_processes,
        "device": str(context.accelerator.device),
        "mixed_precision": context.accelerator.mixed_precision,
        "hardware": environment.hardware(context.job.threads),
        "packages": environment.packages(_PACKAGES),
        "git_commit": environment.git_commit(),
        "warnings": list(context.job.warnings),
    }


def _base(context: Context) -> StageFolder:
    """What the first stage starts from, as a folder of its own."""
    recipe = context.recipe
    place, parts = _base_place(context)
    with context.accelerator.main_process_first():
        if not place.finished and context.main:
            texts = (text for part in parts for text in corpora.texts(part, recipe.place(part.name)))
            base_model.prepare(recipe.base, place.start(), texts, recipe.seeded(None).seed, recipe.keeps_base)
            place.finish({"created": environment.now(), "packages": environment.packages(_PACKAGES)})
    return place


def _base_place(context: Context) -> tuple[StageFolder, tuple[CorpusPart, ...]]:
    """Where the base is to lie, and the corpora that its vocabulary is of."""
    recipe = context.recipe
    read = [recipe.texts(stage) for stage in recipe.stages.values()]
    parts = tuple(part for own in read if own != recipe.data.corpora for part in own) or recipe.data.corpora
    decides: dict[str, Any] = {"base": recipe.base.model_dump(mode="json")}
    if recipe.base.checkpoint is not None:
        decides["content"] = hub.content_hash(hub.locate(recipe.base.checkpoint))
        if recipe.keeps_base:
            decides["kept"] = "pooling, projection, prefixes, similarity, temperature and scale"
    else:
        if not parts:
            raise InputError(
                "base.model is trained from scratch, and there are no corpora to take its vocabulary from."
            )
        decides |= {"seed": recipe.seeded(None).seed, "data": context.stamp(parts)}
    return StageFolder(context.place("base"), decides), parts


def _data(context: Context, stage: Stage) -> Any:
    """The contents that a stage learns from, or chooses by."""
    recipe = context.recipe
    parts, names = recipe.texts(stage), (*recipe.learns_from(stage), *recipe.chooses_by(stage))
    found: list[Any] = [context.stamp(parts)] if parts else []
    found += [digest(context.opened(names).stamp())] if names else []
    return found[0] if len(found) == 1 else found


def _accelerator(recipe: Recipe) -> Any:
    from accelerate import Accelerator, InitProcessGroupKwargs

    wanted = recipe.precision
    cuda, why = devices.available()
    if wanted == "fp16" and not cuda:
        raise InputError(f"precision fp16 needs a GPU; torch sees none{why}. `--set precision=auto` takes fp32 here.")
    precision = automatic("cuda" if cuda else "cpu", training=True) if wanted == "auto" else wanted
    return Accelerator(
        cpu=not cuda,  # else accelerate leaves processes on a CPU each to itself
        mixed_precision="no" if precision == "fp32" else precision,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
    )


def _say(context: Context, message: str) -> None:
    if context.main:
        context.job.note(message)
