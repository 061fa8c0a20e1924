"""Named systems, read from `catalog.yaml` once and checked."""

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, model_validator

from harness.retrievers.encoding.text_form import Form
from harness.retrievers.encoding.vectors import bytes_per_document
from harness.retrievers.registry import PaperRow

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
    stand_in: str | None = None  # the packaged model that runs where no --checkpoint is named
    unpublished: str | None = None  # why this can be a row of published numbers only
    architecture: str | None = None  # `model_type` in config.json; another is an error
    layout: str | None = None  # `harness.models.checkpoints.layouts`, where the folder must be of one
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
        reasons = [
            name for name in ("checkpoint", "stand_in", "missing", "unpublished") if getattr(self, name) is not None
        ]
        if len(reasons) != 1 and self.source != "the command line":
            raise ValueError(f"{self.system}: give one of checkpoint, stand_in, missing, unpublished; got {reasons}")
        return self

    @property
    def status(self) -> str:
        """Whether it can be run, and what that needs."""
        if self.unpublished:
            return "published numbers only"
        if self.own is None:
            return "needs --checkpoint"
        return "runnable" if self.packaged in (None, True) else "needs --checkpoint (weights not installed)"

    @property
    def packaged(self) -> bool | None:
        """Whether the packaged model that it runs is there; None where it runs none."""
        from harness.models.checkpoints import packaged

        return packaged.there(self.own) if self.own in packaged.NAMES else None

    @property
    def own(self) -> str | None:
        """What runs where no --checkpoint is named."""
        return self.checkpoint or self.stand_in

    @property
    def _sizes(self) -> tuple[int, int | Literal["all"]]:
        """D and K: those of the packaged model that runs, where it is one that is there."""
        from harness.models import hybrid
        from harness.models.checkpoints import packaged

        found = hybrid.read(packaged.folder(self.own)) if self.own and self.packaged else None
        return (self.values or 0, self.terms) if found is None else (found.dense or 0, found.lexical)

    def spec(self, vocabulary: int) -> dict[str, Any]:
        """The fields of HybridSpec that the entry sets, for a model of V terms."""
        found = {name: getattr(self, name) for name in SPEC if getattr(self, name) is not None}
        return found | ({"lexical": vocabulary} if self.lexical == "all" else {})

    @property
    def width(self) -> str:
        """What a document is made of, in words."""
        if self.kind == "late interaction":
            return f"{self.values} a token"
        values, kept = self._sizes
        terms = {"all": "terms above 0", 0: ""}.get(kept, f"{kept} terms")
        return " + ".join(part for part in (f"{values} values" if values else "", terms) if part)

    @property
    def bytes_per_document(self) -> float | None:
        """16 bits a value, 32 a term; None where it depends on the text, or there is no checkpoint."""
        if self.kind == "late interaction" or self.terms == "all" or self.unpublished:
            return None
        values, kept = self._sizes
        return bytes_per_document(values, 0 if kept == "all" else kept)[0] if values or kept else None


@lru_cache(maxsize=1)
def entries() -> dict[str, Entry]:
    """Every entry by name."""
    raw = yaml.safe_load(Path(__file__).with_name("catalog.yaml").read_text(encoding="utf-8"))
    return {name: Entry.model_validate(values) for name, values in raw.items()}
