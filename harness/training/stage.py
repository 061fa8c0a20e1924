"""What a kind of training stage is, and which kinds there are.

A kind is a class: its fields are the settings that a recipe may give, its methods say what the training has to know
before it begins, and do the stage. Ours lie in `harness/training/stages/`, one module each, and an installed package
adds others through the entry-point group `harness.stages`. No other module of the training knows the kinds; the
ablation does, which is of pre-training and fine-tuning, and `harness.reports.paper.rows`, which reads them in records.
"""

import importlib
import math
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, get_args

from harness.retrievers.errors import InputError, unknown
from harness.training.recipe_data import CorpusPart, Data, Strict

ENTRY_POINT_GROUP = "harness.stages"
_OURS = "harness.training.stages"

# what a stage may leave for those after it
ENCODER = "an encoder"
FINE_TUNED = "a fine-tuned encoder"
HYBRID = "two halves that search"  # which fine-tuning leaves as well
NEGATIVES = "mined negatives"
TEACHER = "a teacher"
SCORES = "a teacher's scores"

Facts = dict[str, Any]  # what a stage adds to its manifest


@dataclass
class Outlook:
    """What is known before training begins, and what the stages so far will have made of it.

    Each stage changes what it is going to change, so that the next one is checked against that.
    """

    data: Data
    stages: tuple[str, ...]  # of the recipe, all
    name: str = ""  # of the stage that is checked
    left: dict[str, list[str]] = field(default_factory=dict)  # what stages so far leave → the names of those stages
    hidden: int = 0  # H
    vocabulary: int = 0  # V; 0 is not known
    family: str = "bert"  # `model_type` of the base
    head: bool = True  # whether it has a masked-LM head
    positions: int = 0  # tokens that the model can read; 0 is not known
    processes: int = 1
    projection: int | None = None  # D of the projection, once a stage makes one
    negatives: int = 0  # that a query has at most
    queries: Mapping[tuple[str, ...], int] = field(default_factory=dict)  # that training collections have together
    there: Mapping[str, Any] = field(default_factory=dict)  # settings of what lies in the stage's folder already

    @property
    def encoders(self) -> list[str]:
        """Where a later stage may start from: the base, or a stage so far that leaves an encoder."""
        return ["base", *self.left.get(ENCODER, [])]

    @property
    def on_processes(self) -> str:
        """Their number, in words."""
        return f"{self.processes} process{'es' * (self.processes > 1)}"

    def too_long(self, **lengths: int) -> Iterator[str]:
        """What is wrong with the lengths in tokens that the stage has settings for."""
        for setting, length in lengths.items():
            if length > self.positions:
                yield f"{self.name}.{setting} is {length}; the model has positions for {self.positions} tokens at most"

    def too_few(self, batch: int, negatives: int, collections: tuple[str, ...]) -> Iterator[str]:
        """What is wrong where a batch takes so many queries, with so many negatives each."""
        queries = self.queries[collections]
        if batch > queries:
            there = f"{queries:,} to learn from. Take a smaller one" if queries != 1 else "1 to learn from"
            yield f"{self.name}.batch is {batch:,} queries, and there {'are' if queries != 1 else 'is'} {there}"
        if negatives > self.negatives:
            yield f"{self.name}: {negatives:,} negatives of each query were asked for, of {self.negatives:,} mined"


