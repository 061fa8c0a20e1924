"""Backbone → a vector of every token [B,L,D]: late interaction.

ColBERT (Khattab and Zaharia 2020, section 3.2; v2: Santhanam et al. 2022): E_q = Normalise(W BERT("[Q] q_0 … q_l # …
#")), with # the mask token, and E_d = Filter(Normalise(W BERT("[D] d_0 … d_n"))), where the filter leaves punctuation
out. Nothing here truncates, batches or stores; see `harness.retrievers.late_interaction.encode`.
"""

from torch import Tensor, nn
from torch.nn import functional


class LateEncoder(nn.Module):
    """A backbone and what turns its hidden states [B,L,H] into token vectors [B,L,D]."""

    def __init__(self, backbone: nn.Module, layers: nn.Sequential, unit: bool) -> None:
        super().__init__()
        self.backbone, self.layers, self.unit = backbone, layers, unit

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token vectors [B,L,D], in float32, of token ids and mask [B,L]; also where the mask is 0."""
        hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        vectors: Tensor = self.layers(hidden).float()
        return functional.normalize(vectors, dim=-1) if self.unit else vectors
