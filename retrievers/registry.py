"""Name → retriever. A decorator for ours, an entry-point group for other people's packages."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict

from harness.retrievers.errors import InputError, unknown
from harness.retrievers.types import Corpus, Job, Query, Run

ENTRY_POINT_GROUP = "harness.retrievers"
_BUILTIN_MODULES = (
    "harness.retrievers.lexical.bm25",
    "harness.retrievers.lexical.existing_index",
    "harness.retrievers.lexical.coordination",
    "harness.retrievers.neural.retriever",
    "harness.retrievers.late_interaction.retriever",
    "harness.retrievers.sbert.retriever",
    "harness.retrievers.remote.endpoint",
    "harness.retrievers.remote.engine",
)
_registered: dict[str, type["Retriever"]] = {}
_prefixes: dict[str, "_Prefix"] = {}


class Options(BaseModel):
    """Base of every retriever's options: unknown names are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PaperRow(BaseModel):
    """A row of the paper's tables that a system may fill."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: int
    row: str


class Identity(BaseModel):
    """What a retriever is, for the record of its runs; nothing else decides which table cell they may fill."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str
    stage: str | None = None
    variant: str | None = None
    paper_rows: tuple[PaperRow, ...] = ()
    checkpoint: str | None = None
    checkpoint_hash: str | None = None
    seed: int | None = None
    bytes_per_document: float | None = None
    bytes_per_document_paper: float | None = None
    trained: dict[str, Any] = {}  # how, in the checkpoint's own words
    model: dict[str, int] = {}  # layers, hidden, vocabulary


class About(NamedTuple):
    """A line of `harness list retrievers`; what is None or empty is not known, or does not apply."""

    system: str = ""
    paper_rows: tuple[PaperRow, ...] = ()
    kind: str = ""
    width: str = ""  # values and terms of a document
    bytes_per_document: float | None = None
    checkpoint: str | None = None
    status: str = "runnable"
    verified: str | None = None  # against what its vectors or scores were checked
    finetuned_on: str | None = None
    licence: str | None = None


class Retriever(ABC):
    """A system that answers queries over a corpus.

    A subclass sets `Options` (its settings, with defaults), `summary` (one line for `harness list`) and `packages` (the
    distributions whose version may change its results). Its module is imported to list it, so anything heavy is
    imported inside the methods.
    """

    Options: ClassVar[type[Options]] = Options
    summary: ClassVar[str] = ""
    packages: ClassVar[tuple[str, ...]] = ()
    # whether several processes share its work through `job`: all call `search`, and what it returns at rank 0 counts;
    # otherwise rank 0 alone is asked
    distributed: ClassVar[bool] = False
    # whether options, packages and `fingerprint` decide its results; where not, it searches every time, and its results
    # name the record
    reproducible: bool = True
    # options whose values the variant of its identity says; a record's label adds the others that are not defaults
    told: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, options: Any) -> None:
        self.options = options

    @classmethod
    def about(cls) -> About:
        """What is known of it before it runs."""
        return About()

    @abstractmethod
    def identity(self) -> Identity:
        """Say what this is; called after `search`, when sizes are known."""

    def resolved(self) -> dict[str, Any]:
        """The options as they took effect, for the record."""
        return dict(self.options.model_dump(mode="json"))

    def service_cost(self) -> dict[str, int | float]:
        """What the last search asked of a service, for the record: requests, retries, seconds; empty without one."""
        return {}

    @property
    def notice(self) -> str:
        """What a user should know before it runs, if anything; a command says it once."""
        return ""

    def check(self) -> None:
        """Raise what is known to be wrong before a collection is read; called for every retriever of a run."""
        self.fingerprint()

    def prepare(self) -> None:  # noqa: B027  # nothing, unless a retriever has something to load
        """Load what `search` will need; called, if at all, while the harness would wait for something else."""

    def fingerprint(self) -> str:
        """Whatever beside options and packages decides the results, such as the hash of a checkpoint."""
        return ""

    @abstractmethod
    def search(self, corpus: Corpus, queries: Sequence[Query], top_k: int, job: Job) -> Run:
        """Return a run that holds every query of `queries`, in their order, at most `top_k` documents each."""


def register(name: str) -> Callable[[type[Retriever]], type[Retriever]]:
    """Class decorator: make a retriever known as `name`. Raises ValueError where the name is taken."""

    def add(cls: type[Retriever]) -> type[Retriever]:
        other = _registered.get(name)
        if other is not None and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"the retriever name {name!r} is taken by {other.__module__}.{other.__qualname__}")
        _registered[name] = cls
        return cls

    return add


class _Prefix(NamedTuple):
    label: str  # as `harness list` shows it
    summary: str
    make: Callable[[str], type[Retriever]]


def register_prefix(
    prefix: str, label: str, summary: str
) -> Callable[[Callable[[str], type[Retriever]]], Callable[[str], type[Retriever]]]:
    """Decorator of a function that makes the retriever for any name with `prefix`, from what follows it."""

    def add(make: Callable[[str], type[Retriever]]) -> Callable[[str], type[Retriever]]:
        _prefixes[prefix] = _Prefix(label, summary, make)
        return make

    return add


def prefixes() -> dict[str, str]:
    """{label: summary} of the families of names."""
    available()
    return {prefix.label: prefix.summary for prefix in _prefixes.values()}


def available() -> dict[str, type[Retriever]]:
    """Every retriever by name: ours, and those of installed packages that can be loaded."""
    return _find()[0]


def problems() -> dict[str, str]:
    """What is wrong with the retrievers of installed packages that cannot be used, by name."""
    return _find()[1]


def family(name: str) -> str | None:
    """The prefix of the family that `name` is of; None for any other name."""
    available()
    return next((prefix for prefix in _prefixes if name.startswith(prefix)), None)


def _find() -> tuple[dict[str, type[Retriever]], dict[str, str]]:
    for module in _BUILTIN_MODULES:
        importlib.import_module(module)
    found, broken = dict(_registered), {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        origin = f"the retriever {point.name!r} of {point.dist.name if point.dist else '?'} ({point.value})"
        try:
            cls = point.load()
        except Exception as error:  # another package's import may fail in any way; name it instead of dying in it
            broken[point.name] = f"{origin} cannot be loaded: {error!r}. Correct the package, or uninstall it."
            continue
        if not (isinstance(cls, type) and issubclass(cls, Retriever)):
            broken[point.name] = f"{origin} is not a subclass of harness.Retriever."
        elif found.get(point.name, cls) is not cls:
            broken[point.name] = f"the name of {origin} is taken already. Uninstall one of the two."
        else:
            found[point.name] = cls
    return found, broken


def get(name: str) -> type[Retriever]:
    """The retriever called `name`.

    Raises InputError for an unknown one, with the nearest names and all there are, or for one that cannot be loaded or
    whose name two packages claim.
    """
    found, broken = _find()
    if name in broken:
        raise InputError(broken[name])
    for prefix, family in _prefixes.items():
        if name.startswith(prefix):
            return family.make(name.removeprefix(prefix))
    if name not in found:
        raise unknown("retriever", name, [*found, *prefixes()])
    return found[name]
