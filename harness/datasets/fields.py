"""Which fields of a query or a document are read, and what is title and what is text among them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.retrievers.errors import InputError

# names that people have for a field, the likeliest first
TITLES = ("title", "headline", "head", "hl")
TEXTS = ("text", "contents", "content", "body", "passage", "document", "abstract")
QUERIES = ("text", "query", "title", "question", "topic")
_ALIASES = {"desc": "description", "narr": "narrative"}


@dataclass(frozen=True)
class Fields:
    """The fields that a user names; none: as the collection's own readers have it, else the usual names above."""

    query: tuple[str, ...] = ()
    docs: tuple[str, ...] = ()

    @classmethod
    def of(cls, query: str | None, docs: str | None) -> "Fields":
        """From `title+description` and `title,abstract`. Raises InputError for an empty name or one that is twice."""
        return cls(_names(query, "+", "--query-field"), _names(docs, ",", "--doc-fields"))

    @property
    def any(self) -> bool:
        """Whether any is named."""
        return bool(self.query or self.docs)

    def query_text(self, fields: Mapping[str, str], place: str) -> str:
        """A query's text. Raises InputError, naming `place`, where a field is missing."""
        if not self.query:
            return fields[_first(QUERIES, fields, place, "--query-field")]
        return " ".join(filter(None, (_value(fields, name, place).strip() for name in self.query)))

    def title_and_text(self, fields: Mapping[str, str], place: str) -> tuple[str, str]:
        """A document's title and text: of named fields a title-like one is the title, and the others are the text."""
        if not self.docs:
            title = next((fields[name] for name in TITLES if name in fields), "")
            return title, fields[_first(TEXTS, fields, place, "--doc-fields")]
        title = next((name for name in self.docs if name in TITLES), "")
        texts = [_value(fields, name, place) for name in self.docs if name != title]
        return _value(fields, title, place) if title else "", " ".join(filter(None, texts))


def _names(value: str | None, separator: str, option: str) -> tuple[str, ...]:
    if value is None:
        return ()
    names = tuple(_ALIASES.get(name.strip(), name.strip()) for name in value.split(separator))
    if not all(names) or len({*names}) < len(names):
        raise InputError(
            f"{option} is {value!r}; want names of fields with {separator!r} between them, each once, such as "
            f"{'title+description' if separator == '+' else 'title,abstract'}."
        )
    return names


def _value(fields: Mapping[str, str], name: str, place: str) -> str:
    if name not in fields:
        raise InputError(f"{place}: no field {name!r}; there is {_shown(fields)}.")
    return fields[name]


def _first(wanted: Sequence[str], fields: Mapping[str, str], place: str, option: str) -> str:
    for name in wanted:
        if name in fields:
            return name
    raise InputError(
        f"{place}: none of the fields {', '.join(wanted)}; there is {_shown(fields)}. {option} names the one to read."
    )


def _shown(fields: Mapping[str, str]) -> str:
    return ", ".join(sorted(fields)) or "nothing"
