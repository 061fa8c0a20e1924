"""What `harness check` expects of a retriever on a collection, and of each of its queries."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from harness.metrics.names import parse_metrics

TOLERANCE = 0.0005  # less than what changes a value that is printed with three decimals, as the paper's are
METRICS = ("NDCG@10", "MRR@10", "R@100")  # of a new entry
DEPTH = 10
_SHA256 = r"^[0-9a-f]{64}$"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Expected(_Part):
    """A mean, and how far from it a measured one may be."""

    value: float | None = Field(None, ge=0, le=1)
    tolerance: float = Field(TOLERANCE, ge=0, le=1)


class Inputs(_Part):
    """Hex SHA-256 of what was searched and scored."""

    corpus: str = Field(pattern=_SHA256)
    queries: str = Field(pattern=_SHA256)
    judgments: str = Field(pattern=_SHA256)


class Entry(_Part):
    """One retriever on one collection. Without values or inputs it waits for `harness check --update`."""

    name: str = Field(min_length=1)
    retriever: str
    options: dict[str, Any] = {}
    dataset: str
    titles: Path | None = None
    queries_with_text: bool = Field(False, strict=True)
    note: str = ""
    top_k: int = Field(0, ge=0, le=1_000_000, strict=True)  # 0: as many as the metrics need
    metrics: dict[str, Expected] = Field(min_length=1)
    check_top_10: bool = True
    top_10: str | None = Field(None, pattern=_SHA256)
    queries: int | None = None
    inputs: Inputs | None = None
    packages: dict[str, str] = {}  # what it was measured with
    checkpoint_hash: str | None = None
    per_query: str | None = Field(None, pattern=_SHA256)  # of its lines in the CSV

    @model_validator(mode="before")
    @classmethod
    def _listed(cls, values: Any) -> Any:
        """Allow a list of metrics, or none, where there are no values yet."""
        if isinstance(values, dict):
            metrics = values.get("metrics", list(METRICS))
            if isinstance(metrics, list):
                metrics = {str(name): {} for name in metrics}
            values = {**values, "metrics": metrics}
        return values

    @field_validator("metrics")
    @classmethod
    def _known(cls, value: dict[str, Expected]) -> dict[str, Expected]:
        names = [str(metric) for name in value for metric in parse_metrics([name])]
        if len(set(names)) < len(names):
            raise ValueError(f"a metric stands twice: {', '.join(value)}")
        return dict(zip(names, value.values(), strict=True))

    def depth(self) -> int:
        """How many results to ask for."""
        return self.top_k or max(DEPTH, *(metric.cutoff or 0 for metric in parse_metrics(self.metrics)))

    @property
    def filled(self) -> bool:
        """Whether there is something to compare with."""
        return self.inputs is not None and all(expected.value is not None for expected in self.metrics.values())


@dataclass(frozen=True)
class Row:
    """One query of an entry: its scores, short hashes of its text and judgments, and its first documents."""

    scores: dict[str, float]
    text: str
    judgments: str
    top: tuple[str, ...]


Rows = dict[str, Row]


def short_hash(text: str) -> str:
    """Eight hex digits, to tell which query's text or judgments are others."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]


def top_hash(top: Mapping[str, Sequence[str]]) -> str:
    """Hex SHA-256 of the first documents of every query, queries in order of their ids."""
    digest = hashlib.sha256()
    for query_id in sorted(top):
        digest.update("\0".join((query_id, *top[query_id])).encode() + b"\n")
    return digest.hexdigest()


def rows_hash(rows: Rows) -> str:
    """Hex SHA-256 of an entry's rows, in order of the query ids."""
    digest = hashlib.sha256()
    for query_id, row in sorted(rows.items()):
        scores = [f"{name}={value!r}" for name, value in sorted(row.scores.items())]
        digest.update("\0".join((query_id, *scores, row.text, row.judgments, *row.top)).encode() + b"\n")
    return digest.hexdigest()
