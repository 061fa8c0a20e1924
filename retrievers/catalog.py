"""Named checkpoints, read from `catalog.yaml` once and checked."""

from functools import lru_cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict

from retrievers.registry import PaperRow


class Entry(BaseModel):
    """One system: where its checkpoint is and how it is used. None leaves it to the default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str
    summary: str
    source: str
    stage: str | None = None
    checkpoint: str | None = None
    revision: str | None = None
    missing: str | None = None  # why there is no checkpoint, and what to do
    pooling: Literal["cls", "mean"] | None = None
    similarity: Literal["dot", "cosine"] | None = None
    query_length: int | None = None
    passage_length: int | None = None
    query_prefix: str | None = None
    passage_prefix: str | None = None
    titles: bool = True  # joined before the text
    variant: str | None = None  # the only widths that may fill the paper's rows
    pretraining: str | None = None  # the only decoding tasks that may, where a checkpoint names its own
    paper_rows: tuple[PaperRow, ...] = ()


@lru_cache(maxsize=1)
def entries() -> dict[str, Entry]:
    """Every entry by name."""
    raw = yaml.safe_load(Path(__file__).with_name("catalog.yaml").read_text(encoding="utf-8"))
    return {name: Entry.model_validate(values) for name, values in raw.items()}
