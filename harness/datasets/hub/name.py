"""`hf:ORG/NAME[@REVISION][/SUBSET][/SPLIT]` and `hf:FOLDER[/SUBSET][/SPLIT]`, taken apart."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from harness.datasets.hub.files import declared
from harness.retrievers.errors import InputError
from harness.retrievers.places import expanded, home

PREFIX = "hf:"
QRELS_SUFFIX = "-qrels"  # of the second repository, in which BEIR keeps its judgments
_MOST_PARTS = 2  # a subset and a split
_WORD = r"[\w.-]+"
# a name of the hub has no slash, but for those that it gives itself
_NAME = re.compile(
    rf"(?P<repo>{_WORD}/{_WORD})(?:@(?P<revision>refs/(?:pr/\d+|convert/{_WORD})|{_WORD}))?(?P<parts>(?:/{_WORD})*)"
)


@dataclass(frozen=True)
class HubName:
    """A repository, or a folder in its layout, and the parts that were named of it: a subset, a split, or both."""

    repo: str  # ORG/NAME, or the path of a folder
    revision: str | None
    parts: tuple[str, ...]
    folder: Path | None = None  # where it is a folder that was named, and no repository

    @property
    def shown(self) -> str:
        """As it is typed, without the parts."""
        return f"{PREFIX}{self.repo}{f'@{self.revision}' if self.revision else ''}"

    @property
    def place(self) -> Path:
        """Where a copy that the user fetched is looked for."""
        return home() / "datasets" / "hf" / self.repo


def parse(name: str) -> HubName:
    """Take `hf:…` apart. Raises InputError for what is neither a repository's name nor a folder's."""
    rest = name.removeprefix(PREFIX)
    if rest.startswith((".", "/", "~")):
        return _folder(name, expanded(rest))
    found = _NAME.fullmatch(rest)
    parts = tuple(found["parts"].strip("/").split("/")) if found and found["parts"] else ()
    if found is None or len(parts) > _MOST_PARTS:
        raise InputError(
            f"the dataset {name!r} is no name of the Hugging Face hub. Want hf:ORG/NAME[@REVISION][/SUBSET][/SPLIT], "
            "such as hf:BeIR/scifact or hf:mteb/scifact@main/test; or hf:./FOLDER[/SPLIT] for a folder here."
        )
    return HubName(found["repo"], found["revision"], parts)


def _folder(name: str, path: Path) -> HubName:
    """The folder that a path names, and what follows it. Raises InputError where there is none."""
    path = Path(os.path.abspath(path))  # noqa: PTH100  # a link keeps its name, beside which judgments may lie
    nearest = [path, *path.parents][: _MOST_PARTS + 1]
    folder = next((one for one in nearest if one.is_dir() and _holds_corpus(one)), path)
    if not folder.is_dir():
        raise InputError(f"the dataset {name!r}: there is no folder {path}. Name one in a layout of the hub.")
    return HubName(str(folder), None, path.parts[len(folder.parts) :], folder)


def _holds_corpus(folder: Path) -> bool:
    """Whether a folder looks like a repository, by the README's head or the names in it; it may be anybody's home."""
    try:
        names = [*declared(folder), *(path.name.split(".")[0] for path in folder.iterdir())]
    except (OSError, InputError):
        return False
    return any(name == "corpus" or name.endswith("-corpus") for name in names)
