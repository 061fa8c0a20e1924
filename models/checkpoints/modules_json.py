"""The parts of a sentence-transformers folder, as its `modules.json` lists them; read without torch."""

import json
from pathlib import Path
from typing import Any

from harness.models.errors import CheckpointError

MODULES = "modules.json"
SETTINGS = "config_sentence_transformers.json"


def module_folders(folder: Path) -> list[Path]:
    """The folders beside `folder` itself that a `modules.json` names; none where there is no such file."""
    if not (folder / MODULES).is_file():
        return []
    # a Normalize has nothing to keep, so that its folder may be left out
    return [folder / path for _, path in modules_in(folder) if path and (folder / path).is_dir()]


def modules_in(folder: Path) -> list[tuple[str, str]]:
    """(kind, path) of each module of `modules.json`; a kind is the last part of its class's name.

    Raises CheckpointError for a malformed file or a path outside of the folder.
    """
    found = json_in(folder / MODULES, wanted=object)
    try:
        modules = [(str(module["type"]).rpartition(".")[2], str(module["path"])) for module in found]
    except (TypeError, KeyError) as error:
        raise CheckpointError(f"{folder / MODULES} is not a list of modules with `type` and `path`.") from error
    for _, path in modules:
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise CheckpointError(f"{folder / MODULES} names the path {path!r}, outside of its folder.")
    return modules


def json_in(path: Path, default: Any = None, wanted: type | None = None) -> Any:
    """What a JSON file holds; `default`, where one is given, for a file that is not there.

    Raises CheckpointError for a file that cannot be read, or holds no `wanted` (as the default, else a dict).
    """
    if default is not None and not path.is_file():
        return default
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} is missing, or cannot be read. Fetch the folder again, whole.") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON ({error}).") from error
    wanted = wanted or (dict if default is None else type(default))
    if not isinstance(found, wanted):
        raise CheckpointError(f"{path} holds a {type(found).__name__}, not a {wanted.__name__}.")
    return found


def prompts_in(folder: Path) -> dict[str, Any]:
    """The prompts by name. Raises CheckpointError for a default one that is not among them, as the library does."""
    config = json_in(folder / SETTINGS, {})
    prompts = config.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(text, str | None) for text in prompts.values()):
        raise CheckpointError(f"{folder / SETTINGS}: prompts is {prompts!r:.60}; want texts by name.")
    default = config.get("default_prompt_name")
    for text in prompts.values():
        if text is not None and text.encode(errors="replace").decode() != text:
            raise CheckpointError(f"{folder / SETTINGS}: the prompt {text!a:.60} holds half of a surrogate pair.")
    if default is not None and default not in ["query", "document", *prompts]:
        there = ", ".join(prompts) or "none"
        raise CheckpointError(f"{folder / SETTINGS}: default_prompt_name is {default!r}; there is {there}.")
    return prompts


def unused_prompt(folder: Path, option: str = "passage_prefix") -> str:
    """A note on a prompt that is meant for passages and that the library does not put before them; `option` would."""
    prompts = prompts_in(folder)
    name = next((name for name in ("passage", "corpus") if prompts.get(name)), None)
    if name is None or prompts.get("document"):
        return ""
    return (
        f"{folder} has a prompt for {name!r} and none for 'document'; sentence-transformers' encode_document puts none "
        f"before passages, and neither is one put here. --option '{option}={prompts[name]}' does."
    )
