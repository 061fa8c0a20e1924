"""What the card of a model is made from: the folder, the stages that led to it, records."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.reports.card import Facts, Words, write
from harness.reports.records.exposure import Exposure
from harness.reports.records.records import Record
from harness.retrievers.errors import InputError
from harness.runs.recorded_data import asked_name

_DEPTHS = ("*", "*/*", "../*", "../*/*")  # where the stages before one lie; those of an ablation share some


def make(
    folder: Path, stage: Path, words: Words, records: Sequence[Record], seen: Mapping[str, Exposure] | None = None
) -> str:
    """The card of the checkpoint `folder`, which is the stage `stage` as it is or in 16 bits; `seen` by that function.

    Raises InputError where `folder` holds other weights than `stage`, or a stage that led to it is not there;
    CheckpointError where either has none; RecordError as `harness.reports.card.write`.
    """
    from harness.models import hybrid
    from harness.models.checkpoints import hub

    spec = hybrid.read(folder)
    if spec is None:
        raise InputError(f"{folder} has no hybrid.json. A card is of a checkpoint that `harness train` made.")
    check_same(folder, stage)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    names = {"layers": "num_hidden_layers", "hidden": "hidden_size", "vocabulary": "vocab_size"}
    values = {name: getattr(spec, name) for name in spec.__dataclass_fields__}
    facts = Facts(
        spec=values | {"dense": config["hidden_size"] if spec.dense is None else spec.dense},
        model={name: int(config[key]) for name, key in names.items()},
        stages=chain(stage),
        content_hash=hub.content_hash(folder),
        megabytes=sum(file.stat().st_size for file in folder.iterdir() if file.name != "README.md") / 1e6,
    )
    return write(facts, words, records, seen or {})


def seen(recipe: str | None, changes: Sequence[str], stage: Path, records: Sequence[Record]) -> dict[str, Exposure]:
    """What training saw of the records' collections, by name: its corpora are read for it, and compared word for word.

    `recipe` is the one that made `stage`, with `--set` changes; None is what the stage's manifest names. Raises
    InputError where it is another recipe, or where a corpus or a collection is not there.
    """
    from harness.training.conductor import open_context, survey
    from harness.training.overlap import exposures
    from harness.training.recipe_files import load

    made = _manifest(stage / "manifest.json")
    names = list(dict.fromkeys(asked_name(record.manifest.data) for record in records))
    evaluate = f"data.evaluate={json.dumps(names)}"
    context = open_context(load(recipe or str(made.get("recipe")), [*changes, evaluate]), stage.parent)
    place = survey(context).get(stage.name)
    if place is None or place.key != made.get("key"):
        raise InputError(
            f"the recipe {recipe or made.get('recipe')} has no stage that is {stage}. Name the recipe, and the --set "
            "changes, that it was trained with."
        )
    return exposures(context)


def check_same(folder: Path, stage: Path) -> None:
    """Raise InputError unless every weight of `folder` is that of `stage`, as it is or rounded."""
    import torch

    from harness.models.checkpoints import checkpoint
    from harness.models.checkpoints.weights import tensors_in, tensors_only

    def projection(of: Path) -> dict[str, Any]:
        path = of / checkpoint.PROJECTION
        return tensors_only(path) if path.is_file() else {}

    for read in (tensors_in, projection):
        before, after = read(stage), read(folder)
        for name, weight in after.items():
            if name not in before or not torch.equal(before[name].to(weight.dtype), weight):
                raise InputError(
                    f"{folder} is not {stage}, as it is or in 16 bits: {name} differs. Name the stage that it was "
                    "exported from."
                )


def chain(stage: Path) -> list[dict[str, Any]]:
    """The manifests of the stages that led to `stage`, first to last, `stage` itself among them.

    Raises InputError where one cannot be read, or is not found near the others.
    """
    known: dict[str, dict[str, Any]] = {}
    for depth in _DEPTHS:
        for path in sorted(stage.resolve().parent.glob(f"{depth}/manifest.json")):
            found = _manifest(path)
            if "key" in found and "decides" in found:
                known.setdefault(found["key"], found)
    last = _manifest(stage / "manifest.json")
    if "key" not in last:
        raise InputError(f"{stage} is no stage of a training: its manifest.json names no key.")
    made = [last]
    while (before := made[0]["decides"].get("before")) is not None:
        if before not in known:
            raise InputError(
                f"the stage before {made[0].get('name', stage)} (key {before}) is not beside it. A card wants the "
                "whole training: keep its stages in one folder."
            )
        made.insert(0, known[before])
    return made


def _manifest(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({' '.join(str(error).split())[:120]}). Name a stage's folder."
        ) from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds a {type(found).__name__}, not an object. Name a stage's folder.")
    return found
