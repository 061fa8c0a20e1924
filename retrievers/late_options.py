"""The options of late interaction."""

from typing import Any, Literal

from pydantic import Field, model_validator

from harness.retrievers.on_checkpoint import CheckpointOptions

DEPTH = 1_000


class LateOptions(CheckpointOptions):
    """What a user may change. None: as the checkpoint says, else the default."""

    max_length: int | None = Field(None, ge=1, description="of passages, in tokens; queries have query_length")
    query_length: int | None = Field(None, ge=1, description="of queries, in tokens; shorter ones are filled up to it")
    titles: bool | Literal["space", "separator", "none"] | None = Field(
        None, description="how a passage's title comes before its text: space, separator, none"
    )
    shard_documents: int = Field(4_096, ge=1, description="documents of a shard, the unit in which encoding resumes")
    first_stage: str | None = Field(
        None,
        description="all: every document is scored; a retriever's name: its best `depth`; None: all where their "
        "vectors take at most `exhaustive_gib` and no `depth` is given, else bm25",
    )
    first_stage_options: dict[str, Any] = Field({}, description="of that retriever")
    depth: int | None = Field(None, ge=1, description=f"candidates of a query; {DEPTH:,} unless given")
    exhaustive_gib: float = Field(
        8.0,
        gt=0,
        le=1e6,
        description="GiB: a corpus whose token vectors take more is not encoded as a whole, only its candidates are",
    )

    @model_validator(mode="after")
    def _read(self) -> "LateOptions":
        """An option is never given and then ignored."""
        if self.first_stage == "all" and (self.depth is not None or self.first_stage_options):
            raise ValueError("first_stage all scores every document: depth and first_stage_options have no meaning")
        if self.first_stage is None and self.first_stage_options:
            raise ValueError("first_stage_options need a first_stage")
        if self.first_stage == "all" and "exhaustive_gib" in self.model_fields_set:
            raise ValueError("first_stage all scores every document, whatever exhaustive_gib is: give one of the two")
        return self
