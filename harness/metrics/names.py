"""Metrics by name: this harness's spellings, those of ir_measures and those of trec_eval mean the same ones."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, overload

from harness.metrics.measure import PLAIN, Family, Levels, Metric, Setting, families, find, spelled
from harness.retrievers.errors import InputError

DEFAULT_METRICS = ("MRR@10", "MRR@100", "R@10", "R@50", "R@100", "R@1000", "NDCG@10")
OFFICIAL = "official"  # the measures that a collection is reported by
T = TypeVar("T")
_WORDS = re.compile(r"\s*(?P<name>[A-Za-z][\w.]*?)\s*(?:\((?P<inside>[^()]*)\))?\s*(?:@\s*(?P<cutoff>.*?)\s*)?")


def parse_metric(name: str) -> Metric:
    """Parse a name such as `ndcg@10`, `P(rel=2)@5`, `recall_1000` or `AP`, in any case.

    Raises InputError for a metric that is not there, with the nearest names; for a setting that it does not take, or a
    value of one; for a cutoff that is no rank from 1 up, is missing, or is one too many.
    """
    if not isinstance(name, str):
        raise InputError(f"the metric is {name!r:.60}; want its name, such as NDCG@10.")
    words = _WORDS.fullmatch(name)
    found = find(words["name"]) if words else None
    if words is None or found is None:
        raise _unknown(name)
    family, cutoff = found
    if cutoff is not None and (words["cutoff"] is not None or words["inside"] is not None):
        raise InputError(f"the metric {name!r} names its cutoff twice, or a setting behind trec_eval's own name: "
                         f"write {family.spelling}.")  # fmt: skip
    if words["cutoff"] is not None:
        if family.cutoff == "none":
            raise InputError(f"the metric {name!r} has no cutoff: write {family.name}.")
        if not re.fullmatch(r"[1-9]\d{0,8}", words["cutoff"]):
            raise InputError(
                f"the metric {name!r}: the cutoff {words['cutoff']!r} is no rank from 1 up: write one metric, "
                f"{family.spelling}."
            )
        cutoff = int(words["cutoff"])
    if cutoff is None and family.cutoff == "needed":
        raise InputError(f"the metric {name!r} needs a cutoff: {family.name}@k with k a rank from 1 up.")
    settings = {**family.presets.get(words["name"].casefold(), {}), **_settings(name, family, words["inside"] or "")}
    return Metric(family, cutoff, spelled(family, settings))


def parse_metrics(names: Iterable[str]) -> list[Metric]:
    """Parse names, each metric once, in order. Raises InputError as `parse_metric`."""
    found: dict[str, Metric] = {}
    for name in names:
        metric = parse_metric(name)
        found[str(metric)] = metric
    return list(found.values())


def _settings(name: str, family: Family, inside: str) -> dict[str, Setting]:
    found: dict[str, Setting] = {}
    for part in filter(None, (part.strip() for part in inside.split(","))):
        setting, equals, text = (piece.strip() for piece in part.partition("="))
        option = family.options.get(setting.casefold())
        if option is None or not equals:
            there = ", ".join(f"{each}=" for each in family.options) or "none"
            raise InputError(f"the metric {name!r} has no setting {part!r}; {family.name} takes {there}.")
        if setting.casefold() in found:
            raise InputError(f"the metric {name!r} names {setting} twice.")
        try:
            found[setting.casefold()] = option.read(text)
        except ValueError as error:
            raise InputError(f"the metric {name!r}: {setting} is {text!r}; want {error}.") from error
    return found


def _unknown(name: str) -> InputError:
    """The error for a name that nothing is called: what is near it, and all there is."""
    there = families()
    spellings = {each.casefold(): family for family in there.values() for each in _all_names(family)}
    asked = re.split(r"[(@_.]", name.strip().casefold(), maxsplit=1)[0]
    near = difflib.get_close_matches(asked, spellings, n=3, cutoff=0.6)
    shown = dict.fromkeys(spellings[each].spelling for each in near)
    maybe = f" Did you mean {' or '.join(shown)}?" if shown else ""
    all_of_them = ", ".join(family.spelling for family in there.values())
    whole = ", ".join(family.name for family in there.values() if family.cutoff == "may")
    return InputError(
        f"unknown metric {name!r}.{maybe} There is: {all_of_them}. k is a rank from 1 up; {whole} do without it too."
    )


def _all_names(family: Family) -> Iterator[str]:
    yield from (family.name, family.ir_measures, *family.also)
    yield from filter(None, (family.trec_eval, family.trec_eval_whole))


class Measured(dict[str, float]):
    """Values by metric, found under any of a metric's names: `["MRR@10"]` and `["RR@10"]` are one value.

    `levels` are the collection's: where they say 2, `MRR(rel=2)@10` is `MRR@10` too. Iterating gives the names under
    which the values are kept. Raises KeyError for a metric that is not there, InputError for what is no metric.
    """

    def __init__(self, values: Mapping[str, float], levels: Levels = PLAIN) -> None:
        super().__init__(values)
        self.levels = levels

    def kept_as(self, name: str) -> str | None:
        """The name under which the value of a metric is kept; None where there is none, or no such metric."""
        if super().__contains__(name):
            return name
        try:
            wanted = parse_metric(name).at(self.levels)
        except InputError:
            return None
        return next((kept for kept in self if parse_metric(kept).at(self.levels) == wanted), None)

    def __missing__(self, name: str) -> float:
        kept = self.kept_as(str(parse_metric(name)))
        if kept is None:
            raise KeyError(f"{name}; there is {', '.join(self)}")
        return self[kept]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.kept_as(name) is not None

    @overload
    def get(self, name: str, default: None = None, /) -> float | None: ...
    @overload
    def get(self, name: str, default: float, /) -> float: ...
    @overload
    def get(self, name: str, default: T, /) -> float | T: ...
    def get(self, name: str, default: Any = None, /) -> Any:
        """The value of a metric, or `default` where it is not there."""
        kept = self.kept_as(name)
        return default if kept is None else self[kept]
