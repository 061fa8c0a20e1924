"""Gradient caching: a batch encoded in chunks, so that memory does not grow with it.

Gao et al., Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup (GradCache, 2021): all chunks are
encoded without a graph, the loss gives a gradient for each vector, and each chunk is encoded once more to send it back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.models.training.batching import Texts


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
