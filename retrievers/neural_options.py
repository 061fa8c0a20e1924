"""The options of every neural retriever."""

from typing import Literal

from pydantic import Field

from harness.retrievers.on_checkpoint import CheckpointOptions


class NeuralOptions(CheckpointOptions):
    """What a user may change. None: as the checkpoint's `hybrid.json` says, else the entry, else the default."""

    dense: int | None = Field(None, ge=0, description="D; 0 leaves the dense half out")
    lexical: int | None = Field(None, ge=0, description="K; 0 leaves the lexical half out")
    pooling: Literal["cls", "mean"] | None = None
    similarity: Literal["dot", "cosine"] | None = None
    max_length: int | None = Field(None, ge=1, description="of passages, in tokens")
    query_length: int | None = Field(
        None, ge=1, description="of queries, in tokens; max_length where only that is given"
    )
    query_prefix: str | None = None
    passage_prefix: str | None = None
    query_checkpoint: str | None = Field(None, description="where queries have an encoder of their own")
    lexical_pooling: Literal["max", "sum"] | None = Field(None, description="of the lexical half, over the tokens")
    activation: Literal["none", "log1p_relu"] | None = Field(None, description="of its logits; SPLADE: log1p_relu")
    lexical_tokens: Literal["ordinary", "all"] | None = Field(None, description="whether CLS and SEP count")
    engine: Literal["auto", "compiled", "torch", "faiss"] = Field(
        "auto", description="what finds candidates, final scores are the same; auto: compiled on a CPU, torch on a GPU"
    )
