"""Backbone → pooled dense half [B,D] and max-pooled token logits [B,V].

Paper: section 3.2, equations 6-9 and 12. Nothing here truncates, batches or stores; see
`harness.retrievers.encoding.encode`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.models.hybrid import HybridSpec
from harness.models.layers.families import WordHead

Head = Callable[[Tensor], Tensor]
# how many logits may be held at once: [B,L,V] of a batch is many times this
CHUNK_LOGITS = 1 << 25


class Encoder(nn.Module):
    """A BERT-like backbone with what `spec` makes of its hidden states.

    `head` maps hidden states [*,H] to logits [*,V] and is needed where `spec.lexical` > 0. `projection`, from H to D,
    is applied to the pooled state where given: one layer [D,H], or several of another library's checkpoint.
    `special_ids` are the tokens (CLS, SEP, padding) that the lexical half passes over.
    """

    special_ids: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module | None,
        projection: nn.Module | None,
        spec: HybridSpec,
        special_ids: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.backbone, self.head, self.projection, self.spec = backbone, head, projection, spec
        self.register_buffer("special_ids", torch.tensor(special_ids, dtype=torch.long), persistent=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_types: Tensor | None = None) -> Tensor:
        """Hidden states [B,L,H] of token ids and mask [B,L]; token types are all 0 unless given."""
        extra = {} if token_types is None else {"token_type_ids": token_types}
        hidden: Tensor = self.backbone(input_ids=input_ids, attention_mask=attention_mask, **extra).last_hidden_state
        return hidden

    def dense(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """The dense half [B,D], in float32: pooled, projected, normalised as the spec says."""
        if self.spec.pooling == "cls":
            pooled = hidden[:, 0]  # [B,H]
        else:
            kept = attention_mask.unsqueeze(-1).to(hidden.dtype)  # [B,L,1]
            pooled = (hidden * kept).sum(1) / kept.sum(1)  # [B,H]
        if self.projection is not None:
            pooled = self.projection(pooled)  # [B,D]
        pooled = pooled.float()
        return functional.normalize(pooled, dim=-1) if self.spec.similarity == "cosine" else pooled

    def ordinary(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Which positions [B,L] the lexical half is made of: those attended but CLS, SEP and padding.

        Where the spec's `lexical_tokens` is all, every one attended.
        """
        if self.spec.lexical_tokens == "all":
            return attention_mask.bool()
        return attention_mask.bool() & ~torch.isin(input_ids, self.special_ids)

    def lexical(self, hidden: Tensor, ordinary: Tensor) -> Tensor:
        """The vocabulary's logits, pooled over the `ordinary` tokens as the spec says: μ [B,V], in float32.

        Max-pooled raw logits are equation 7. log(1 + ReLU(x)) rises with x, so that the maximum may be taken first.
        """
        if self.head is None:
            raise ValueError("this encoder was loaded without a masked-LM head, so it has no lexical half")
        if self.spec.lexical_pooling == "sum":
            return summed_logits(self.head, hidden, ordinary, self.activated)
        return self.activated(max_pooled_logits(self.head, hidden, ordinary))

    def activated(self, logits: Tensor) -> Tensor:
        """Term weights of logits, of one shape: as they are, or log(1 + ReLU(x)), as the spec says."""
        return logits.relu().log1p() if self.spec.activation == "log1p_relu" else logits


Part = Callable[[Tensor, Tensor], Tensor]


def _call(part: Part, hidden: Tensor, keep: Tensor) -> Tensor:
    return part(hidden, keep)


