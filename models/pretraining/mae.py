"""RetroMAE, and DupMAE = RetroMAE + the bag-of-words term (paper, equations 1 to 9)."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from harness.models.layers.decoder import EnhancedDecoderLayer
from harness.models.layers.families import (
    embedded,
    embedded_states,
    has_positions,
    layer_shape,
    learned_positions,
    mlm_head,
    position_table,
)
from harness.models.losses import pretraining as losses
from harness.models.pretraining.config import Kind, PretrainConfig


class PretrainBatch(NamedTuple):
    """What one step sees. -100 marks a position without a label; a sequence is [CLS] tokens [SEP] padding."""

    encoder_input_ids: Tensor  # [B,L] corrupted
    attention_mask: Tensor  # [B,L]
    encoder_labels: Tensor  # [B,L] original token where it was chosen for the encoder, else -100
    decoder_input_ids: Tensor  # [B,L] original
    decoder_mask: Tensor  # [B,L,L] 1 = row i sees column j
    decoder_labels: Tensor  # [B,L] original token where it is to be reconstructed, else -100


@dataclass(frozen=True)
class PretrainLoss:
    """The terms of equation 9, each a scalar before its weight.

    `bow` is None for RetroMAE, `reconstruction` for OT decoding alone.
    """

    mlm: Tensor
    reconstruction: Tensor | None
    bow: Tensor | None
    total: Tensor


class RetroMAE(nn.Module):
    """Masked language model, and the enhanced decoder that rebuilds the text from the sentence vector.

    `lm` is a masked-LM model of `transformers`, of any of `harness.models.layers.families`; the decoder shares its
    embeddings and its head. `pooling` makes the sentence vector: the CLS state as in the paper, or the mean of all
    states, for an encoder that is searched so.

    `decoder` is the one new layer, thrown away after pre-training. So are `positions`, which there are where the model
    has no absolute position embeddings (ModernBERT, DeBERTa): of a query that is CLS and nothing else (equation 2)
    attention could not tell which token to rebuild.
    """

    kind: Kind = "RetroMAE"

    def __init__(self, lm: Any, config: PretrainConfig | None = None, pooling: str = "cls") -> None:
        super().__init__()
        self.config = config or PretrainConfig.paper(self.kind)
        if self.config.kind != self.kind:
            raise ValueError(f"{type(self).__name__} was given a configuration of kind {self.config.kind!r}")
        self.lm, self.pooling = lm, pooling
        shape = layer_shape(lm.config)
        self.decoder = EnhancedDecoderLayer(shape)
        self.decoder.apply(_initialise(float(shape.initializer_range)))
        absent = position_table(lm.base_model) is None
        self.positions = learned_positions(lm.config, float(shape.initializer_range)) if absent else None
        if not self.config.reconstruction_weight:
            self.decoder.requires_grad_(False)  # nothing flows through it
            if self.positions is not None:
                self.positions.requires_grad_(False)

    def forward(self, batch: PretrainBatch) -> PretrainLoss:
        """All losses of one batch. Raises ValueError for a batch without a single labelled token."""
        head, chunk = mlm_head(self.lm), self.config.chunk_logits
        hidden = self.lm.base_model(
            input_ids=batch.encoder_input_ids, attention_mask=batch.attention_mask
        ).last_hidden_state  # [B,L,H]
        summed = self.config.reduction == "sum"
        mlm = losses.cross_entropy_at(head, hidden, batch.encoder_labels, chunk, summed)
        total, reconstruction, bow = mlm, None, None
        if self.config.reconstruction_weight:
            rebuilt = self._decode(self._pooled(hidden, batch.attention_mask), batch)  # [B,L,H]
            reconstruction = losses.cross_entropy_at(head, rebuilt, batch.decoder_labels, chunk, summed)
            total = total + self.config.reconstruction_weight * reconstruction
        if self.kind == "DupMAE":
            bow = self._bow(head, hidden, batch)
            total = total + self.config.bow_loss_weight * bow
        return PretrainLoss(mlm, reconstruction, bow, total)

    def _pooled(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """The sentence vector [B,1,H], as `harness.models.layers.encoder.Encoder.dense` pools it."""
        if self.pooling == "cls":
            return hidden[:, :1]
        kept = attention_mask.unsqueeze(-1).to(hidden.dtype)  # [B,L,1]
        return (hidden * kept).sum(1, keepdim=True) / kept.sum(1, keepdim=True)

    def _decode(self, cls: Tensor, batch: PretrainBatch) -> Tensor:
        """The two streams of equation 2 through the one layer: [B,L,H] from the sentence vector [B,1,H]."""
        base, length = self.lm.base_model, batch.decoder_input_ids.shape[1]
        words = embedded(base, batch.decoder_input_ids)  # [B,L,H]
        table = position_table(base) if self.positions is None else self.positions.weight
        assert table is not None
        positions = table[:length]  # [L,H]
        if not has_positions(base):
            words = words + positions
        context = torch.cat((cls, words[:, 1:]), dim=1)
        if self.config.decoder_query == "embedding_block":
            query = embedded_states(base, cls.expand(-1, length, -1).contiguous())
            if not has_positions(base):
                query = query + positions
        else:
            query = cls + positions
        return self.decoder(query, context, batch.decoder_mask)  # type: ignore[no-any-return]

    def _bow(self, head: nn.Module, hidden: Tensor, batch: PretrainBatch) -> Tensor:
        attended = batch.attention_mask.bool()
        words = ordinary(attended)
        if self.config.bow_positions == "unmasked":
            keep = words & (batch.encoder_labels == losses.IGNORED)
        else:
            keep = attended.clone()
            keep[:, 0] = False
        pooled = losses.max_pool(head, hidden, keep, self.config.chunk_logits)  # [B,V]
        over_n = self.config.bow_weights == "one_over_n"
        return losses.bag_of_words(pooled, batch.decoder_input_ids, words, over_n)


class DupMAE(RetroMAE):
    """RetroMAE, and the bag-of-words loss over the max-pooled logits of the ordinary tokens."""

    kind: Kind = "DupMAE"


def ordinary(attended: Tensor) -> Tensor:
    """Attended positions but the first ([CLS]) and the last ([SEP]) of each sequence [B,L]."""
    after = torch.zeros_like(attended)
    after[:, :-1] = attended[:, 1:]
    inner = attended & after
    inner[:, 0] = False
    return inner


def _initialise(spread: float) -> Any:
    """BERT's initialisation of a layer: normal weights, zero biases, LayerNorm at one."""

    def apply(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=spread)
            nn.init.zeros_(module.bias)

    return apply
