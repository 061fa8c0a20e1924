"""What a metric is: a family, a cutoff and settings, such as P(rel=2)@5; and the registry of families.

A family is one file in `harness/metrics/families`, or comes with an installed package: an entry point of the group
`harness.metrics` whose name is the family's and whose value is its `Family`.
"""

import importlib
import pkgutil
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from harness.retrievers.errors import InputError

ENTRY_POINT_GROUP = "harness.metrics"
_OURS = "harness.metrics.families"
Values = npt.NDArray[np.float64]  # of a metric, one a query: [Q]
Setting = int | float | bool | str
_LARGEST = 999_999_999  # of a cutoff or a grade


@dataclass(frozen=True)
class Ranked:
    """A run as the judgments see it, in the order of its ranks; what lies behind a query's results is 0 and False."""

    grades: npt.NDArray[np.int64]  # [Q,R], 0 where nobody judged
    judged: npt.NDArray[np.bool_]  # [Q,R]
    counts: npt.NDArray[np.int64]  # [Q] results


@dataclass(frozen=True)
class Option:
    """A setting of a family: what it is where nobody says, and which values it may have."""

    default: Setting | None
    kind: type
    least: float = 1
    most: float = _LARGEST
    open: bool = False  # whether the ends themselves are left out
    choices: tuple[str, ...] = ()

    def read(self, text: str) -> Setting:
        """The value that `text` means. Raises ValueError, with what is allowed, where it means none."""
        if self.kind is bool:
            found = {"true": True, "1": True, "false": False, "0": False}.get(text.casefold())
            if found is None:
                raise ValueError("True or False")
            return found
        if self.kind is str:
            word = text.strip("'\"")
            if word not in self.choices:
                raise ValueError(" or ".join(self.choices))
            return word
        number = "a whole number" if self.kind is int else "a number"
        ends = f"from {self.least:g} up" if self.most == _LARGEST else f"from {self.least:g} to {self.most:g}"
        if self.open:
            ends = f"above {self.least:g}" + ("" if self.most == _LARGEST else f" and below {self.most:g}")
        try:
            value: int | float = self.kind(text)
        except ValueError:
            raise ValueError(f"{number} {ends}") from None
        inside = self.least < value < self.most if self.open else self.least <= value <= self.most
        if not inside:
            raise ValueError(f"{number} {ends}")
        return value


REL = {"rel": Option(None, int)}  # the least grade that counts as relevant; None: the collection's
JUDGED_ONLY = {"judged_only": Option(False, bool)}  # whether results that nobody judged are taken out first
Score = Callable[[Ranked, "Metric", int], Values]  # of a metric's results, with the level for it


@dataclass(frozen=True)
class Family:
    """One metric at any cutoff and with any settings.

    `name` stands in records and tables, `ir_measures` is its name there, and `also` are other names in use; any case is
    read. `trec_eval` is that program's measure for a cutoff (`ndcg_cut`), `trec_eval_whole` the one without (`ndcg`).
    The values are made by ranx where `ranx` names its function, and checked by trec_eval where that has it; else by
    `ours`, which takes a run as the judgments see it; else by the provider that ir_measures has.
    """

    name: str
    ir_measures: str
    summary: str
    source: str
    cutoff: Literal["needed", "may", "none"]
    also: tuple[str, ...] = ()
    presets: Mapping[str, Mapping[str, Setting]] = field(default_factory=dict)  # further names, which carry settings
    options: Mapping[str, Option] = field(default_factory=dict)
    binary: bool = True  # counts grades from a level up (`Levels`); otherwise it uses the grades, or none
    ranx: str | None = None
    trec_eval: str | None = None
    trec_eval_whole: str | None = None
    ours: Score | None = None
    counts_marks: bool = False  # whether a document with a grade below 0 is judged; trec_eval says not

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def spelling(self) -> str:
        """How it is written, with a cutoff where it may have one."""
        return self.name if self.cutoff == "none" else f"{self.name}@k"

    @property
    def others(self) -> tuple[str, ...]:
        """Its other names, with cutoffs as they are written there."""
        at = "" if self.cutoff == "none" else "@k"
        named = [f"{name}{at}" for name in (self.ir_measures, *self.also, *self.presets)]
        named += [f"{self.trec_eval}_k"] if self.trec_eval else []
        named += [self.trec_eval_whole] if self.trec_eval_whole else []
        return tuple(name for name in dict.fromkeys(named) if name.casefold() != self.spelling.casefold())

    @property
    def by(self) -> str:
        """Which program computes it, and which checks every value."""
        if self.ranx:
            return "ranx, checked by trec_eval" if self.trec_eval or self.trec_eval_whole else "ranx"
        if self.ours:
            return "this harness"
        return "trec_eval, by ir_measures" if self.trec_eval_whole else "ir_measures"


