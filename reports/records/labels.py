"""What a record is called wherever it is shown."""

from collections.abc import Sequence
from typing import Any

from harness.reports.records.names import short
from harness.reports.records.records import Manifest, Record, System

_TOP_K = 1000  # where nothing else was asked for
_LONGEST = 40  # letters of an option's value
_DIGITS = 7  # of the hash of weights


def name_of(system: System) -> str:
    """The word that a system goes by: the one that its record says, else what its retriever's name comes to.

    A run that was given goes by the name that it was given.
    """
    if system.called is not None:
        return system.called
    return system.retriever if system.file is not None else short(system.retriever)


def label(manifest: Manifest) -> str:
    """Name, variant, and each option that is not its default: `bm25 (flat, k1=2, b=0.75)`."""
    more = ", ".join(filter(None, [manifest.system.variant, *options(manifest)]))
    return f"{name_of(manifest.system)} ({more})" if more else name_of(manifest.system)


def options(manifest: Manifest) -> list[str]:
    """NAME=VALUE of each option that is not its default and that the variant does not say."""
    given = manifest.system.asked | ({} if manifest.top_k == _TOP_K else {"top_k": manifest.top_k})
    said = [f"{name}={_short(name, value)}" for name, value in given.items()]
    return [*said, *(["queries with text"] if manifest.data.rules.queries_with_text else [])]


def labels(found: Sequence[Record]) -> list[str]:
    """`label` of each; different systems never share one."""
    return told_apart([label(record.manifest) for record in found], found)


def unique(found: Sequence[Record]) -> list[str]:
    """`labels`, no two alike: with the record's hash, and its folder where two records have one hash."""
    known = labels(found)
    known = [_more(name, record.folder.name, known) for name, record in zip(known, found, strict=True)]
    return [_more(name, str(record.folder), known) for name, record in zip(known, found, strict=True)]


def _more(name: str, word: str, names: Sequence[str]) -> str:
    return f"{name} {word}" if names.count(name) > 1 and not name.endswith(f" {word}") else name


def told_apart(names: Sequence[str], found: Sequence[Record]) -> list[str]:
    """`names` of records, where different systems of one name have what tells them apart as well.

    That is the beginning of the hash of their weights (or of an index), which is the same on every collection; where
    that does not tell them apart, the record's own hash.
    """
    systems: dict[str, set[tuple[str, ...]]] = {}
    for name, record in zip(names, found, strict=True):
        systems.setdefault(name, set()).add(_identity(record.manifest.system))

    def apart(name: str, record: Record) -> str:
        if len(systems[name]) == 1:
            return name
        alike = {_weights(one) for other, one in zip(names, found, strict=True) if other == name}
        if "" in alike or len(alike) < len(systems[name]):
            return f"{name} {record.folder.name}"
        what = "index" if record.manifest.system.retriever.startswith("lucene:") else "weights"
        own = f"{what} {_weights(record)}"
        return f"{name[:-1]}, {own})" if name.endswith(")") else f"{name} ({own})"

    return [apart(name, record) for name, record in zip(names, found, strict=True)]


def _weights(record: Record) -> str:
    return (record.manifest.system.checkpoint_hash or "")[:_DIGITS]


def _identity(system: System) -> tuple[str, ...]:
    """What makes two systems of one name two: their kind, their weights (or where they are), and what re-ranks them."""
    kind, _, place = system.retriever.partition(":")
    reranker = system.reranked.checkpoint_hash if system.reranked else ""
    return kind, system.checkpoint_hash or place, reranker


def _short(name: str, value: Any) -> str:
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    text = str(value)
    if name.endswith("checkpoint"):  # of a path or a hub id the last word
        text = text.rstrip("/").rpartition("/")[2] or text
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
