"""The objectives as pure functions, one for each equation; scores and sums in float32."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from harness.models.layers import fused_vocabulary
from harness.models.layers.encoder import Head, decoder_of, max_pooled_logits, vocabulary_width
from harness.models.layers.families import WordHead

IGNORED = -100


def cross_entropy_at(head: Head, hidden: Tensor, labels: Tensor, chunk: int, summed: bool = False) -> Tensor:
    """Cross-entropy of `head(hidden)` at the labelled positions: L_mlm, and L_dec of equation 4.

    The mean over labelled positions; where `summed`, their sum in each sequence, mean over sequences (equation 4 as it
    is printed).

    `hidden` [B,L,H], `labels` [B,L] with -100 where there is none. Logits are made at labelled positions only, at most
    `chunk` of them at once: [B,L,V] is never held. `harness.models.layers.fused_vocabulary` makes them once; of a head
    that it cannot take apart they are made again for the gradient. Returns a scalar in float32.

    Raises ValueError where no position is labelled.
    """
    wanted = labels != IGNORED  # [B,L]
    count = int(wanted.sum())
    if count == 0:
        raise ValueError("no position of the batch is labelled: every token is special, or nothing was masked")
    rows, targets = hidden[wanted], labels[wanted]  # [n,H], [n]
    parts = _taken_apart(head, rows)
    if parts is None:
        total = _cross_entropy_of(head, rows, targets, chunk)
    else:
        transform, decoder = parts
        total = fused_vocabulary.cross_entropy(transform(rows), decoder.weight, decoder.bias, targets, chunk).float()
    return total / (len(hidden) if summed else count)


def max_pool(head: Head, hidden: Tensor, keep: Tensor, chunk: int) -> Tensor:
    """μ [B,V] of `max_pooled`, of which every row has to learn.

    Raises ValueError for a sequence that keeps no position: it would learn from nothing.
    """
    empty = ~keep.any(dim=1)
    if empty.any():
        row = int(empty.nonzero()[0])
        raise ValueError(f"sequence {row} of the batch has no token to pool: all of them are special or masked")
    return max_pooled(head, hidden, keep, chunk)


def max_pooled(head: Head, hidden: Tensor, keep: Tensor, chunk: int) -> Tensor:
    """μ [B,V] as `harness.models.layers.encoder.max_pooled_logits`; the gradient holds no more logits than that does.

    `harness.models.layers.fused_vocabulary` makes the logits once; of a head that it cannot take apart they are made
    again for the gradient, a chunk at a time. The values are the same whether or not a gradient is wanted.
    """
    parts = _taken_apart(head, hidden)
    if parts is None:
        return max_pooled_logits(head, hidden, keep, chunk, call=again)
    transform, decoder = parts
    states = transform(fused_vocabulary.kept_first(hidden, keep))  # [B,W,H]
    pooled = fused_vocabulary.max_pool(states, decoder.weight, decoder.bias, chunk).float()
    return torch.where(keep.any(dim=1, keepdim=True), pooled, 0.0)


def bag_of_words(pooled: Tensor, ids: Tensor, ordinary: Tensor, over_n: bool) -> Tensor:
    """L_BoW (equation 8): -Σ over the distinct words x of a sequence of w log softmax(μ)[x], mean over the batch.

    `pooled` μ [B,V]; `ids` [B,L] the original tokens, of which `ordinary` [B,L] count. w is 1, or 1/n with n the number
    of ordinary tokens (repeated ones counted) where `over_n`. No [B,V] target is built. Returns a scalar.
    """
    nowhere = pooled.shape[1]  # sorts behind every word
    words, _ = ids.masked_fill(~ordinary, nowhere).sort(dim=1)  # [B,L]
    first = torch.ones_like(words, dtype=torch.bool)
    first[:, 1:] = words[:, 1:] != words[:, :-1]
    first &= words != nowhere
    log_p = pooled.gather(1, words.clamp(max=nowhere - 1)) - pooled.logsumexp(dim=1, keepdim=True)  # [B,L]
    loss = -(log_p * first).sum(dim=1)  # [B]
    if over_n:
        loss = loss / ordinary.sum(dim=1)
    return loss.mean()


def _taken_apart(head: Head, states: Tensor) -> tuple[nn.Module, nn.Linear | WordHead] | None:
    """The two parts of a head that `layers.fused_vocabulary` needs; None without such parts, or for float16."""
    if not fused_vocabulary.fits(states):
        return None
    try:
        return decoder_of(head)
    except ValueError:
        return None


def _cross_entropy_of(head: Head, rows: Tensor, targets: Tensor, chunk: int) -> Tensor:
    """Σ of the cross-entropy of any head, its logits made again for the gradient where one chunk does not hold them."""
    step = max(1, chunk // vocabulary_width(head, rows))
    total = torch.zeros((), device=rows.device)

    def part(states: Tensor, ids: Tensor) -> Tensor:
        return functional.cross_entropy(head(states).float(), ids, reduction="sum")

    evaluate = again if len(rows) > step else _once  # one chunk is no more than may be held
    for start in range(0, len(rows), step):
        total = total + evaluate(part, rows[start : start + step], targets[start : start + step])
    return total


def _once(function: Callable[[Tensor, Tensor], Tensor], first: Tensor, second: Tensor) -> Tensor:
    return function(first, second)


def again(function: Callable[[Tensor, Tensor], Tensor], first: Tensor, second: Tensor) -> Tensor:
    """Call `function`; where a gradient is wanted, keep its inputs only and call it again for the gradient."""
    if not torch.is_grad_enabled():
        return function(first, second)
    result: Tensor = checkpoint(function, first, second, use_reentrant=False, preserve_rng_state=False)
    return result