def max_pooled_logits(
    head: Head,
    hidden: Tensor,
    keep: Tensor,
    chunk: int = CHUNK_LOGITS,
    call: Callable[[Part, Tensor, Tensor], Tensor] = _call,
) -> Tensor:
    """μ [B,V] (equations 6 and 7) = max over the kept positions of `head(hidden)` [B,L,V], which is never held whole.

    `hidden` [B,L,H], `keep` [B,L]. As many sequences at once as fit into `chunk` logits, and one at least. Raw logits:
    no ReLU, no log; in float32. A sequence that keeps no position gets zeros: it has no words, so it matches none.
    `call` evaluates one chunk of several; training hands in one that recomputes it for the gradient. Where an entry's
    greatest logit is met at several positions one of them has the gradient.
    """

    def part(states: Tensor, kept: Tensor) -> Tensor:
        logits = head(states).float()  # [b,L,V]
        outside = ~kept.unsqueeze(-1)
        # in place saves memory, but under autograd it costs a copy of all gradients
        fill = logits.masked_fill if logits.requires_grad else logits.masked_fill_
        logits = fill(outside, float("-inf"))
        # [b,V]; amax takes half the time, but would share a gradient among ties
        pooled = logits.max(dim=1).values if logits.requires_grad else logits.amax(dim=1)
        return torch.where(kept.any(dim=1, keepdim=True), pooled, 0.0)

    step = max(1, chunk // (vocabulary_width(head, hidden) * hidden.shape[1]))
    if step >= len(hidden):
        return part(hidden, keep)
    return torch.cat([call(part, hidden[i : i + step], keep[i : i + step]) for i in range(0, len(hidden), step)])


def max_pooled_at(head: nn.Module, hidden: Tensor, keep: Tensor, ids: Tensor) -> Tensor:
    """μ of `max_pooled_logits` at the terms `ids` [B,K] alone: [B,K], without making the others.

    Where a gradient flows through K of V terms, this is the same gradient for K/V of the work: a text's states [L,H]
    meet its own K rows of the decoder, not all V. Raises ValueError as `decoder_of`.
    """
    transform, decoder = decoder_of(head)
    rows = functional.embedding(ids, decoder.weight)  # [B,K,H]
    bias = functional.embedding(ids, decoder.bias.unsqueeze(1)).squeeze(-1)  # [B,K]
    logits = (transform(hidden) @ rows.transpose(1, 2)).float() + bias.unsqueeze(1)  # [B,L,K]
    pooled = logits.masked_fill(~keep.unsqueeze(-1), float("-inf")).max(dim=1).values
    return torch.where(keep.any(dim=1, keepdim=True), pooled, 0.0)


def summed_logits(head: Head, hidden: Tensor, keep: Tensor, activation: Head, chunk: int = CHUNK_LOGITS) -> Tensor:
    """μ [B,V] = sum of `activation(head(hidden))` [B,L,V] over the kept positions, in float32 (SPLADE, equation 1).

    As many sequences at once as `chunk` logits hold, see `max_pooled_logits`. No kept position gives zeros.
    """
    step = max(1, chunk // (vocabulary_width(head, hidden) * hidden.shape[1]))
    parts = []
    for start in range(0, len(hidden), step):
        logits = activation(head(hidden[start : start + step]).float())  # [b,L,V]
        parts.append(torch.einsum("blv,bl->bv", logits, keep[start : start + step].float()))
    return torch.cat(parts)


def vocabulary_width(head: Head, hidden: Tensor) -> int:
    """V of a head, from one state."""
    with torch.no_grad():
        return int(head(hidden.reshape(-1, hidden.shape[-1])[:1]).shape[-1])


def top_terms(pooled: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` largest of μ [B,V] by value: ids [B,K] in ascending order, and their weights [B,K] (equation 11).

    Zeros stay out: they are the padding of a document without words. Ties go to whichever torch prefers; both choices
    score alike up to the query's weight.
    """
    weights, ids = pooled.topk(k, dim=-1, sorted=False)  # [B,K]
    ids, order = ids.sort(dim=-1)
    weights = weights.gather(-1, order)
    return torch.where(weights == 0, 0, ids), weights


def decoder_of(head: Head) -> tuple[nn.Module, nn.Linear | WordHead]:
    """A head of `families.mlm_head` in two: what makes states of states [*,H], and the linear map to the V logits.

    Raises ValueError for a head that does not end in such a map with a bias.
    """
    whole: Any = head
    if isinstance(head, WordHead):
        return head.transform, head
    inner = getattr(whole, "predictions", whole)
    parts: list[Any] = []
    if inner is not whole:  # bert
        parts = [inner.transform, inner.decoder]
    elif hasattr(inner, "layer_norm"):  # roberta and its kin
        parts = [inner.dense, nn.GELU(), inner.layer_norm, inner.decoder]
    elif isinstance(head, nn.Sequential):
        parts = list(head)
    if not parts or not isinstance(parts[-1], nn.Linear) or parts[-1].bias is None:
        raise ValueError(f"the masked-LM head {type(head).__name__} does not end in a linear map with a bias")
    return nn.Sequential(*parts[:-1]), parts[-1]
