"""Arguments of the Python functions, as a user has them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.retrievers.errors import InputError
from harness.retrievers.ids import checked
from harness.retrievers.places import expanded
from harness.retrievers.types import Query


def plain(value: Any) -> Any:
    """A number of numpy's as Python's own; anything else as it is."""
    return value.item() if type(value).__module__ == "numpy" and hasattr(value, "item") else value


def path(value: Any, name: str) -> Path:
    """A path as a user has it. Raises InputError for anything else."""
    if not isinstance(value, str | os.PathLike):
        raise InputError(f"{name} is {value!r:.60}; want a path.")
    text = os.fspath(value)
    if "\0" in text or text.encode(errors="replace").decode() != text:
        raise InputError(f"{name} is {text!a:.60}, which holds a NUL byte or is not UTF-8.")
    return expanded(os.fspath(value))


def queries(given: object) -> list[Query]:
    """Queries as a user has them. Raises InputError for what is not {query id: text}."""
    want = "want {query id: text}, or leave it out for the collection's own"
    if not isinstance(given, Mapping):
        raise InputError(f"queries is a {type(given).__name__}; {want}.")
    if not given:
        raise InputError(f"queries is empty; {want}.")
    for query_id, text in given.items():
        if not isinstance(text, str):
            raise InputError(f"the text of query {query_id!r} is {text!r:.60}; {want}.")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"the text of query {query_id!r} holds half of a surrogate pair, which is no text."
            ) from error
    found = [Query(checked(query_id, "queries: the query id"), str(text)) for query_id, text in given.items()]
    if len({query.query_id for query in found}) < len(found):
        raise InputError("queries: two ids are alike: a number stands for its digits. Keep one.")
    return found
