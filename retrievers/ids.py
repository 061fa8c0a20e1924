"""What the id of a document or a query may be: whatever a TREC run can carry."""

import re
from collections.abc import Iterable
from numbers import Integral
from typing import Any

from harness.retrievers.errors import InputError

LONGEST = 512  # bytes; ids are kept in arrays of their greatest width
_SEPARATORS = re.compile("[\0-\x20]")  # trec_eval and every reader of runs split at white space of ASCII alone


def fault(value: object) -> str | None:
    """What is wrong with an id, as the end of a sentence; None for a sound one."""
    if not isinstance(value, str):
        return f"{value!r:.60} is no text"
    if not value:
        return "'' is empty"
    if found := _SEPARATORS.search(value):
        kind = "white space" if found[0].isspace() else f"the control character U+{ord(found[0]):04X}"
        return f"{value[:60]!r} holds {kind}, which a TREC run cannot carry"
    if value[0] == "\ufeff":
        return f"{value[:60]!r} begins with a byte order mark, which readers of runs drop"
    try:
        width = len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError:
        return f"{value[:60]!r} holds half of a surrogate pair, which is no text"
    return f"{value[:40]!r}… is longer than {LONGEST} bytes" if width > LONGEST else None


def unknown_ids(found: Iterable[bytes], known: Iterable[str]) -> list[str]:
    """Those of the ids `found` (UTF-8) that are not among `known`, sorted. Memory holds what is found alone."""
    left = set(found)
    for doc_id in known:
        if not left:
            break
        left.discard(doc_id.encode())
    return sorted(doc_id.decode(errors="replace") for doc_id in left)


def checked(value: Any, what: str) -> str:
    """An id of a user's object; a whole number stands for its digits. Raises InputError for anything else.

    `what` begins the message, such as "the document id".
    """
    text = str(value) if isinstance(value, Integral) and not (value is True or value is False) else value
    if wrong := fault(text):
        raise InputError(f"{what} {wrong}.")
    assert isinstance(text, str)
    return text
