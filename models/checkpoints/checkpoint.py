"""Checkpoints: loaded without running anybody's code, saved in our layout.

Our layout: a Hugging Face masked-LM folder, `hybrid.json`, and `cls_projection.safetensors` (`weight` [D,H], no bias)
where D is not H. A plain checkpoint is D = H, K = 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.models.checkpoints import layouts, projection_layers
from harness.models.checkpoints.hub import TOKENIZERS, WEIGHTS
from harness.models.checkpoints.weights import ENCODER_HALVES, load_model, positions, quiet, tensors_only
from harness.models.errors import CheckpointError, NoLexicalHalfError, first_line
from harness.models.hybrid import HybridSpec
from harness.models.layers.encoder import Encoder
from harness.models.layers.families import mlm_head

PROJECTION = "cls_projection.safetensors"
CROSS_ENCODER = "cross_encoder.json"  # marks a teacher, which reads pairs and makes no vectors


@dataclass(frozen=True)
class Loaded:
    """A checkpoint in memory: H hidden width, V vocabulary."""

    encoder: Encoder
    tokenizer: Any
    model: Any  # of `transformers`, of whose parts the encoder is made; what `save` takes
    spec: HybridSpec  # with `dense` resolved to a number
    hidden: int
    vocabulary: int

    @property
    def sizes(self) -> dict[str, int]:
        """Of the encoder: its layers, H and V."""
        return {"layers": self.model.config.num_hidden_layers, "hidden": self.hidden, "vocabulary": self.vocabulary}


def load(folder: Path, spec: HybridSpec, dtype: torch.dtype = torch.float32) -> Loaded:
    """Load the checkpoint in `folder` as `spec` wants it, on the CPU, in evaluation mode.

    Safetensors come first; `pytorch_model.bin` is read as tensors only; remote code is never run.
    `harness.models.checkpoints.layouts` says what other libraries' folders hold beside a backbone; their widths and
    layers are taken as they are. Raises CheckpointError for a missing head where K > 0, a missing projection where D is
    not H, a tokenizer larger than the embedding table, lengths beyond the model's positions, or missing or foreign
    weights.
    """
    layout = layouts.read(folder)
    folder = layout.backbone
    config, tokenizer = parts(folder)
    check_architecture(folder, config, spec.lexical > 0)
    kinds = getattr(config, "architectures", None) or []
    if any(kind.endswith("ForSequenceClassification") for kind in kinds):
        raise CheckpointError(
            f"{folder} is a classifier ({kinds[0]}): it scores texts and was not trained to make vectors. Name an "
            "encoder; --rerank takes a classifier."
        )
    if config.model_type in ENCODER_HALVES and spec.dense != 0 and spec.pooling == "cls":
        raise CheckpointError(
            f"{folder}: a {config.model_type!r} model has no CLS token. Pool by the mean (pooling mean)."
        )
    hidden, vocabulary = int(config.hidden_size), int(config.vocab_size)
    if layout.lowercase and tokenizer("A").input_ids != tokenizer("a").input_ids:
        raise CheckpointError(f"{layout.folder} puts texts in lower case before its tokenizer, which is not done here.")
    projection: nn.Module | None = layout.after_pooling(hidden) if spec.dense != 0 else None
    width = hidden if projection is None else projection_layers.width(projection)
    spec = spec.replace(dense=width) if spec.dense is None else spec
    _check_sizes(folder, config, tokenizer, spec)
    if projection is None:
        projection = _projection(folder, spec, hidden)
    elif spec.dense != width:
        raise CheckpointError(f"{layout.folder} makes vectors of {width} values, and {spec.dense} were asked for.")
    model = load_model(folder, config, spec.lexical > 0, dtype)
    try:
        head = mlm_head(model) if spec.lexical else None
    except ValueError as error:
        raise NoLexicalHalfError(f"{folder}: {error}.") from error
    special = tuple(
        {int(i) for i in (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id) if i is not None}
    )
    backbone = model.base_model if spec.lexical else model
    encoder = Encoder(backbone, head, projection.to(dtype) if projection else None, spec, special).eval()
    refuse_broken(folder, encoder)
    return Loaded(encoder, tokenizer, model, spec, hidden, vocabulary)


def parts(folder: Path) -> tuple[Any, Any]:
    """The configuration and the tokenizer of an encoder's folder.

    Raises CheckpointError for a cross-encoder, no weights, no tokenizer, or files that cannot be read.
    """
    from transformers import AutoConfig, AutoTokenizer

    if (folder / CROSS_ENCODER).is_file():
        raise CheckpointError(f"{folder} is a cross-encoder: it scores pairs and makes no vectors. Name an encoder.")
    if not any((folder / name).is_file() for name in WEIGHTS):
        raise CheckpointError(f"{folder} has no weights: none of {', '.join(WEIGHTS)}.")
    if not any(path.name in TOKENIZERS or path.suffix == ".model" for path in folder.iterdir()):
        raise CheckpointError(
            f"{folder} has no tokenizer: none of {', '.join(TOKENIZERS)}, *.model. Put it beside the weights."
        )
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # whatever the libraries make of a malformed file
        raise CheckpointError(f"{folder} lacks a readable config.json or tokenizer ({first_line(error)}).") from error
    return config, tokenizer


def refuse_broken(folder: Path, encoder: nn.Module) -> None:
    """Raise CheckpointError for weights that are not finite."""
    broken = [name for name, weight in encoder.named_parameters() if not torch.isfinite(weight).all()]
    if broken:
        raise CheckpointError(
            f"{folder}: {', '.join(broken[:3])} holds values that are not finite. Training went wrong."
        )


def check_architecture(folder: Path, config: Any, with_head: bool) -> None:
    """Raise CheckpointError for a model that is no encoder, or has no masked-LM head where one is wanted."""
    from transformers import MODEL_FOR_MASKED_LM_MAPPING

    if config.model_type in ENCODER_HALVES:
        if with_head:
            raise NoLexicalHalfError(
                f"{folder} is the encoder of a {config.model_type!r} model: it has no masked-LM head, and a lexical "
                "half is made of its logits. Ask for the dense half alone (lexical 0)."
            )
        return
    if (
        type(config) not in MODEL_FOR_MASKED_LM_MAPPING
        or config.is_encoder_decoder
        or getattr(config, "is_decoder", False)
    ):
        raise CheckpointError(
            f"{folder} is a {config.model_type!r} model, not a BERT-like encoder: its tokens do not see the "
            "whole text both ways, or it has no masked-LM form. Name a BERT, RoBERTa, DistilBERT, MPNet or similar "
            "checkpoint."
        )


def _check_sizes(folder: Path, config: Any, tokenizer: Any, spec: HybridSpec) -> None:
    if spec.lexical > config.vocab_size:
        raise CheckpointError(f"lexical is {spec.lexical:,}, more than the {config.vocab_size:,} terms of {folder}.")
    if spec.lexical and (tokenizer.cls_token_id is None or tokenizer.sep_token_id is None):
        raise NoLexicalHalfError(
            f"{folder}: the tokenizer does not name its CLS and SEP tokens, which the lexical half must leave out. "
            "Name cls_token and sep_token in tokenizer_config.json."
        )
    lengths = {"query_length": spec.query_length, "passage_length": spec.passage_length}
    check_tokens(folder, config, tokenizer, lengths, tokenizer.num_special_tokens_to_add())


def check_tokens(folder: Path, config: Any, tokenizer: Any, lengths: Mapping[str, int], special: int) -> None:
    """Raise CheckpointError for a tokenizer that does not fit the model, or a length that does not.

    A length is in tokens, of which `special` are there whatever the text is.
    """
    if len(tokenizer) > config.vocab_size:
        raise CheckpointError(
            f"{folder}: the tokenizer knows {len(tokenizer):,} tokens, the embedding table has {config.vocab_size:,} "
            "rows. They do not belong together: take the tokenizer that was saved with the weights."
        )
    most = positions(config)
    for name, length in lengths.items():
        if length > most:
            raise CheckpointError(f"{name} is {length}; {folder} has positions for {most} tokens at most.")
        if length <= special:
            raise CheckpointError(
                f"{name} is {length}, which leaves room for nothing but the {special} special tokens. Raise it."
            )


def projection_of(folder: Path, spec: HybridSpec) -> nn.Linear | None:
    """The projection [D,H] beside a checkpoint in our layout, or None. Raises CheckpointError for another shape."""
    if not (folder / PROJECTION).is_file():
        return None
    return _projection(folder, spec, int(parts(folder)[0].hidden_size))


def _projection(folder: Path, spec: HybridSpec, hidden: int) -> nn.Linear | None:
    """The layer [D,H] of `cls_projection.safetensors` (or `.bin`); None where D = H and there is no file, or D = 0."""
    path = next((p for p in (folder / PROJECTION, folder / "cls_projection.bin") if p.is_file()), None)
    if spec.dense == 0:
        return None
    if path is None:
        if spec.dense != hidden:
            raise CheckpointError(
                f"{folder}: a dense half of {spec.dense} was asked of a model with hidden width {hidden}, and there is "
                f"no {PROJECTION} to project it. It comes from training; a random one would be noise. Ask for {hidden} "
                "or 0."
            )
        return None
    weight = tensors_only(path).get("weight")
    if not isinstance(weight, torch.Tensor) or tuple(weight.shape) != (spec.dense, hidden):
        got = "no tensor `weight`" if not isinstance(weight, torch.Tensor) else f"`weight` {list(weight.shape)}"
        raise CheckpointError(f"{path} holds {got}; want `weight` [{spec.dense}, {hidden}].")
    layer = nn.Linear(hidden, int(weight.shape[0]), bias=False)
    layer.weight.data.copy_(weight)
    return layer


def save(
    folder: Path,
    model: Any,
    tokenizer: Any,
    spec: HybridSpec,
    projection: nn.Module | None = None,
    shard_bytes: int | None = None,
) -> None:
    """Write a checkpoint in our layout: `model` is a `transformers` masked-LM model (a bare encoder where K = 0).

    No file of weights holds more than `shard_bytes`, unless one tensor does.

    Raises CheckpointError for a projection that is more than a weight [D,H]: the layout has no room for it.
    """
    from safetensors.torch import save_file

    if projection is not None and {name for name, _ in projection.named_parameters()} != {"weight"}:
        raise CheckpointError(
            f"{folder}: the layers behind the pooling are more than one matrix; our layout holds one."
        )

    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        model.save_pretrained(folder, **({"max_shard_size": shard_bytes} if shard_bytes else {}))
    tokenizer.save_pretrained(folder)
    spec.write(folder)
    if projection is not None:
        save_file({"weight": projection.state_dict()["weight"].contiguous()}, folder / PROJECTION)
