"""The last linear map of a masked-LM head, to V logits, in one piece with what is made of them.

Logits are by far the most that a step of pre-training holds: V for each token. Autograd would keep them, or have them
made again for the gradient, and go over them once for each operation. Here both the loss and the way back are known
in closed form, so that each chunk of logits is made once, used while it is in the cache, and forgotten. The idea for
the cross-entropy is that of Liger Kernel (Hsu et al. 2024, arXiv 2410.10989) and of Cut Cross-Entropy (Wijmans et al.
2024, arXiv 2411.09009). Gradients are exact: nothing is left out.

Products are taken in the type that autocast asks for, or else in that of the states; sums are in float32 (float64 for
states in float64).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

# On a CPU, so many rows at once. Fewer logits stay in the cache from one operation to the next, but the gradient of the
# weight is read and written once for each chunk.
CPU_ROWS = 256


def fits(states: Tensor) -> bool:
    """Whether the functions here may be used: not in float16.

    Its range is so small that a gradient has to be scaled up before it is made (loss scaling). Here it is made before
    the scale is known.
    """
    return _product_type(states) != torch.float16


def cross_entropy(rows: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, chunk: int) -> Tensor:
    """Σ over rows of -log softmax(W·row + b)[target], a scalar; at most `chunk` logits are held at once.

    `rows` [n,H], `weight` W [V,H], `bias` b [V], `targets` [n] in 0..V-1. Where a gradient is wanted it is made along
    with the loss, and takes as much memory as `rows`, `weight` and `bias`.
    """
    inputs = rows, weight, bias
    if not torch.is_grad_enabled():  # a function is not told of this, but is told what requires a gradient
        rows, weight, bias = (part.detach() for part in inputs)
    total: Tensor = _CrossEntropy.apply(rows, weight, bias, targets, chunk)  # type: ignore[no-untyped-call]
    return total


def max_pool(states: Tensor, weight: Tensor, bias: Tensor, chunk: int) -> Tensor:
    """μ [B,V] = max over the positions of W·state + b, of which at most `chunk` are held at once (one text at least).

    `states` [B,L,H], `weight` W [V,H], `bias` b [V]. An entry of μ depends on the state of one position, so that its
    gradient reaches L times less than the product had entries: it is a weighted sum of B·V rows, not a product of
    [B·L,V] and [V,H]. Where the maximum is met at several positions, one of them has the gradient.
    """
    pooled: Tensor = _MaxPool.apply(states, weight, bias, chunk)  # type: ignore[no-untyped-call]
    return pooled


def kept_first(hidden: Tensor, keep: Tensor) -> Tensor:
    """The states of the kept positions, in order: [B,W,H] of `hidden` [B,L,H] and `keep` [B,L], W the most of any text.

    A text that keeps fewer repeats its first, which changes no maximum; one that keeps none repeats the state at 0.
    """
    counts = keep.sum(dim=1, keepdim=True)  # [B,1]
    width = max(1, int(counts.max()))
    places = (~keep).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]  # [B,W]
    places = torch.where(torch.arange(width, device=keep.device) < counts, places, places[:, :1])
    return hidden.gather(1, places.unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))


class _CrossEntropy(torch.autograd.Function):
    """d loss / d logits = softmax - onehot: known as soon as the logits are, so that its products are made at once."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, chunk: int) -> Tensor:
        to_rows, to_weight, to_bias = ctx.needs_input_grad[:3]
        kind, sums = _product_type(rows), _sum_type(rows)
        states, matrix, offset = rows.to(kind), weight.to(kind), bias.to(kind)
        total = torch.zeros((), dtype=sums, device=rows.device)
        grad_rows = torch.empty_like(states) if to_rows else None
        grad_weight = torch.zeros_like(weight, dtype=sums) if to_weight else None
        grad_bias = torch.zeros_like(bias, dtype=sums) if to_bias else None
        step = _rows(chunk, weight)
        for start in range(0, len(rows), step):
            part, wanted = states[start : start + step], targets[start : start + step].unsqueeze(1)
            logits = torch.addmm(offset, part, matrix.t())  # [r,V]
            p = logits.softmax(dim=1, dtype=sums)
            # log Σ exp: the greatest probability is 1/V at least, so that its logarithm loses nothing
            total += (logits.amax(dim=1) - p.amax(dim=1).log() - logits.gather(1, wanted).squeeze(1)).sum()
            if not any((to_rows, to_weight, to_bias)):
                continue
            p.scatter_add_(1, wanted, p.new_full(wanted.shape, -1.0))
            if grad_bias is not None:
                grad_bias += p.sum(dim=0)
            p = p.to(kind)
            if grad_rows is not None:
                torch.mm(p, matrix, out=grad_rows[start : start + step])
            if grad_weight is not None:
                _add_product(grad_weight, p.t(), part)
        ctx.save_for_backward(grad_rows, grad_weight, grad_bias)
        ctx.kinds = rows.dtype, weight.dtype, bias.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        found = zip(ctx.saved_tensors, ctx.kinds, strict=True)
        # in the wider type: a product of bf16 with a scalar would be rounded a second time
        return *(None if part is None else (part.to(grad.dtype) * grad).to(kind) for part, kind in found), None, None


