"""A late-interaction checkpoint: loaded, and its spec's words turned into token ids."""

from dataclasses import dataclass
from typing import Any

import torch

from harness.models.checkpoints import checkpoint
from harness.models.checkpoints.late_layouts import LateLayout, LateSpec
from harness.models.checkpoints.weights import load_model
from harness.models.errors import CheckpointError
from harness.models.layers.token_encoder import LateEncoder


@dataclass(frozen=True)
class LoadedLate:
    """A late-interaction checkpoint in memory, and its spec's words as token ids."""

    encoder: LateEncoder
    tokenizer: Any
    spec: LateSpec
    width: int  # D
    sizes: dict[str, int]  # layers, H and V
    query_marker: tuple[int, ...]  # one token, or none
    passage_marker: tuple[int, ...]
    filler: int
    skipped: tuple[int, ...]


def load(layout: LateLayout, spec: LateSpec, dtype: torch.dtype = torch.float32) -> LoadedLate:
    """Load the checkpoint that `layout` describes as `spec` wants it, on the CPU, in evaluation mode.

    Raises CheckpointError for weights that are missing, foreign, damaged or of shapes that do not fit, a tokenizer
    that is not the model's, a marker or mask token that the tokenizer lacks, or lengths beyond the model's positions.
    """
    folder = layout.backbone
    config, tokenizer = checkpoint.parts(folder)
    checkpoint.check_architecture(folder, config, with_head=False)
    if layout.lowercase and tokenizer("A").input_ids != tokenizer("a").input_ids:
        raise CheckpointError(f"{layout.folder} puts texts in lower case before its tokenizer, which is not done here.")
    markers = _marker(layout, tokenizer, spec.query_marker), _marker(layout, tokenizer, spec.passage_marker)
    lengths = {"query_length": spec.query_length, "passage_length": spec.passage_length}
    special = tokenizer("").input_ids
    checkpoint.check_tokens(folder, config, tokenizer, lengths, len(special) + max(map(len, markers)))
    vocabulary = tokenizer.get_vocab()
    skipped = tuple(sorted({int(vocabulary[word]) for word in spec.skipped if word in vocabulary}))
    if not special or set(special) & set(skipped):
        raise CheckpointError(
            f"{layout.folder} keeps no vector of an empty text: its tokenizer adds no special token, or they are among "
            "those that are skipped."
        )
    layers = layout.after_backbone(int(config.hidden_size))
    model = load_model(folder, config, False, dtype)
    encoder = LateEncoder(model, layers.to(dtype), spec.unit).eval()
    checkpoint.refuse_broken(layout.folder, encoder)
    with torch.inference_mode():
        width = int(layers(torch.zeros(1, int(config.hidden_size), dtype=dtype)).shape[-1])
    sizes = {
        "layers": int(config.num_hidden_layers), "hidden": int(config.hidden_size), "vocabulary": int(config.vocab_size)
    }  # fmt: skip
    return LoadedLate(encoder, tokenizer, spec, width, sizes, *markers, _filler(layout, tokenizer, spec), skipped)


def _marker(layout: LateLayout, tokenizer: Any, word: str) -> tuple[int, ...]:
    """The id of a marker, which comes behind CLS; none for an empty word."""
    if not word:
        return ()
    vocabulary = tokenizer.get_vocab()
    if word not in vocabulary:
        raise CheckpointError(
            f"{layout.folder}: its marker {word!r} is not in the tokenizer's vocabulary. Take the tokenizer that was "
            "saved with the weights."
        )
    if tokenizer.cls_token_id is None or tokenizer("").input_ids[:1] != [tokenizer.cls_token_id]:
        raise CheckpointError(
            f"{layout.folder}: its tokenizer does not begin a text with a CLS token, behind which the marker {word!r} "
            "belongs. Take the tokenizer that was saved with the weights."
        )
    return (int(vocabulary[word]),)


def _filler(layout: LateLayout, tokenizer: Any, spec: LateSpec) -> int:
    if not spec.query_least:
        return 0
    word = spec.filler or tokenizer.mask_token
    if word is None or word not in tokenizer.get_vocab():
        raise CheckpointError(
            f"{layout.folder}: queries are filled up with {word or 'mask tokens'!r}, which the tokenizer lacks. Take "
            "the tokenizer that was saved with the weights."
        )
    return int(tokenizer.get_vocab()[word])
