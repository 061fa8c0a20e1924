"""A masked-LM head for an encoder that has none, such as every sentence-transformers model: it has learned nothing yet.

The transform begins as the identity (as a cut of the states, where word embeddings are narrower), its LayerNorm as
neutral, the decoder as the word embeddings: a logit is near the product of a state and a word's embedding. The stage
`warm_head` trains it.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.models.checkpoints import checkpoint
from harness.models.checkpoints.weights import quiet
from harness.models.errors import CheckpointError, first_line
from harness.models.layers.encoder import decoder_of
from harness.models.layers.families import HEADS, mlm_head


def with_new_head(folder: Path, tied: bool) -> tuple[Any, Any]:
    """The encoder in `folder` as a masked-LM model with a new head, in float32, and its tokenizer.

    `tied`: the decoder is the word embeddings themselves; otherwise a copy of them. Raises CheckpointError for a family
    without a masked-LM form here, or a tokenizer or weights that do not fit.
    """
    from transformers import AutoModelForMaskedLM

    config, tokenizer = checkpoint.parts(folder)
    checkpoint.check_architecture(folder, config, with_head=True)
    if config.model_type not in HEADS:
        raise CheckpointError(
            f"{folder} is a {config.model_type!r} model; a new masked-LM head is known for {', '.join(HEADS)}."
        )
    checkpoint.check_tokens(folder, config, tokenizer, {}, tokenizer.num_special_tokens_to_add())
    config.tie_word_embeddings = tied
    try:
        with quiet():
            model, info = AutoModelForMaskedLM.from_pretrained(
                folder, config=config, output_loading_info=True, trust_remote_code=False, local_files_only=True,
                dtype=torch.float32,
            )  # fmt: skip
    except Exception as error:  # torch, safetensors and transformers each have their own ways to fail
        raise CheckpointError(f"the weights in {folder} cannot be loaded ({first_line(error)}).") from error
    body = f"{model.base_model_prefix}."
    if lost := sorted(name for name in info["missing_keys"] if name.startswith(body)):
        raise CheckpointError(f"{folder} lacks weights of its own architecture: {', '.join(lost[:5])}.")
    begin(model, tied)
    return model, tokenizer


def begin(model: Any, tied: bool) -> None:
    """Set the head of a masked-LM model as this module says."""
    transform, decoder = decoder_of(mlm_head(model))
    words = model.get_input_embeddings().weight
    with torch.no_grad():
        for part in transform.modules():
            if isinstance(part, nn.Linear):
                part.weight.copy_(torch.eye(*part.weight.shape))
                if part.bias is not None:
                    part.bias.zero_()
            elif isinstance(part, nn.LayerNorm):
                part.weight.fill_(1.0)
                if part.bias is not None:
                    part.bias.zero_()
        decoder.bias.zero_()
        if not tied:
            decoder.weight.copy_(words)