@dataclass(frozen=True)
class Levels:
    """The least grade that counts as relevant, in the metrics that ask only whether a document is.

    `binary` is of recall, precision and MAP, and of MRR too unless a track sets another for it.
    """

    binary: int = 1
    mrr: int | None = None

    def of(self, family: Family) -> int:
        """The level for a family; 1 for one that uses the grades themselves."""
        if not family.binary:
            return 1
        return self.mrr if family.name == "MRR" and self.mrr is not None else self.binary


PLAIN = Levels()


@dataclass(frozen=True)
class Metric:
    """A family, its cutoff and those settings that are not as usual, such as P(rel=2)@5.

    A level that is not named (`rel`) is the collection's.
    """

    family: Family
    cutoff: int | None = None
    settings: tuple[tuple[str, Setting], ...] = ()

    def __str__(self) -> str:
        inside = ",".join(f"{name}={value!r}" for name, value in self.settings)
        return f"{self.family.name}{f'({inside})' if inside else ''}{f'@{self.cutoff}' if self.cutoff else ''}"

    def setting(self, name: str) -> Any:
        """A setting's value."""
        return dict(self.settings).get(name, self.family.options[name].default if name in self.family.options else None)

    @property
    def judged_only(self) -> bool:
        """Whether results that nobody judged are taken out before anything is counted."""
        return bool(self.setting("judged_only"))

    def level(self, levels: Levels) -> int:
        """The least grade that counts as relevant: its own, else the collection's."""
        own = self.setting("rel")
        return levels.of(self.family) if own is None else int(own)

    def at(self, levels: Levels) -> "Metric":
        """The same with the level written out where that is not 1, its own or the collection's: MRR(rel=2)@10."""
        level = self.level(levels)
        if "rel" not in self.family.options or not self.family.binary:
            return self
        others = {name: value for name, value in self.settings if name != "rel"}
        own = {"rel": level} if level != 1 else {}
        return Metric(self.family, self.cutoff, spelled(self.family, others | own))


_registered: dict[str, Family] = {}


def register(family: Family) -> Family:
    """Make a family known. Raises ValueError where one of its names is another's."""
    for name in _names(family):
        owner = next((f for f in _registered.values() if f.name != family.name and name in _names(f)), None)
        if owner is not None:
            raise ValueError(f"the metric {family.name} is called {name} as well, and so is {owner.name}")
    if _registered.setdefault(family.name, family) is not family:
        raise ValueError(f"there are two metrics called {family.name}")
    return family


def _names(family: Family) -> set[str]:
    """What it may be called, in small letters; trec_eval's names with a cutoff are read apart."""
    whole = [family.trec_eval_whole] if family.trec_eval_whole else []
    return {name.casefold() for name in (family.name, family.ir_measures, *family.also, *family.presets, *whole)}


@lru_cache(maxsize=1)
def _load(_path: tuple[str, ...]) -> dict[str, str]:
    """Register our families and those of installed packages; what is wrong with the latter, by name."""
    for module in pkgutil.iter_modules(importlib.import_module(_OURS).__path__):
        importlib.import_module(f"{_OURS}.{module.name}")
    broken = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        origin = f"the metric {point.name!r} of {point.dist.name if point.dist else '?'} ({point.value})"
        try:
            family = point.load()
            if not isinstance(family, Family):
                broken[point.name] = f"{origin} is not a harness.metrics.measure.Family."
            elif family.name != point.name:
                broken[point.name] = f"{origin} calls itself {family.name!r}. Give both the same name."
            else:
                register(family)
        except (Exception, SystemExit) as error:  # another package's import may fail in any way; name it instead
            broken[point.name] = f"{origin} cannot be loaded: {error!r}. Correct the package, or uninstall it."
    return broken


def families() -> dict[str, Family]:
    """Every family by name: ours, and those of installed packages that can be used."""
    _load(tuple(sys.path))
    return dict(sorted(_registered.items(), key=lambda item: item[0].casefold()))


def find(name: str) -> tuple[Family, int | None] | None:
    """The family that a name means, in any case, and the cutoff that trec_eval's names carry (`ndcg_cut_10`).

    None where there is none. Raises InputError for one of an installed package that cannot be used.
    """
    there = families()
    if (wrong := _load(tuple(sys.path)).get(name)) is not None:
        raise InputError(wrong)
    folded = name.casefold()
    for family in there.values():
        if folded in _names(family):
            return family, None
    cut = re.fullmatch(r"(\w+?)[_.]([1-9]\d{0,8})", folded)
    for family in there.values():
        if cut and family.trec_eval and family.trec_eval.casefold() == cut[1]:
            return family, int(cut[2])
    return None


def spelled(family: Family, settings: Mapping[str, Setting]) -> tuple[tuple[str, Setting], ...]:
    """The settings that are not as usual, in the family's own order."""
    return tuple(
        (name, settings[name])
        for name, option in family.options.items()
        if name in settings and settings[name] != option.default
    )
