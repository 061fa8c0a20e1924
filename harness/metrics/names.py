"""The metrics: their names here, in ranx and in trec_eval."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.retrievers.errors import InputError, unknown

DEFAULT_METRICS = ("MRR@10", "MRR@100", "R@10", "R@50", "R@100", "R@1000", "NDCG@10")
Values = npt.NDArray[np.float64]  # of a metric, one a query: [Q]


@dataclass(frozen=True)
class Family:
    """One metric at any cutoff: its name here, in ranx and in trec_eval."""

    name: str
    ranx: str
    trec_eval: str
    binary: bool  # counts grades from a level up (`Levels`); otherwise uses the grades themselves


FAMILIES = {
    family.name.casefold(): family
    for family in (
        Family("MRR", "mrr", "recip_rank", binary=True),  # trec_eval has no cutoff here; see metrics.trec_eval
        Family("R", "recall", "recall", binary=True),
        Family("P", "precision", "P", binary=True),
        Family("MAP", "map", "map_cut", binary=True),
        Family("NDCG", "ndcg", "ndcg_cut", binary=False),  # linear gain, as trec_eval's
    )
}


@dataclass(frozen=True)
class Levels:
    """The least grade that counts as relevant, in the metrics that ask only whether a document is.

    `binary` is of recall, precision and MAP, and of MRR too unless a track sets another for it.
    """

    binary: int = 1
    mrr: int | None = None

    def of(self, family: Family) -> int:
        """The level for a metric; 1 for one that uses the grades themselves."""
        if not family.binary:
            return 1
        return self.mrr if family.name == "MRR" and self.mrr is not None else self.binary


PLAIN = Levels()
_SYNONYMS = {"recall": "r", "precision": "p", "rr": "mrr"}


@dataclass(frozen=True)
class Metric:
    """A family and its cutoff, such as NDCG@10."""

    family: Family
    cutoff: int

    def __str__(self) -> str:
        return f"{self.family.name}@{self.cutoff}"


def parse_metrics(names: Iterable[str]) -> list[Metric]:
    """Parse names such as `ndcg@10` or `Recall@50`, in any case, each once.

    Raises InputError for a family that is not there or a cutoff that is no number from 1 up.
    """
    found: dict[str, Metric] = {}
    for name in names:
        family, at, cutoff = name.strip().partition("@")
        key = _SYNONYMS.get(family.casefold(), family.casefold())
        if key not in FAMILIES:
            allowed = [f"{family.name}@k" for family in FAMILIES.values()]
            raise unknown("metric", name, allowed, "k is a rank from 1 up.")
        if not at or not re.fullmatch(r"[1-9]\d{0,8}", cutoff):
            raise InputError(f"the metric {name!r} needs a cutoff: {FAMILIES[key].name}@k with k a rank from 1 up.")
        metric = Metric(FAMILIES[key], int(cutoff))
        found[str(metric)] = metric
    return list(found.values())
