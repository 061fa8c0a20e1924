"""What processes exchange: tensors side by side, with the gradient flowing back to whose they are; gradients once."""

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")


def exchanging_once(parts: Iterable[T], model: Any, accelerator: Any) -> Iterator[T]:
    """Yield the parts of a step; only while the last is dealt with do processes exchange gradients."""
    every = list(parts)
    for number, part in enumerate(every):
        with nullcontext() if number == len(every) - 1 else accelerator.no_sync(model):
            yield part


def gather(part: Tensor) -> Tensor:
    """Concatenate `part` [n,…] of every process, in rank order: [processes·n,…]; as it is where there is one process.

    The gradient of each process's loss is summed over the processes. Where gradients of parameters are then averaged
    over processes, the mean of all losses is what is differentiated.
    """
    if not distributed.is_available() or not distributed.is_initialized() or distributed.get_world_size() == 1:
        return part
    found: Tensor = _Gather.apply(part)  # type: ignore[no-untyped-call]
    return found


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        ctx.rows = len(part)
        parts = [torch.empty_like(part) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0].contiguous()
        distributed.all_reduce(grad)
        start = distributed.get_rank() * ctx.rows
        return grad[start : start + ctx.rows]