class Stage(Strict):
    """One stage of a recipe.

    A kind is a subclass with a field `kind: Literal["its-name"]` and a method `run`; `register` makes it known. Every
    other method has an answer already, for a stage that needs nothing and reads nothing.
    """

    if TYPE_CHECKING:  # each kind's own field
        kind: str
    leaves: ClassVar[tuple[str, ...]] = ()  # ENCODER, NEGATIVES, … or a word of a package's own
    on_queries: ClassVar[bool] = False  # whether it learns from the queries of `data.train`
    searches: ClassVar[bool] = False  # whether it searches with the recipe's `system`
    at_once: ClassVar[str] = ""  # the setting that says how much goes through a device at once
    aside: ClassVar[tuple[str, ...]] = ()  # settings that may be others when it goes on, since they decide nothing
    saved: ClassVar[str] = "state.pt"  # what a stopped one goes on from, as a pattern of names in its folder
    later: ClassVar[tuple[str, ...]] = ()  # settings younger than folders that are there: None decides nothing
    lengths: ClassVar[Mapping[str, int]] = {}  # settings in tokens that may be left open (None), and what they then are
    on_words: ClassVar[bool] = False  # whether it starts from a masked-LM, and leaves behind how it made vectors

    # --- known from the recipe alone

    def needs(self) -> Sequence[str]:
        """What earlier stages must have left."""
        return ()

    def texts(self, data: Data) -> tuple[CorpusPart, ...]:
        """The corpora that it learns from."""
        return ()

    def learns_from(self, data: Data) -> tuple[str, ...]:
        """The collections whose queries it learns from."""
        return data.train if self.on_queries else ()

    def chooses_by(self, data: Data) -> tuple[str, ...]:
        """The collections by whose judgments it chooses something."""
        return ()

    def wrong(self, data: Data) -> Iterable[str]:
        """What does not go together with the data of its recipe, a line each."""
        return ()

    def words(self) -> str:
        """What it is going to do, for a plan."""
        return self.kind

    def settled(self, setting: str) -> int:
        """A number that the recipe may leave open, and that has a value before the stage is checked or run."""
        value = getattr(self, setting)
        assert isinstance(value, int)
        return value

    @property
    def _chosen(self) -> dict[str, Any]:
        """Those of the `later` settings that are set."""
        return {name: value for name in self.later if (value := getattr(self, name)) is not None}

    # --- before training begins

    def left_open(self, outlook: Outlook) -> dict[str, Any]:
        """Values for the settings that the recipe leaves open (None): lengths as usual, cut to the model's positions.

        `outlook` knows positions and processes alone, and what lies in the stage's folder already.
        """
        most = outlook.positions or math.inf
        return {name: int(min(usual, most)) for name, usual in self.lengths.items() if getattr(self, name) is None}

    def check_names(self, outlook: Outlook) -> None:
        """Raise InputError for a name in its settings that nothing has; `outlook` knows stages and encoders alone."""

    def check_model(self, outlook: Outlook) -> Iterable[str]:
        """What it wants of the model or of the processes and cannot have, a line each."""
        return ()

    def check_examples(self, outlook: Outlook) -> Iterable[str]:
        """What it wants of the training collections or of the stages before it and cannot have, a line each."""
        return ()

    # --- its turn

    def run(self, context: Any, name: str, folder: Path) -> Facts:
        """Do it: read what `context` (`harness.training.context.Context`) has of earlier stages, write into `folder`.

        Every process calls it; `context.main` is the one that writes. Raises InputError for what only now turns out to
        be wrong.
        """
        raise NotImplementedError(f"{type(self).__qualname__} has no method run")


_registered: dict[str, type[Stage]] = {}
_packages: dict[str, str] = {}  # the name and version of the package that a kind comes with, where it is not ours


def register(kind: type[Stage]) -> type[Stage]:
    """Class decorator: make a kind of stage known by the name that its field `kind` allows.

    Raises InputError where another kind has that name, ValueError for a class that does not say its name, has no `run`,
    or calls a setting as something that every stage has.
    """
    name = name_of(kind)
    if kind.run is Stage.run:
        raise ValueError(f"{_origin(kind)} has no method run")
    if taken := sorted(kind.model_fields.keys() & {*dir(Stage)}):
        raise ValueError(f"{_origin(kind)} has a setting {', '.join(taken)}: that name means something to every stage")
    other = _registered.get(name)
    if other is not None and _origin(other) != _origin(kind):
        raise InputError(
            f"two kinds of stage are called {name!r}: {_origin(other)} and {_origin(kind)}. Uninstall or rename one."
        )
    _registered[name] = kind
    return kind


