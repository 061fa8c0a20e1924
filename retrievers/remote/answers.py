"""The results in a search engine's answer, by the JMESPath expressions of its description."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from harness.retrievers import ids
from harness.retrievers.errors import InputError
from harness.retrievers.remote.client import said
from harness.retrievers.remote.description import Description

_GREATEST = 3.4028235e38  # of float32, in which a run keeps scores


class Reader:
    """Takes results out of answers; `name` is the engine's in messages.

    Raises InputError for an expression that is none, or where jmespath is missing.
    """

    def __init__(self, described: Description, name: str) -> None:
        self.described, self.name = described, name
        self._ids = self._expression("ids", described.ids)
        self._scores, self._total, self._error = (
            text and self._expression(field, text)
            for field, text in (("scores", described.scores), ("total", described.total), ("error", described.error))
        )

    def words(self, answer: Any) -> Any:
        """What an answer says of an error."""
        return (self._error and self._error(answer)) or said(answer)

    def results(self, answer: Any, query_id: str, came: int) -> tuple[list[str], list[float], int | None]:
        """Ids, scores and the total of an answer whose first result is at rank `came` + 1.

        Without scores in the description a result's is 1 / rank. Raises InputError for an error that the engine tells,
        or an answer that is not as described.
        """
        where = f"{self.name}, query {query_id!r}"
        if self._error and (wrong := self._error(answer)):
            raise InputError(f"{where}: the engine answers with an error: {' '.join(str(wrong).split()):.200}.")
        found = self._ids(answer)
        if not isinstance(found, list):
            raise InputError(
                f"{where}: {self.described.ids!r} (ids) finds {_kind(found)} in an answer that {_keys(answer)}; want a "
                "list of ids."
            )
        doc_ids = [self._own(ids.checked(one, f"{where}: the document id"), where) for one in found]
        scores = [1 / (came + rank) for rank in range(1, len(doc_ids) + 1)]
        if self._scores:
            given = self._scores(answer)
            if not isinstance(given, list) or len(given) != len(doc_ids):
                got = f"{len(given):,} scores" if isinstance(given, list) else _kind(given)
                raise InputError(
                    f"{where}: {self.described.scores!r} (scores) finds {got} for {len(doc_ids):,} ids. Leave `scores` "
                    "out of the description to go by rank."
                )
            scores = [_number(one, doc_id, where) for one, doc_id in zip(given, doc_ids, strict=True)]
        total = self._total(answer) if self._total else None
        return doc_ids, scores, total if isinstance(total, int) else None

    def _own(self, doc_id: str, where: str) -> str:
        """The collection's id in an id of the engine's."""
        pattern = self.described.id_pattern
        if pattern is None:
            return doc_id
        if (found := re.search(pattern, doc_id)) is None or not found[1]:
            raise InputError(f"{where}: the id {doc_id!r:.80} is not as id_pattern says ({pattern}).")
        return found[1]

    def _expression(self, field: str, text: str) -> Callable[[Any], Any]:
        try:
            import jmespath
        except ImportError as error:
            raise InputError(f"{self.name} needs jmespath: pip install 'dupmae-harness[search]'") from error
        wrong = jmespath.exceptions.JMESPathError
        try:
            parsed = jmespath.compile(text)
        except (wrong, ValueError) as error:
            raise InputError(f"{self.name}: {field} {text!r:.80} is no JMESPath: {_line(error)}.") from error

        def apply(value: Any) -> Any:
            try:
                return parsed.search(value)
            except wrong as error:
                raise InputError(f"{self.name}: {field} {text!r:.80} fails on an answer: {_line(error)}.") from error

        return apply


def _line(error: Exception) -> str:
    return f"{' '.join(str(error).split()).rstrip('.'):.120}"


def _number(value: Any, doc_id: str, where: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _GREATEST:
        return float(value)
    raise InputError(f"{where}: the score of document {doc_id!r} is {value!r:.60}; want a finite number.")


def _kind(value: Any) -> str:
    names = {dict: "an object", str: "a text", bool: "true or false"}
    return "nothing" if value is None else names.get(type(value), "a number")


def _keys(answer: Any) -> str:
    if isinstance(answer, Mapping):
        return f"has the keys {', '.join(map(str, answer)):.100}" if answer else "is empty"
    return f"is {'a list' if isinstance(answer, list) else _kind(answer)}"
