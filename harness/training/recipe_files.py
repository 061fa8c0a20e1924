"""Recipes as files: found by name, changed by `--set a.b=c`, every error of one reported at once."""

import os
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from harness.retrievers.errors import InputError, unknown
from harness.retrievers.places import expanded
from harness.retrievers.yaml_files import read_yaml
from harness.runs.config import read_value
from harness.training import left_open, stage
from harness.training.recipe import Recipe
from harness.training.stage import Stage

FOLDER = Path(__file__).parents[1] / "recipes"


def names() -> list[str]:
    """The recipes that come with the harness."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def ablations() -> list[str]:
    """The recipes that come with the harness for `harness ablate`."""
    return sorted(path.stem for path in (FOLDER / "ablation").glob("*.yaml"))


def ablation(name: str) -> str:
    """What `load` takes for the name of an ablation's recipe: its file, or the name as it is.

    Raises InputError for a name that is neither a recipe's nor a file's.
    """
    there = sorted({*ablations(), *names()})
    if name not in there and "/" not in name and Path(name).suffix not in (".yaml", ".yml") and not Path(name).exists():
        raise unknown("recipe", name, there, "Or name a YAML file.")
    return str(FOLDER / "ablation" / f"{name}.yaml") if name in ablations() else name


def load(name: str, changes: list[str]) -> Recipe:
    """The recipe of that name or file, with `--set` changes; it knows where its corpora and collections lie.

    Raises InputError for a name that is neither, one that lists all that is wrong in a file, and for a `root` that is
    no folder.
    """
    path, values = _read(name, [])
    places = [change.partition("=")[0].strip() for change in changes]
    for number, change in enumerate(changes):
        if places[number] in places[:number]:
            raise InputError(f"--set {places[number]} is given twice. Give it once.")
        _apply(values, change)
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise InputError(f"the recipe {path.name}: {_explain(error, values)}") from error
    root = _find_root(recipe)
    asked = [pseudo.asked for pseudo in recipe.data.pseudo.values() if pseudo.asked]
    names = [*recipe.collections, *(part.name for part in recipe.corpora), *asked]
    return recipe.placed({name: _placed(name, root) for name in names})


def _read(name: str, seen: list[str]) -> tuple[Path, dict[str, Any]]:
    """A file's values on top of those of the recipe that it `extends`; null takes a value away."""
    path = FOLDER / f"{name}.yaml" if name in names() else Path(name)
    if path.is_dir() or (not path.is_file() and ("/" in name or path.suffix in (".yaml", ".yml"))):
        what = "is a folder" if path.is_dir() else "is not there"
        raise InputError(f"the recipe {name} {what}. Name a YAML file, or one of {', '.join(names())}.")
    if not path.is_file():
        where = f" (which {seen[-1]} extends)" if seen else ""
        raise unknown("recipe", name, names(), f"Or name a YAML file.{where}")
    try:
        values = _apart(read_yaml(path, "stages: {pretrain: {kind: pretrain, …}}"))
    except RecursionError as error:
        raise InputError(f"the recipe {path.name} holds itself: a YAML alias stands inside what it names.") from error
    parent = values.pop("extends", None)
    if parent is None:
        return path, {"name": path.stem} | values
    if not isinstance(parent, str):
        raise InputError(f"the recipe {path.name}: extends is {parent!r}; want the name of one recipe.")
    if name in seen:
        raise InputError(f"the recipe {name} extends itself, by way of {', '.join(seen)}.")
    return path, _on_top(_read(parent, [*seen, name])[1], {"name": path.stem} | values)


def _apart(value: Any) -> Any:
    """A copy in which nothing is shared: what a YAML alias repeats is changed in one place alone."""
    if isinstance(value, dict):
        return {key: _apart(inner) for key, inner in value.items()}
    return [_apart(inner) for inner in value] if isinstance(value, list) else value


def _on_top(under: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    found = dict(under)
    for key, value in values.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, dict) and isinstance(found.get(key), dict):
            found[key] = _on_top(found[key], value)
        else:
            found[key] = value
    return found


