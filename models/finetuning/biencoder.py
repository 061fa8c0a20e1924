"""The retriever under training: texts → the two halves."""

import torch
from torch import Tensor, nn

from harness.models.layers.encoder import CHUNK_LOGITS, Encoder, max_pooled_at, max_pooled_logits, top_terms
from harness.models.losses.pretraining import max_pooled


class BiEncoder(nn.Module):
    """One encoder for both sides (siamese), sparsifying passages exactly as search does (equations 10 and 11).

    Of a hybrid it notes what each half sends back: CLS pooling reads the first hidden state alone and the lexical half
    the others alone, so that the gradient of the hidden states falls apart into the two.

    With `frozen` the masked-LM head alone learns: the encoder, its embeddings and its projection stay as they are, run
    without dropout and need no gradient, so the dense half keeps what it knew.
    """

    def __init__(self, encoder: Encoder, chunk_logits: int = CHUNK_LOGITS, frozen: bool = False) -> None:
        super().__init__()
        self.encoder, self.chunk_logits, self.frozen = encoder, chunk_logits, frozen
        if frozen:
            for part in (encoder.backbone, encoder.projection):
                if part is not None:
                    part.requires_grad_(False)
        self._squares: list[Tensor] = []  # [2] each: of the gradient at CLS, and at all other states
        if encoder.spec.lexical == 0 and encoder.head is not None:  # nothing flows through it
            shared = {id(weight) for weight in encoder.backbone.parameters()}  # the embeddings are tied to it
            for weight in encoder.head.parameters():
                weight.requires_grad_(id(weight) in shared and weight.requires_grad)

    def train(self, mode: bool = True) -> "BiEncoder":
        """As torch does, but for a frozen encoder, which is always evaluated."""
        super().train(mode)
        if self.frozen:
            self.encoder.backbone.eval()
        return self

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, query: bool, terms: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Dense half [B,D], term ids and weights.

        A query keeps all: ids [B,0], weights μ [B,V]. A passage keeps the K largest: ids [B,K], chosen without a
        gradient, and weights [B,K], through which it flows; or the weights at `terms` [B,K], where they are known.
        Weights are activated as the spec says.
        """
        encoder, spec = self.encoder, self.encoder.spec
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            hidden = encoder(input_ids, attention_mask)  # [B,L,H]
        if spec.both and spec.pooling == "cls" and hidden.requires_grad:
            hidden.register_hook(self._note)
        nothing = hidden.new_zeros(len(hidden), 0, dtype=torch.float32)
        dense = encoder.dense(hidden, attention_mask) if spec.dense else nothing
        none = torch.zeros(len(hidden), 0, dtype=torch.long, device=hidden.device)
        if not spec.lexical or encoder.head is None:
            return dense, none, nothing
        keep = encoder.ordinary(input_ids, attention_mask)
        if query:
            return dense, none, encoder.activated(max_pooled(encoder.head, hidden, keep, self.chunk_logits))  # [B,V]
        if terms is None:
            with torch.no_grad():
                pooled = max_pooled_logits(encoder.head, hidden, keep, self.chunk_logits)  # [B,V]
                terms = top_terms(pooled, spec.lexical)[0]
        return dense, terms, encoder.activated(max_pooled_at(encoder.head, hidden, keep, terms))

    def _note(self, gradient: Tensor) -> None:
        squares = gradient.detach().float().square().sum(dim=(0, 2))  # [L]
        self._squares.append(torch.stack((squares[0], squares[1:].sum())))

    def squares(self) -> Tensor | None:
        """[2]: of the gradients that the dense and the lexical half sent into the last hidden states since last asked.

        None where there is no such hybrid.
        """
        found = torch.stack(self._squares).sum(dim=0) if self._squares else None
        self._squares.clear()
        return found
