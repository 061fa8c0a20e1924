"""The encoder under fine-tuning, loaded from the checkpoint of the stage before."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.models import hybrid
from harness.models.checkpoints import checkpoint
from harness.models.checkpoints.checkpoint import Loaded
from harness.models.errors import CheckpointError
from harness.models.hybrid import HybridSpec
from harness.retrievers.errors import InputError
from harness.runs.config import RetrieverSpec


def searched_as(system: str, checkpoint: Path, **options: Any) -> RetrieverSpec:
    """How a checkpoint that was trained here is searched: titles joined as training joined them, by a space.

    A published system of that name may join them otherwise (the authors' RetroMAE by [SEP]).
    """
    return RetrieverSpec(name=system, options={"checkpoint": str(checkpoint), "titles": "space", **options})


def load_student(
    source: Path,
    dense: int | None,
    lexical: int | None,
    query_length: int,
    passage_length: int,
    seed: int,
    query_prefix: str | None = None,
    passage_prefix: str | None = None,
    similarity: str | None = None,
) -> Loaded:
    """The checkpoint `source` with these halves, lengths in tokens, prefixes and similarity; None: as it has them.

    A projection [D,H] that is not there yet is drawn with `seed`. Its rows are orthonormal: scores then begin as those
    of the whole CLS vector in a random subspace. Raises InputError where the checkpoint has another projection already;
    CheckpointError as `harness.models.checkpoints.checkpoint.load`.
    """
    before = hybrid.read(source) or HybridSpec()
    spec = before.replace(
        dense=dense,
        lexical=lexical,
        query_length=query_length,
        passage_length=passage_length,
        query_prefix=query_prefix,
        passage_prefix=passage_prefix,
        similarity=similarity,
    )
    projected = any((source / name).is_file() for name in (checkpoint.PROJECTION, "cls_projection.bin"))
    if projected and spec.dense and before.dense != spec.dense:
        raise InputError(
            f"dense is {spec.dense}; {source} has a projection to {before.dense} already. Leave dense out, or start "
            "from the pre-trained checkpoint."
        )
    # without its projection the checkpoint is as wide as it is; the width asked for is then made below
    wide = spec if projected or spec.dense in (None, 0) else HybridSpec(**(vars(spec) | {"dense": None}))
    loaded = checkpoint.load(source, wide)
    encoder = loaded.encoder.float()
    spec = spec.replace(dense=loaded.hidden) if spec.dense is None else spec
    if not projected and spec.dense not in (0, loaded.hidden):
        encoder.projection = orthonormal(loaded.hidden, spec.dense or 0, seed)
    encoder.spec = spec
    return dataclasses.replace(loaded, spec=spec)


def orthonormal(hidden: int, dense: int, seed: int) -> nn.Linear:
    """A projection [D,H] with orthonormal rows. Raises InputError for D > H."""
    if dense > hidden:
        raise InputError(f"dense is {dense}; the model is {hidden} wide, and a projection only narrows it.")
    layer = nn.Linear(hidden, dense, bias=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        nn.init.orthogonal_(layer.weight)
    return layer


def special_ids(tokenizer: Any, source: Path) -> tuple[int, int, int]:
    """CLS, SEP and padding. Raises CheckpointError for a tokenizer that does not put a text between the first two."""
    cls, sep, pad = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id
    bare = tokenizer("one two", add_special_tokens=False).input_ids
    if None in (cls, sep, pad) or list(tokenizer("one two").input_ids) != [cls, *bare, sep]:
        raise CheckpointError(
            f"{source}: its tokenizer does not put a text between CLS and SEP, as training does here. Name a BERT, "
            "RoBERTa, DistilBERT, MPNet or similar checkpoint."
        )
    return cls, sep, pad
