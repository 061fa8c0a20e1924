"""Small random late-interaction checkpoints, in the layout of ColBERTv2's own files."""

import json

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import BertModel

from tests.support import tiny

MORE = ("[unused0]", "[unused1]", ",", ".", "!", "?")
WIDTH = 16
METADATA = {
    "query_token_id": "[unused0]", "doc_token_id": "[unused1]", "query_maxlen": 12, "doc_maxlen": 20, "dim": WIDTH,
    "similarity": "cosine", "interaction": "colbert", "mask_punctuation": True, "attend_to_mask_tokens": False,
}  # fmt: skip


def save(folder, seed: int = 0, without=(), **metadata) -> tuple[BertModel, nn.Linear]:
    """Write config.json, weights (bert.*, linear.weight), tokenizer and artifact.metadata; return the parts."""
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    words = [word for word in MORE if word not in without]
    config = tiny.config(vocab_size=len(tiny.tokenizer(*MORE)))
    body, linear = BertModel(config, add_pooling_layer=False).eval(), nn.Linear(32, WIDTH, bias=False)
    state = {f"bert.{name}": value for name, value in body.state_dict().items()} | {"linear.weight": linear.weight.data}
    save_file({name: value for name, value in state.items() if name not in without}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config.to_dict() | {"architectures": ["HF_ColBERT"]}))
    tiny.tokenizer(*words).save_pretrained(folder)
    (folder / "artifact.metadata").write_text(json.dumps(METADATA | metadata))
    return body, linear
