"""A tiny masked-LM model of each encoder family, random and without dropout."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForMaskedLM

from harness.models.checkpoints.weights import quiet
from tests.support import tiny, tokenizers

SIZE = len(dict.fromkeys(tiny.VOCABULARY))
_SHAPE = {
    "vocab_size": SIZE, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 40, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.3, "pad_token_id": 0, "cls_token_id": 2, "bos_token_id": 2, "eos_token_id": 3,
    "sep_token_id": 3,
}  # fmt: skip
_RELATIVE = {
    "relative_attention": True,
    "position_biased_input": False,
    "pos_att_type": ["p2c", "c2p"],
    "type_vocab_size": 0,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": {},
    "camembert": {},
    "deberta": _RELATIVE,
    "deberta-v2": {**_RELATIVE, "position_buckets": 8, "share_att_key": True, "norm_rel_ebd": "layer_norm"},
    "deberta-v2 of its own head": {**_RELATIVE, "legacy": False},
    "distilbert": {
        "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "dropout": 0.0, "attention_dropout": 0.0,
    },
    "electra": {"embedding_size": 32},
    "electra, narrow embeddings": {"embedding_size": 16},
    "ernie": {},
    "modernbert": {
        "global_attn_every_n_layers": 2, "local_attention": 8, "mlp_dropout": 0.0, "attention_dropout": 0.0,
        "embedding_dropout": 0.0, "classifier_dropout": 0.0,
    },
    "mpnet": {},
    "roberta": {},
    "xlm-roberta": {},
}  # fmt: skip


def kind_of(name: str) -> str:
    """The `model_type` of `CONFIGS[name]`."""
    return name.split(",", maxsplit=1)[0].split(" ", maxsplit=1)[0]


def masked_lm(name: str, seed: int = 0, **changes: Any) -> Any:
    """The model of `CONFIGS[name]`, in evaluation mode."""
    config = AutoConfig.for_model(kind_of(name), **(_SHAPE | CONFIGS[name] | changes))
    torch.manual_seed(seed)
    with quiet():
        return AutoModelForMaskedLM.from_config(config).eval()


def save(folder: Path, name: str) -> Path:
    """The model of `CONFIGS[name]` with the kind of tokenizer that its family has."""
    tokenizer = tokenizers.of_family(kind_of(name))
    ids = {f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in ("pad", "cls", "sep")}
    ids |= {"bos_token_id": ids["cls_token_id"], "eos_token_id": ids["sep_token_id"]}
    with quiet():
        masked_lm(name, vocab_size=len(tokenizer), **ids).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
