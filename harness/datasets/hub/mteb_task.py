"""`mteb:TASK[/SUBSET][/SPLIT]`: repository, revision, split, rules and main score of a retrieval task of MTEB."""

import difflib
import re
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from harness.datasets.hub.name import HubName
from harness.datasets.rules import Rules
from harness.metrics.names import parse_metric
from harness.retrievers.errors import InputError, unknown

PREFIX = "mteb:"
_FAMILIES = {"ndcg": "NDCG", "map": "MAP", "mrr": "MRR", "recall": "R", "precision": "P", "hit_rate": "Success"}


@dataclass(frozen=True)
class MtebTask:
    """What a task says of its collection."""

    hub: HubName
    rules: Rules


def task(name: str) -> MtebTask:
    """The collection of a task. Raises InputError where mteb is not installed, for an unknown task with the nearest
    names, a task that is not of text retrieval or loads its data by code of its own, and a subset or a split that has
    to be named or is not there.
    """
    asked, *parts = name.removeprefix(PREFIX).split("/")
    found = _task(_library(name), asked)
    about = found.metadata
    _check(asked, found)
    subset, split = _parts(name, about, parts)
    told = [f"MTEB's task {asked} (mteb {version('mteb')})"]
    drop = bool(found.ignore_identical_ids)
    told.append("a query's own document is removed (ignore_identical_ids)" if drop else "no document is removed")
    rules = Rules(drop_self=drop, official=_official(about.main_score), source=": ".join(told))
    where = HubName(about.dataset["path"], about.dataset["revision"], tuple(filter(None, [subset, split])))
    return MtebTask(where, rules)


def _library(name: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what mteb itself imports
            import mteb
    except ImportError as error:
        raise InputError(f"{name} needs mteb: pip install 'dupmae-harness[mteb]'") from error
    return mteb


def _task(mteb: Any, asked: str) -> Any:
    try:
        return mteb.get_task(asked)
    except KeyError as error:
        known = [task.metadata.name for task in mteb.get_tasks(task_types=["Retrieval"])]
        folded = {task.casefold(): task for task in known}
        near = [folded[one] for one in difflib.get_close_matches(asked.casefold(), folded, n=3, cutoff=0.6)]
        maybe = f" Did you mean {' or '.join(near)}?" if near else ""
        raise InputError(
            f"unknown task of MTEB {asked!r}.{maybe} mteb {version('mteb')} has {len(known):,} tasks of retrieval; "
            "`mteb available-tasks --task-types Retrieval` lists them."
        ) from error


def _check(asked: str, found: Any) -> None:
    from mteb.abstasks.retrieval import AbsTaskRetrieval

    about = found.metadata
    if about.type != "Retrieval" or "text" not in about.modalities:
        raise InputError(f"mteb:{asked} is a task of {about.type}, and text retrieval is wanted. Name another task.")
    if found.is_aggregate:
        parts = ", ".join(f"mteb:{part.metadata.name}" for part in found.tasks)
        raise InputError(f"mteb:{asked} is the mean of several tasks. Name them one by one, or make a suite: {parts}.")
    if type(found).load_data is not AbsTaskRetrieval.load_data:
        raise InputError(
            f"mteb:{asked} loads {about.dataset['path']} by code of its own, which is not run here. Write it in BEIR "
            "layout and name the folder."
        )


def _parts(name: str, about: Any, parts: list[str]) -> tuple[str | None, str]:
    """The subset and the split that are evaluated."""
    subset: str | None = None
    if about.is_multilingual:
        known = list(about.hf_subsets)
        if not parts and len(known) > 1:
            raise InputError(f"{name} has {len(known)} subsets. Name one: {name}/SUBSET. There is: {', '.join(known)}.")
        subset = parts.pop(0) if parts else known[0]
        if subset not in known:
            raise unknown(f"subset of {name.partition('/')[0]}", subset, known)
    if len(parts) > 1:
        raise InputError(f"the dataset {name!r} has a part too many. Want mteb:TASK[/SUBSET][/SPLIT].")
    if parts:
        return subset, parts[0]  # whether the repository has it is found when it is read
    splits = list(about.eval_splits)
    if len(splits) == 1 or "test" in splits:
        return subset, "test" if "test" in splits else splits[0]
    raise InputError(f"{name} is evaluated on several splits. Name one: {name}/SPLIT. There is: {', '.join(splits)}.")


def _official(main_score: str) -> tuple[str, ...]:
    """A task's main score as a metric of ours; none where we have none such."""
    found = re.fullmatch(r"(\w+)_at_(\d+)", main_score)
    if found is None or found[1] not in _FAMILIES:
        return ()
    return (str(parse_metric(f"{_FAMILIES[found[1]]}@{found[2]}")),)
