"""What warms up a new masked-LM head: the bag of words of each text, from its unmasked tokens (equation 8)."""

from typing import Any

import torch

from harness.models.layers.families import mlm_head
from harness.models.losses import pretraining as losses
from harness.models.pretraining.config import PretrainConfig
from harness.models.pretraining.mae import DupMAE, PretrainBatch, PretrainLoss


class NewHead(DupMAE):
    """The bag-of-words loss alone, which trains the head of `lm` and nothing else. The masked-LM loss is only reported.

    Where the decoder is tied to the word embeddings it stays as they are.
    """

    def __init__(self, lm: Any) -> None:
        super().__init__(lm, PretrainConfig.paper("DupMAE", reconstruction_weight=0.0))
        body = {id(weight) for weight in lm.base_model.parameters()}
        for weight in lm.parameters():
            weight.requires_grad_(id(weight) not in body)

    def forward(self, batch: PretrainBatch) -> PretrainLoss:
        """The losses of one batch; the encoder runs without dropout and without a gradient."""
        body, head = self.lm.base_model, mlm_head(self.lm)
        body.eval()
        with torch.no_grad():
            hidden = body(input_ids=batch.encoder_input_ids, attention_mask=batch.attention_mask).last_hidden_state
            mlm = losses.cross_entropy_at(head, hidden, batch.encoder_labels, self.config.chunk_logits, summed=True)
        bow = self._bow(head, hidden, batch)
        return PretrainLoss(mlm, None, bow, bow)
