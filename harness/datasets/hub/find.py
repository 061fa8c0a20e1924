"""`hf:…` and `mteb:…`: a name becomes a source, an identity and rules."""

from dataclasses import dataclass, replace
from pathlib import Path

from harness.datasets.fields import Fields
from harness.datasets.hub import name as names
from harness.datasets.hub.fetch import Located, locate, second
from harness.datasets.hub.mteb_task import PREFIX as MTEB
from harness.datasets.hub.mteb_task import task
from harness.datasets.hub.name import HubName
from harness.datasets.hub.source import HubSource, layout
from harness.datasets.rules import Rules, hub_rules

PREFIXES = (names.PREFIX, MTEB)


@dataclass(frozen=True)
class Found:
    """What a name of the hub stands for."""

    name: str  # that it is shown by
    dataset_id: str  # `hf:ORG/NAME@COMMIT/SPLIT`
    source: HubSource
    rules: Rules
    revision: str | None
    notes: tuple[str, ...]


def find(name: str, fields: Fields | None = None) -> Found:
    """Find the files of a name with one of `PREFIXES`, and fetch them where they are not here.

    Raises InputError for a name that is none, a repository in no layout that is known, and as
    `harness.datasets.hub.fetch.locate` and `harness.datasets.hub.mteb_task.task`.
    """
    if name.startswith(MTEB):
        asked = task(name)
        return _found(name, asked.hub, asked.rules, fields)
    return _found(name, names.parse(name), None, fields)


def _found(name: str, asked: HubName, rules: Rules | None, fields: Fields | None) -> Found:
    first = locate(asked)
    others: list[Located] = []

    def judgments() -> Path | None:
        others.extend(filter(None, [second(asked)]))
        return others[0].folder if others else None

    files = layout(first.folder, asked.parts, judgments)
    commits = [located.revision for located in (first, *others)]
    part = "/".join(filter(None, [files.subset, files.split]))
    exact = replace(asked, revision=first.revision or asked.revision).shown if asked.folder is None else asked.shown
    return Found(
        name=name if asked.folder is None else f"hf:{asked.folder.name}/{part}",
        dataset_id=f"{exact}/{part}",
        source=HubSource(first.folder, files, fields),
        rules=rules or hub_rules(asked.repo if asked.folder is None else "", files.split),
        revision=_joined(commits),
        notes=tuple(note for located in (first, *others) for note in located.notes),
    )


def _joined(commits: list[str | None]) -> str | None:
    """One commit, or that of the documents and that of the judgments."""
    known = [commit or "unknown" for commit in commits]
    if not any(commits):
        return None
    return known[0] if len(known) == 1 else f"{known[0]}, judgments {known[1]}"