def as_yaml(recipe: Recipe) -> str:
    """The recipe as it came out, defaults included."""
    return str(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def as_plan(recipe: Recipe) -> str:
    """`as_yaml` with a value for what the recipe leaves open, after what each stage is going to do, as comments."""
    settled = left_open.planned(recipe)
    lines = [
        f"# {number}. {name}: {stage.in_words(one)}\n" for number, (name, one) in enumerate(settled.stages.items(), 1)
    ]
    lines += [f"# {line}\n" for line in (*left_open.cut(recipe, settled), *left_open.slow(recipe, settled))]
    return _base_in_words(recipe) + "".join(lines) + as_yaml(settled)


def _base_in_words(recipe: Recipe) -> str:
    """How a base that keeps its vectors makes them; a hub's checkpoint is not fetched for a plan."""
    name = recipe.base.checkpoint
    if name is None or not recipe.keeps_base:
        return ""
    from harness.models.checkpoints import hub
    from harness.training import base_model

    if not left_open.at_hand(recipe.base):
        return f"# base: {name}, fetched when training begins; its files then say how it makes vectors\n"
    spec = base_model.says(hub.locate(name))
    said = [f"{spec.similarity} of {spec.pooling} pooling"]
    prefixes = {key: getattr(spec, key) for key in ("query_prefix", "passage_prefix")}
    said += stage.settings_in_words({key: value for key, value in prefixes.items() if value})
    if "finetuned_on" in spec.trained:
        said.append(f"temperature {spec.temperature:.4g}, lexical scale {spec.lexical_scale:.4g}")
    return f"# base: {name}: {', '.join(said)}\n"


def _apply(values: dict[str, Any], change: str) -> None:
    """Change one value in place; a path whose first part is a stage's name begins there."""
    place, equals, text = change.partition("=")
    keys = place.strip().split(".")
    if not equals or not all(keys):
        raise InputError(f"--set {change!r} is not PATH=VALUE, such as pretrain.steps=500.")
    value = read_value(text, f"--set {change}")
    stages = values.get("stages")
    if keys[0] not in (known := [*(stages if isinstance(stages, dict) else ()), *Recipe.model_fields]):
        raise unknown("stage or setting", keys[0], map(str, known), f"(in --set {change})")
    inner: Any = stages if isinstance(stages, dict) and keys[0] in stages else values
    for key in keys[:-1]:
        if isinstance(inner, dict) and not isinstance(inner.get(key), dict):
            inner[key] = {}
        inner = inner[key] if isinstance(inner, dict) else None
    if not isinstance(inner, dict):
        raise InputError(f"--set {change}: there is nothing at {place}.")
    there_before = keys[-1] in inner
    inner[keys[-1]] = value
    if value is None:
        del inner[keys[-1]]
        if keys[0] == "stages" and len(keys) == 2 and not there_before:
            there = ", ".join(stages) if isinstance(stages, dict) else "none"
            raise InputError(f"--set {change}: there is no stage {keys[1]} to take out; there is {there}.")
    if keys[-1] in ("steps", "epochs"):  # the one replaces the other
        inner.pop({"steps": "epochs", "epochs": "steps"}[keys[-1]], None)


def _explain(error: ValidationError, values: dict[str, Any]) -> str:
    lines = []
    for problem in error.errors():
        where, what = ".".join(map(str, problem["loc"])), problem["msg"].removeprefix("Value error, ").rstrip(".")
        if problem["type"] == "extra_forbidden":
            there = _fields(problem["loc"], values)
            what = f"unknown; there is {', '.join(there)}" if there else "unknown"
        elif problem["type"] == "string_type" and isinstance(problem["input"], dict):
            what = f"{what}; a text with a colon stands in quotes, as in --set '{where}=\"query: \"'"
        elif problem["type"] not in ("missing", "value_error") and ", got " not in what:
            what = f"{what}, got {problem['input']!r:.60}"
        lines.append(f"{where}: {what}" if where else what)
    return "; ".join(lines) + "."


def _fields(place: tuple[int | str, ...], values: Any) -> list[str]:
    """The names that may stand where an unknown one was."""
    model: type[BaseModel] = Recipe
    key = False  # whether the next part is a key of a dictionary, and no field's name
    try:
        for part in place[:-1]:
            values = values[part]
            if model is Stage:
                model, key = stage.kinds()[values["kind"]], False
            elif key or isinstance(part, int):
                key = False
            else:
                model, key = _model_in(model.model_fields[part].annotation) or (model, False)
    except (KeyError, IndexError, TypeError):  # a union's part of the place is no name in the file
        return []
    return sorted(model.model_fields)


def _model_in(annotation: Any) -> tuple[type[BaseModel], bool] | None:
    """The model that a field holds, one or several, and whether in a dictionary."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    found = next((inner for part in get_args(annotation) if (inner := _model_in(part))), None)
    return found and (found[0], found[1] or get_origin(annotation) is dict)


def _find_root(recipe: Recipe) -> Path | None:
    """The folder under which the recipe's relative paths are looked for.

    `root` where it is given; else the first that exists of $HARNESS_DATA, ./data and ../shared.
    """
    if recipe.root is not None:
        root = expanded(os.path.expandvars(recipe.root))
        if not root.is_dir():
            raise InputError(f"root: there is no folder {root}. `--set root=FOLDER` names another.")
        return root
    places = [os.environ.get("HARNESS_DATA"), "data", "../shared"]
    return next((Path(place) for place in places if place and Path(place).is_dir()), None)


def _placed(name: str, root: Path | None) -> str:
    """A name as the loader takes it: the path under `root` where there is one, else the name itself."""
    if root is None or name.startswith(("/", ".", "~")):
        return name
    path = root / name
    return str(path) if path.exists() or (path.parent / "qrels").is_dir() else name
