"""How attention is computed: by torch's fused function, or written out; the same numbers for rows that see a column.

On a CPU in bf16 the fused function's backward pass takes up to half of a short text's step; for long texts written-out
attention's [B,heads,L,L] costs more than it saves. `python -m harness.bench.attention` compares the two.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

SHORT = 160  # tokens


def written_out_pays(device: str, mixed_precision: str, length: int) -> bool:
    """Whether a training of texts of so many tokens is faster with attention written out."""
    return device == "cpu" and mixed_precision == "bf16" and length <= SHORT


def choose(model: Any, written_out: bool) -> None:
    """Set the way of all of a `transformers` model's layers; checkpoints do not keep it."""
    model.set_attn_implementation("eager" if written_out else "sdpa")


def attend(query: Tensor, key: Tensor, value: Tensor, added: Tensor, dropout: float, written_out: bool) -> Tensor:
    """softmax(q kᵀ / √d + `added`) v of [B,heads,L,d] each, `added` [B,1,L,L]; the softmax in float32."""
    if not written_out:
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=added, dropout_p=dropout)
    scores = (query @ key.transpose(-2, -1)) * query.shape[-1] ** -0.5 + added
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    return functional.dropout(weights, dropout) @ value
