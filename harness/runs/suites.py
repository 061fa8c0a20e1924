"""Suites: several collections run one by one, and each system's mean over them.

A mean is a small file, `results/SUITE/RETRIEVER-HASH.json`, which names the records that it is made of. It is no record
of its own: their runs together may be tens of millions of rows, and are there already.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from harness.datasets.ir_datasets_source import quiet
from harness.datasets.loader import resolve
from harness.datasets.missing import MissingCollection
from harness.datasets.suites import SUITES
from harness.reports.records import records
from harness.reports.records.labels import label, name_of
from harness.reports.records.names import aliases, slug
from harness.reports.records.records import Record
from harness.retrievers.errors import InputError
from harness.retrievers.places import expanded
from harness.runs.config import RetrieverSpec, RunConfig
from harness.runs.record_store import Outcome
from harness.runs.runner import Step, steps
from harness.runtime import log
from harness.runtime.environment import now
from harness.runtime.processes import Processes

_SCHEMA = 1
_END = ".json"


@dataclass(frozen=True)
class SuiteMean:
    """What one system scores on a suite: {collection as the suite names it: record}, and where the mean is kept."""

    suite: str
    members: Mapping[str, Record]
    of: int  # collections of the suite
    path: Path

    @property
    def first(self) -> Record:
        """The record of the first collection, which says what the system is."""
        return next(iter(self.members.values()))

    @property
    def mean(self) -> dict[str, float]:
        """Each metric that all the records have, each collection counting alike."""
        found = list(self.members.values())
        names = [name for name in found[0].metrics if all(name in record.metrics for record in found)]
        return {name: float(np.mean([record.metrics[name] for record in found])) for name in names}

    @property
    def counted(self) -> str:
        """`12 of 13 collections`."""
        return f"{len(self.members)} of {self.of} collections"


def conduct(config: RunConfig, command: Sequence[str], team: Processes | None = None) -> Iterator[Outcome | SuiteMean]:
    """`harness.runs.runner.iterate`, where a dataset of `config` may also be a suite, ours or one of `config.suites`.

    The suite's collections are run one by one; at the end comes the mean of each system over each suite. What of a
    suite is not here is found before anything is run. Raises InputError that names each such collection and how to get
    it; with `config.skip_missing` the mean is of the others, unless there are none.
    """
    team = team or Processes()
    known = {**SUITES, **config.suites}
    suites = {name: list(known[name]) for name in dict.fromkeys(config.datasets) if name in known}
    if not suites and config.skip_missing:
        raise InputError("--skip-missing is of suites, and no dataset of this run is one. Leave it out.")
    lost = team.agreed(_missing(suites, config) if team.main else {}) if suites else {}
    if lost:
        _tell(lost, suites, config.skip_missing, team.main)
    there = {suite: [name for name in members if name not in lost] for suite, members in suites.items()}
    names = [name for dataset in config.datasets for name in there.get(dataset, [dataset])]
    done: list[Step] = []
    for step in steps(config.model_copy(update={"datasets": names}), command, team):
        done.append(step)
        yield step.outcome
    for suite, members in there.items():
        systems = [step.spec for step in done if step.whole and step.name == members[0]]
        for spec in systems:
            yield _keep(suite, _of(spec, members, done), len(suites[suite]), config.results, command)


def _of(spec: RetrieverSpec, members: Sequence[str], done: Sequence[Step]) -> dict[str, Record]:
    found = {step.name: step.outcome.record for step in done if step.whole and step.spec == spec}
    return {name: found[name] for name in members}


def _missing(suites: Mapping[str, Sequence[str]], config: RunConfig) -> dict[str, str]:
    """{collection: how to get it} of those that are not here, and cannot be fetched.

    Each is looked into up to its first document, query and judgment. Raises InputError for what is wrong otherwise.
    """
    found: dict[str, str] = {}
    for name in dict.fromkeys(name for members in suites.values() for name in members):
        try:
            with quiet():
                for dataset in resolve(name, config.titles, config.queries_with_text):
                    for rows in (dataset.source.qrels(), dataset.source.queries(), dataset.source.documents()):
                        list(islice(rows, 1))
        except MissingCollection as error:
            found[name] = error.how
    return found


def _tell(lost: Mapping[str, str], suites: Mapping[str, Sequence[str]], skip: bool, speaks: bool) -> None:
    """Raise InputError for what is missing, or warn of it where it is to be skipped and others are left."""
    whole = [suite for suite, members in suites.items() if all(name in lost for name in members)]
    counts = ", ".join(
        f"{sum(name in lost for name in members)} of {len(members)} of {suite}" for suite, members in suites.items()
    )
    by_way: dict[str, list[str]] = {}
    for name, how in lost.items():
        by_way.setdefault(how, []).append(name)
    ways = "; ".join(f"{', '.join(names)}: {how}" for how, names in by_way.items())
    if skip and not whole:
        if speaks:
            log.logger.warning(f"collections are missing and skipped ({counts}): {', '.join(lost)}")
        return
    others = "" if whole else " Get them, or go on without them by --skip-missing."
    raise InputError(f"collections are missing ({counts}). {ways}.{others}")


def _keep(suite: str, members: Mapping[str, Record], of: int, results: Path, command: Sequence[str]) -> SuiteMean:
    """Write the mean of a system's records; the file is named by the records, so that the same mean is one file."""
    first = next(iter(members.values()))
    key = json.dumps([suite, of, [(name, record.folder.name) for name, record in members.items()]])
    digest = hashlib.sha256(key.encode()).hexdigest()[:10]
    system = first.manifest.system
    path, before = (results / suite / f"{slug(name)}-{digest}{_END}" for name in (name_of(system), system.retriever))
    path = before if before.exists() else path  # where it lay before names were words
    made = SuiteMean(suite, members, of, path)
    content = {
        "schema": _SCHEMA,
        "created": now(),
        "command": list(command),
        "suite": suite,
        "retriever": system.retriever,
        "name": name_of(system),
        "label": label(first.manifest),
        "collections": {
            name: {
                "record": os.path.relpath(record.folder, results),
                "dataset_id": record.manifest.data.dataset_id,
                "metrics": record.metrics,
            }
            for name, record in members.items()
        },
        "counted": made.counted,
        "of": of,
        "mean": made.mean,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    new.replace(path)
    return made


def read(path: Path, results: Path) -> SuiteMean:
    """The mean in a file, with its records read. Raises InputError for a file that is none; RecordError for records."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] > _SCHEMA:
            raise InputError(f"{path} is of schema {content['schema']}; this harness reads {_SCHEMA}. Update it.")
        folders = {str(name): results / str(one["record"]) for name, one in content["collections"].items()}
        suite, of = str(content["suite"]), int(content["of"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is no mean of a suite ({error!r:.80}). Run the suite again.") from error
    return SuiteMean(suite, {name: records.read(folder) for name, folder in folders.items()}, of, path)


def find(word: str, results: Path) -> Path | None:
    """The file that a word names: its path, or SUITE/RETRIEVER or SUITE/RETRIEVER-HASH under `results`.

    None where there is no such mean. Raises InputError for a word that names several.
    """
    path = expanded(word)
    if path.suffix == _END and path.is_file() and path.parent.parent.resolve() == results.resolve():
        return path
    suite, slash, system = word.partition("/")
    if not slash or not system or suite in (".", ".."):
        return None
    every = sorted((results / suite).glob(f"[!.]*{_END}"))
    hits = [one for one in every if slug(system) in _words(one)]
    if len(hits) > 1:
        shown = "; ".join(map(_described, hits))
        raise InputError(f"{word!r} is {len(hits)} means of {suite}. Name one: {shown}.")
    return hits[0] if hits else None


def means_of(words: Sequence[str], results: Path) -> list[SuiteMean]:
    """The means that words name; none where none of them names one.

    Raises InputError where some do and others do not, and as `find` and `read`.
    """
    paths = {word: find(word, results) for word in words}
    found = {word: path for word, path in paths.items() if path is not None}
    if found and (others := [word for word in words if word not in found]):
        suite = next(iter(found.values())).parent.name
        there = ", ".join(f"{suite}/{path.stem}" for path in sorted((results / suite).glob(f"[!.]*{_END}")))
        raise InputError(f"{next(iter(found))} is of a suite, and {others[0]} is none of its means. There is: {there}.")
    return [read(found[word], results) for word in words] if found else []


def _words(path: Path) -> set[str]:
    """What a mean's file is found by: its retriever's name, short or whole, with or without the hash."""
    retriever, _, digest = path.stem.rpartition("-")
    names = {retriever}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        content = json.loads(path.read_text(encoding="utf-8"))
        names |= aliases(str(content["retriever"]), content.get("name"))
    return names | {f"{name}-{digest}" for name in names}


def _described(path: Path) -> str:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return f"{path.parent.name}/{path.stem} ({content['label']}, {content['counted']})"
    except (OSError, ValueError, KeyError, TypeError):
        return f"{path.parent.name}/{path.stem} (not readable)"
