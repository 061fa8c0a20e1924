"""The retriever under training: texts → the two halves, in chunks whose memory does not grow with the batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from harness.models.layers.encoder import CHUNK_LOGITS, Encoder, max_pooled_at, max_pooled_logits, top_terms
from harness.models.losses.pretraining import max_pooled


class BiEncoder(nn.Module):
    """One encoder for both sides (siamese), sparsifying passages exactly as search does (equations 10 and 11).

    Of a hybrid it notes what each half sends back: CLS pooling reads the first hidden state alone and the lexical half
    the others alone, so that the gradient of the hidden states falls apart into the two.
    """

    def __init__(self, encoder: Encoder, chunk_logits: int = CHUNK_LOGITS) -> None:
        super().__init__()
        self.encoder, self.chunk_logits = encoder, chunk_logits
        self._squares: list[Tensor] = []  # [2] each: of the gradient at CLS, and at all other states
        if encoder.spec.lexical == 0 and encoder.head is not None:  # nothing flows through it
            shared = {id(weight) for weight in encoder.backbone.parameters()}  # the embeddings are tied to it
            for weight in encoder.head.parameters():
                weight.requires_grad_(id(weight) in shared and weight.requires_grad)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, query: bool, terms: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Dense half [B,D], term ids and weights.

        A query keeps all: ids [B,0], weights μ [B,V]. A passage keeps the K largest: ids [B,K], chosen without a
        gradient, and weights [B,K], through which it flows; or the weights at `terms` [B,K], where they are known.
        """
        encoder, spec = self.encoder, self.encoder.spec
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
            return dense, none, max_pooled(encoder.head, hidden, keep, self.chunk_logits)  # [B,V]
        if terms is None:
            with torch.no_grad():
                pooled = max_pooled_logits(encoder.head, hidden, keep, self.chunk_logits)  # [B,V]
                terms = top_terms(pooled, spec.lexical)[0]
        return dense, terms, max_pooled_at(encoder.head, hidden, keep, terms)

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


class Texts(NamedTuple):
    """A padded chunk of texts and where they stand in the batch."""

    places: Tensor  # [b]
    input_ids: Tensor  # [b,L]
    attention_mask: Tensor  # [b,L]


def chunks(texts: Sequence[Any], size: int, cls_id: int, sep_id: int, pad_id: int) -> list[Texts]:
    """Texts (token ids without special tokens) of near length together, at most `size` a chunk, longest first."""
    order = sorted(range(len(texts)), key=lambda place: (-len(texts[place]), place))
    found = []
    for start in range(0, len(order), size):
        places = order[start : start + size]
        ids = torch.full((len(places), len(texts[places[0]]) + 2), pad_id)
        mask = torch.zeros_like(ids)
        for row, place in enumerate(places):
            length = len(texts[place]) + 2
            ids[row, 0], ids[row, length - 1] = cls_id, sep_id
            ids[row, 1 : length - 1] = torch.as_tensor(texts[place].astype("int64"))
            mask[row, :length] = 1
        found.append(Texts(torch.tensor(places), ids, mask))
    return found


@dataclass(frozen=True)
class Represented:
    """The vectors of a batch's texts, in the batch's order, and how to send a gradient back into the model."""

    dense: Tensor  # [n,D]
    ids: Tensor  # [n,K] of passages, [n,0] of queries
    weights: Tensor  # [n,K] of passages, [n,V] of queries
    random: tuple[Any, ...]  # the state of the random generators before each chunk

    def gradients_of(self, loss: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """d loss / d dense and d loss / d weights."""
        dense, weights = torch.autograd.grad(loss, (self.dense, self.weights), retain_graph=True, allow_unused=True)
        return dense, weights


def represent(model: Any, parts: Sequence[Texts], query: bool, keep_graph: bool, device: torch.device) -> Represented:
    """Encode all chunks. With `keep_graph` a gradient flows into the model; otherwise into leaves (see `replay`)."""
    rows, random = [], []
    for part in parts:
        random.append(_random_state(device))
        with torch.set_grad_enabled(keep_graph):
            rows.append(model(part.input_ids.to(device), part.attention_mask.to(device), query))
    back = torch.cat([part.places for part in parts]).argsort().to(device)
    dense, ids, weights = (torch.cat(column)[back] for column in zip(*rows, strict=True))
    if not keep_graph:
        dense, weights = dense.detach().requires_grad_(), weights.detach().requires_grad_()
    return Represented(dense, ids, weights, tuple(random))


def replay(model: Any, parts: Sequence[Texts], query: bool, found: Represented, number: int, grads: Any) -> Tensor:
    """Encode chunk `number` once more and return what to differentiate: Σ vector · (d loss / d vector).

    This is gradient caching (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited
    Setup"): the gradients add up to those of the whole batch at once. Dropout falls as it fell the first time, and
    passages keep the terms that they kept.
    """
    part, device = parts[number], found.dense.device
    places = part.places.to(device)
    terms = found.ids[places] if found.ids.shape[1] else None
    _set_random_state(found.random[number], device)
    dense, _, weights = model(part.input_ids.to(device), part.attention_mask.to(device), query, terms)
    total: Tensor = dense.new_zeros(())
    for vector, grad in ((dense, grads[0]), (weights, grads[1])):
        if grad is not None:
            total = total + (vector * grad[places]).sum()
    return total


def _random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _set_random_state(state: tuple[Tensor, Tensor | None], device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