def name_of(kind: type[Stage]) -> str:
    """The name that a recipe gives a kind. Raises ValueError where the class does not say it."""
    found = kind.model_fields.get("kind")
    names = get_args(found.annotation) if found is not None else ()
    if len(names) != 1 or not isinstance(names[0], str):
        raise ValueError(f'{_origin(kind)} wants a field `kind: Literal["its-name"]`')
    return names[0]


def kinds() -> dict[str, type[Stage]]:
    """Every kind by name: ours, and those of installed packages that can be used."""
    return _find()[0]


def _find() -> tuple[dict[str, type[Stage]], dict[str, str]]:
    """The kinds, and what is wrong with those of installed packages that cannot be used, both by name."""
    for module in pkgutil.iter_modules(importlib.import_module(_OURS).__path__):
        importlib.import_module(f"{_OURS}.{module.name}")
    broken = {}
    for point in _points(tuple(sys.path)):
        origin = f"the kind of stage {point.name!r} of {point.dist.name if point.dist else '?'} ({point.value})"
        try:
            kind = point.load()
            if not (isinstance(kind, type) and issubclass(kind, Stage)):
                broken[point.name] = f"{origin} is not a subclass of harness.training.stage.Stage."
            elif name_of(kind) != point.name:
                broken[point.name] = f"{origin} calls itself {name_of(kind)!r}. Give both the same name."
            else:
                register(kind)
                _packages[point.name] = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
        except InputError as error:
            broken[point.name] = f"{error} The second comes with the package {point.dist.name if point.dist else '?'}."
        except (Exception, SystemExit) as error:  # another package's import may fail in any way; name it instead
            broken[point.name] = f"{origin} cannot be loaded: {error!r}. Correct the package, or uninstall it."
    return dict(sorted(_registered.items())), broken


@lru_cache(maxsize=1)
def _points(_path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """What installed packages announce; looked for once, since that takes 3 ms and each stage of a recipe asks."""
    return tuple(entry_points(group=ENTRY_POINT_GROUP))


def of(values: Any) -> Stage:
    """A stage from what a recipe says of it.

    Raises ValueError for a kind that there is not (with the nearest names and all there are) or that cannot be used,
    and for values that the kind does not take.
    """
    if isinstance(values, Stage):
        return values
    there, broken = _find()
    name = values.get("kind") if isinstance(values, dict) else None
    if not isinstance(name, str):
        got = f"got kind {name!r:.40}" if isinstance(values, dict) else f"got {values!r:.40}"
        raise ValueError(f"a stage needs a kind: {', '.join(there)}; {got}")
    if name in broken:
        raise ValueError(broken[name])
    if name not in there:
        raise ValueError(str(unknown("kind", name, there)))
    return there[name].model_validate(values)


def package_of(kind: str) -> str | None:
    """The name and version of the package that a kind comes with; None for ours."""
    return _packages.get(kind)


def said(stage: Stage, method: str, *arguments: Any) -> list[Any]:
    """What one of a stage's methods lists. Raises TypeError, naming the method, where that is no list of such things.

    A kind is other people's code: a single string instead of a list of them would be taken letter by letter.
    """
    found = getattr(stage, method)(*arguments)
    wanted: type = CorpusPart if method == "texts" else str
    several = isinstance(found, Iterable) and not isinstance(found, str | Mapping)
    items = list(found) if several else []
    if not several or not all(isinstance(item, wanted) for item in items):
        where = f"{_origin(type(stage))}.{method}"
        raise TypeError(f"{where} returned {found!r:.60}; it must return a list or a tuple of {wanted.__name__}")
    return items


def settings_in_words(settings: Mapping[str, Any]) -> list[str]:
    """Such as `query prefix 'query: '`, for a plan."""
    return [f"{name.replace('_', ' ')} {value!r}" for name, value in settings.items()]


def in_words(stage: Stage) -> str:
    """What a stage is going to do, in one line."""
    return " ".join(str(stage.words()).split())


def who_leaves(what: str) -> list[str]:
    """The names of the kinds that leave something."""
    return [name for name, kind in kinds().items() if what in kind.leaves]


def _origin(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
