"""What a record says of a run that was not simply searched: re-ranked, fused from others, or read from a file."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class _Origin(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Reranking(_Origin):
    """A cross-encoder put the first `depth` documents of another record's run into a new order."""

    checkpoint: str
    checkpoint_hash: str
    depth: int
    length: int  # of a pair, in tokens
    outputs: int  # of the classifier: 1, or 2 of which the score is the log-odds of the last
    titles: bool  # whether passages were read with theirs
    precision: str  # and the kind of device
    first_stage: str  # the hash that names the first stage's record
    first_run_hash: str  # SHA-256 of its `run.trec.gz`


class FusedPart(_Origin):
    """One of the runs that were fused."""

    name: str  # retriever and variant, or the tag of a file
    record: str | None  # the record's hash; None for a run from a file
    location: str
    run_hash: str  # SHA-256 of the run's file
    weight: float | None  # None where the method has none
    cut_at: int | None = None  # at how many results of a query its run was cut; None where nothing says so


class RunFile(_Origin):
    """The TREC file, or the object in memory, that a run was taken from."""

    location: str
    sha256: str | None  # of the file; None for what was never one
    tag: str  # the last column of a TREC file's first line
    format: str | None = "TREC"  # None for what was never a file
    deepest: int  # most documents of a query
    cut_at: int | None = None  # where most queries have exactly as many; not there in records of before
    metadata: dict[str, Any] = {}  # its ir_metadata header
    unknown_documents: int | None = None  # that the corpus lacks; None where that was not looked at
