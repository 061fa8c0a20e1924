"""The encoder under fine-tuning, loaded from the checkpoint of the stage before."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.recipe import Finetune
from models import checkpoint, hybrid
from models.checkpoint import Loaded
from models.encoder import Encoder
from models.hybrid import HybridSpec
from retrievers.errors import InputError


@dataclass(frozen=True)
class Student:
    """An encoder with its projection, and all that its checkpoint will need."""

    encoder: Encoder
    tokenizer: Any
    model: Any  # of `transformers`
    spec: HybridSpec
    vocabulary: int

    def loaded(self) -> Loaded:
        """As the text encoder takes it."""
        hidden = int(self.model.config.hidden_size)
        return Loaded(self.encoder, self.tokenizer, self.model, self.spec, hidden, self.vocabulary)


def load_student(source: Path, stage: Finetune, seed: int) -> Student:
    """The checkpoint `source` as `stage` wants it; a projection [D,H] that is not there yet is drawn with `seed`.

    Its rows are orthonormal: scores then begin as those of the whole CLS vector in a random subspace. Raises InputError
    where the checkpoint has another projection already; CheckpointError as `models.checkpoint.load`.
    """
    before = hybrid.read(source) or HybridSpec()
    spec = before.replace(
        dense=stage.dense,
        lexical=stage.lexical,
        query_length=stage.query_length,
        passage_length=stage.passage_length,
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
    return Student(encoder, loaded.tokenizer, loaded.model, spec, loaded.vocabulary)


def orthonormal(hidden: int, dense: int, seed: int) -> nn.Linear:
    """A projection [D,H] with orthonormal rows. Raises InputError for D > H."""
    if dense > hidden:
        raise InputError(f"dense is {dense}; the model is {hidden} wide, and a projection only narrows it.")
    layer = nn.Linear(hidden, dense, bias=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        nn.init.orthogonal_(layer.weight)
    return layer


def special_ids(tokenizer: Any) -> tuple[int, int, int]:
    """CLS, SEP and padding."""
    return tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id
