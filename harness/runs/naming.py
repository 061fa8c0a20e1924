"""What the records of a retriever go by: a name that a user gives, else the word that the retriever's own comes to."""

import os
from pathlib import PurePath
from typing import Any

from harness.reports.records.names import short, slug
from harness.retrievers import registry
from harness.retrievers.errors import InputError

LONGEST = 100


def usual(name: str) -> str:
    """The word for the retriever `name` where nobody gives another.

    Of a folder, hub id, index or URL it is the last part (`hf:/x/my-model` is `my-model`), behind its family's prefix
    where that is the name of a registered retriever (`hf:/x/bm25` is `hf-bm25`).
    """
    family = registry.family(name)
    if family is None:
        return name
    rest = name.removeprefix(family)
    if "://" not in family and PurePath(rest).name in ("", "..", "~"):  # only the folder itself has a name
        name = family + os.path.abspath(os.path.expanduser(rest))  # noqa: PTH100, PTH111  # `..` is to be resolved
    word = short(name, [family])
    return slug(f"{family}{word}") if word in registry.available() else word


def checked(name: Any) -> str:
    """A name that a user gives. Raises InputError for what is no word, or what names a retriever already."""
    if isinstance(name, str):
        try:
            registry.get(name)
        except InputError:
            pass
        else:
            raise InputError(f"{name} is a retriever of its own (`harness list retrievers`). Give another name.")
        if name == slug(name) and len(name) <= LONGEST:
            return name
    such = f", such as {slug(name)[:LONGEST]}" if isinstance(name, str) else ""
    raise InputError(
        f"the name {name!r:.60} is no word. Want 1 to {LONGEST} letters, digits and _ . + - (first and last no . or -)"
        f"{such}."
    )
