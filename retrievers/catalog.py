"""Named systems, read from `catalog.yaml` once and checked."""

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, model_validator

from retrievers.passages import Form
from retrievers.registry import PaperRow
from retrievers.vectors import bytes_per_document

# the fields that are HybridSpec's, where a checkpoint does not say itself how it is used
SPEC = (
    *("dense", "lexical", "pooling", "similarity", "lexical_pooling", "activation", "lexical_tokens"),
    *("query_length", "passage_length", "query_prefix", "passage_prefix"),
)


class Entry(BaseModel):
    """One system: where its checkpoint is, how its authors use it. None leaves it to the checkpoint or the default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str
    summary: str
    source: str  # where the facts of the entry come from
    kind: Literal["dense", "lexical", "hybrid", "late interaction"] = "dense"
    stage: str | None = None
    finetuned_on: str | None = None
    licence: str | None = None
    checkpoint: str | None = None
    revision: str | None = None
    query_checkpoint: str | None = None  # where queries have an encoder of their own
    query_revision: str | None = None
    missing: str | None = None  # why there is no checkpoint, and what to do
    unpublished: str | None = None  # why this can be a row of published numbers only
    architecture: str | None = None  # `model_type` in config.json; another is an error
    layout: str | None = None  # `models.layouts`, where the folder must be of one
    dense: int | None = None
    lexical: int | Literal["all"] | None = None  # all: the whole vocabulary, so every term above 0
    pooling: Literal["cls", "mean"] | None = None
    similarity: Literal["dot", "cosine"] | None = None
    lexical_pooling: Literal["max", "sum"] | None = None
    activation: Literal["none", "log1p_relu"] | None = None
    lexical_tokens: Literal["ordinary", "all"] | None = None
    query_length: int | None = None
    passage_length: int | None = None
    query_prefix: str | None = None
    passage_prefix: str | None = None
    titles: Form = "space"
    missing_title: str = ""
    values: int | None = None  # D, of a token's vector at late interaction; for `harness list`, as the next
    terms: int | Literal["all"] = 0  # K
    verified: Literal["against reference", "against real weights"] | None = None
    variant: str | None = None  # the only widths that may fill the paper's rows
    pretraining: str | None = None  # the only decoding tasks that may, where a checkpoint names its own
    paper_rows: tuple[PaperRow, ...] = ()

    @model_validator(mode="after")
    def _whole(self) -> "Entry":
        reasons = [name for name in ("checkpoint", "missing", "unpublished") if getattr(self, name) is not None]
        if len(reasons) != 1 and self.source != "the command line":
            raise ValueError(f"{self.system}: give one of checkpoint, missing, unpublished; got {reasons}")
        return self

    @property
    def status(self) -> str:
        """Whether it can be run, and what that needs."""
        if self.unpublished:
            return "published numbers only"
        return "needs --checkpoint" if self.checkpoint is None else "runnable"

    def spec(self, vocabulary: int) -> dict[str, Any]:
        """The fields of HybridSpec that the entry sets, for a model of V terms."""
        found = {name: getattr(self, name) for name in SPEC if getattr(self, name) is not None}
        return found | ({"lexical": vocabulary} if self.lexical == "all" else {})

    @property
    def width(self) -> str:
        """What a document is made of, in words."""
        if self.kind == "late interaction":
            return f"{self.values} a token"
        terms = {"all": "terms above 0", 0: ""}.get(self.terms, f"{self.terms} terms")
        return " + ".join(part for part in (f"{self.values} values" if self.values else "", terms) if part)

    @property
    def bytes_per_document(self) -> float | None:
        """16 bits a value, 32 a term; None where it depends on the text, or there is no checkpoint."""
        if self.kind == "late interaction" or self.terms == "all" or self.unpublished:
            return None
        return bytes_per_document(self.values or 0, self.terms)[0]


@lru_cache(maxsize=1)
def entries() -> dict[str, Entry]:
    """Every entry by name."""
    raw = yaml.safe_load(Path(__file__).with_name("catalog.yaml").read_text(encoding="utf-8"))
    return {name: Entry.model_validate(values) for name, values in raw.items()}
