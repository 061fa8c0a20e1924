"""Where a masked-LM head's logits begin to count as words, and how much each word counts: set by its decoder's bias.

The bag of words (equation 8) is a softmax, so that a trained head's logit is log p(t | d) but for a constant, and what
is frequent everywhere has a great one in every text. Adding idf(t), nearly -log p(t), would make it the pointwise
mutual information log p(t | d) / p(t), how much more likely this text makes the word; a share of it does better, since
a head that was trained shortly tells rare words less surely than frequent ones. The constant is free: it is chosen such
that a passage keeps so many logits above 0, and log(1 + ReLU(x)) (SPLADE's activation, Formal et al. 2021) then weighs
exactly those. Neither the masked-LM loss nor equation 8 changes by a constant, and the transform and the decoder's
weights stay as they are.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.models.layers.encoder import Encoder, decoder_of, max_pooled_logits, top_terms
from harness.models.losses import ranking
from harness.models.training.batching import chunks

_AT_ONCE = 32  # texts


def idf(texts: Iterable[npt.NDArray[Any]], vocabulary: int) -> npt.NDArray[np.float32]:
    """Lucene's BM25's: ln(1 + (N - df + 0.5) / (df + 0.5)) of each of V terms [V], over token ids of N texts."""
    df, count = np.zeros(vocabulary, dtype=np.int64), 0
    for count, ids in enumerate(texts, 1):  # noqa: B007, the last number is their count
        df[np.unique(np.asarray(ids, dtype=np.int64))] += 1
    return np.log1p((count - df + 0.5) / (df + 0.5)).astype(np.float32)


def pooled(encoder: Encoder, texts: list[npt.NDArray[Any]], special: tuple[int, int, int], device: Any) -> Tensor:
    """μ [n,V] of token ids without special tokens: max-pooled raw logits, in float32, on the CPU.

    `special` are the ids of CLS, SEP and padding.
    """
    assert encoder.head is not None
    found = torch.empty(0)
    for part in chunks(texts, _AT_ONCE, *special):
        ids, mask = part.input_ids.to(device), part.attention_mask.to(device)  # [b,L]
        with torch.inference_mode():
            values = max_pooled_logits(encoder.head, encoder(ids, mask), encoder.ordinary(ids, mask)).cpu()
        if not len(found):
            found = torch.empty(len(texts), values.shape[1])
        found[part.places] = values
    return found


def zero(logits: Tensor, weights: Tensor, above: int) -> float:
    """The constant with which the mean over passages of their `above`-th greatest logit is 0, once `weights` are added.

    `logits` [n,V] are max-pooled, of passages like those that will be searched: what is the same at every token may be
    added after the maximum. `weights` [V] are.
    """
    return -float((logits + weights).topk(min(above, logits.shape[1]), dim=1).values[:, -1].mean())


def calibrate(head: Any, added: Tensor) -> None:
    """Add `added` [V] to the decoder's bias."""
    bias = decoder_of(head)[1].bias
    with torch.no_grad():
        bias.add_(added.to(bias))


def scores(queries: Tensor, passages: Tensor, added: Tensor, terms: int) -> Tensor:
    """[Q,N]: the lexical half's scores with `added` [V] in the bias; a passage keeps its `terms` largest.

    `queries` [Q,V] and `passages` [N,V] are max-pooled raw logits.
    """
    ids, weights = top_terms((passages + added).relu().log1p(), terms)  # [N,K]
    return ranking.kept_products((queries + added).relu().log1p(), ids, weights)
