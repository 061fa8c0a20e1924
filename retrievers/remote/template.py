"""JSON with places such as `{{query}}`, filled in by structure: a value cannot leave the string that it stands in."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_PLACE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


def places(template: Any) -> set[str]:
    """The names of the places in a template's texts; keys are not looked at."""
    return {name for text in _texts(template) for name in _PLACE.findall(text)}


def _texts(template: Any) -> Iterator[str]:
    if isinstance(template, str):
        yield template
    elif isinstance(template, Mapping):
        for value in template.values():
            yield from _texts(value)
    elif isinstance(template, list):
        for value in template:
            yield from _texts(value)


def filled(template: Any, values: Mapping[str, Any]) -> Any:
    """The template with a value in each place; what a value itself holds is left alone.

    A text that is one place becomes the value, whatever its type; inside a longer text a value is written as `word`.
    Raises KeyError for a place without a value.
    """
    if isinstance(template, Mapping):
        return {key: filled(value, values) for key, value in template.items()}
    if isinstance(template, list):
        return [filled(value, values) for value in template]
    if not isinstance(template, str):
        return template
    if (alone := _PLACE.fullmatch(template)) is not None:
        return values[alone[1]]
    return _PLACE.sub(lambda place: word(values[place[1]]), template)


def word(value: Any) -> str:
    """A text as it is, any other value as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def parameters(given: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Filled parameters as a URL carries them: a list is one parameter several times."""
    each = {name: value if isinstance(value, list) else [value] for name, value in given.items()}
    return [(name, word(one)) for name, some in each.items() for one in some]
