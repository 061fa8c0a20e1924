"""The enhanced decoder: one transformer layer with two streams (paper, section 3.1, equations 2 to 5)."""

from typing import Any

import torch
from torch import Tensor, nn

from harness.models.layers.attention import attend


class _SelfAttention(nn.Module):
    """Query, key and value maps, under the names that a BERT layer gives them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))


class _Output(nn.Module):
    """A linear map, dropout, the residual, LayerNorm."""

    def __init__(self, fan_in: int, width: int, config: Any) -> None:
        super().__init__()
        self.dense = nn.Linear(fan_in, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Tensor, residual: Tensor) -> Tensor:
        normed: Tensor = self.LayerNorm(self.dropout(self.dense(hidden)) + residual)
        return normed


class _Attention(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.self = _SelfAttention(config.hidden_size)
        self.output = _Output(config.hidden_size, config.hidden_size, config)


class _Intermediate(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)


class EnhancedDecoderLayer(nn.Module):
    """One post-norm transformer layer whose queries come from one stream and whose keys and values from another.

    Its parameters bear a BERT layer's names, so that layer's state dict loads into it. `config` is the BERT model's.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        from transformers.activations import ACT2FN

        self.heads = int(config.num_attention_heads)
        self.attention_dropout = float(config.attention_probs_dropout_prob)
        self.written_out = False  # see harness.models.layers.attention
        self.attention = _Attention(config)
        self.intermediate = _Intermediate(config)
        self.output = _Output(config.intermediate_size, config.hidden_size, config)
        self.activation = ACT2FN[config.hidden_act] if isinstance(config.hidden_act, str) else config.hidden_act

    def forward(self, query: Tensor, context: Tensor, visible: Tensor) -> Tensor:
        """Attend from `query` (H_1 of equation 2) [B,L,H] to `context` (H_2) [B,L,H]; return [B,L,H].

        `visible` [B,L,L] is 1 where row i may see column j (M = 0 in equation 3). A row that sees nothing attends to
        every column alike, as an additive mask makes it.
        """
        maps = self.attention.self
        q, k, v = (
            self._split(x) for x in (maps.query(query), maps.key(context), maps.value(context))
        )  # [B,heads,L,H/heads]
        # A row that sees nothing (padding) is given column 0, and its result is put in its place afterwards. Left to an
        # additive mask alone its log-sum-exp is the least float, of which a fused kernel's gradient can be NaN
        # (pytorch issue 196678: cuDNN on Hopper).
        seeing = visible.bool()
        blind = ~seeing.any(dim=-1, keepdim=True)  # [B,L,1]
        first = torch.arange(seeing.shape[-1], device=seeing.device) == 0
        blocked = (~(seeing | (blind & first))).to(q.dtype).unsqueeze(1) * torch.finfo(q.dtype).min  # [B,1,L,L]
        dropout = self.attention_dropout if self.training else 0.0
        mixed = attend(q, k, v, blocked, dropout, self.written_out)
        mixed = torch.where(blind.unsqueeze(1), v.mean(dim=2, keepdim=True).to(mixed.dtype), mixed)
        mixed = mixed.transpose(1, 2).flatten(2)  # [B,L,H]
        attended = self.attention.output(mixed, query)
        widened = self.activation(self.intermediate.dense(attended))
        out: Tensor = self.output(widened, attended)
        return out

    def _split(self, hidden: Tensor) -> Tensor:
        return hidden.view(*hidden.shape[:2], self.heads, -1).transpose(1, 2)  # [B,heads,L,H/heads]