class _MaxPool(torch.autograd.Function):
    """Keeps where each maximum was, not the logits."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor, chunk: int) -> Tensor:
        texts, width, _ = states.shape
        kind, sums = _product_type(states), _sum_type(states)
        rows, matrix = states.flatten(0, 1).to(kind), weight.to(kind)  # [B·L,H], [V,H]
        pooled = torch.empty(len(weight), texts, dtype=sums, device=states.device)
        places = torch.empty(len(weight), texts, dtype=torch.long, device=states.device)
        step = max(1, _rows(chunk, weight) // width)  # texts
        for start in range(0, texts, step):
            part = rows[start * width : (start + step) * width]
            # positions last: where they lie next to each other their maximum takes half the time
            logits = (matrix @ part.t()).view(len(weight), -1, width)  # [V,b,L]
            found = logits.max(dim=2)
            pooled[:, start : start + step] = found.values
            places[:, start : start + step] = found.indices
        places += torch.arange(0, texts * width, width, device=states.device)  # in rows
        ctx.save_for_backward(states, weight, places)
        ctx.bias_kind = bias.dtype
        return (pooled + bias.to(sums).unsqueeze(1)).t().contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        """To W[v] goes Σ over texts of grad · the state where v was greatest; to that state Σ of grad · W[v]."""
        states, weight, places = ctx.saved_tensors
        to_states, to_weight, to_bias = ctx.needs_input_grad[:3]
        grad_states = grad_weight = grad_bias = None
        spread = grad.t().contiguous()  # [V,B]
        if to_weight:
            rows = states.flatten(0, 1).to(spread.dtype)
            grad_weight = functional.embedding_bag(places, rows, per_sample_weights=spread, mode="sum").to(weight.dtype)
        if to_states:
            texts, width, _ = states.shape
            row, order = places.flatten().sort(stable=True)  # [V·B], the entries of one state together
            starts = torch.searchsorted(row, torch.arange(texts * width, device=row.device))
            each = spread.flatten()[order]
            words = torch.div(order, texts, rounding_mode="floor")
            matrix = weight.to(spread.dtype)
            sums = functional.embedding_bag(words, matrix, starts, per_sample_weights=each, mode="sum")  # [B·L,H]
            grad_states = sums.view_as(states).to(states.dtype)
        if to_bias:
            grad_bias = spread.sum(dim=1).to(ctx.bias_kind)
        return grad_states, grad_weight, grad_bias, None


def _product_type(states: Tensor) -> torch.dtype:
    """What autocast would take the product of `states` in."""
    device = states.device.type
    if states.dtype != torch.float64 and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return states.dtype


def _sum_type(states: Tensor) -> torch.dtype:
    return torch.float64 if states.dtype == torch.float64 else torch.float32


def _rows(chunk: int, weight: Tensor) -> int:
    """How many rows of V logits are made at once."""
    most = max(1, chunk // len(weight))
    return min(most, CPU_ROWS) if weight.device.type == "cpu" else most


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add `left` @ `right` to `total`, which may be of a wider type."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right
