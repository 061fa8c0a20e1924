"""The hybrid inner product as training sees it, and the three fine-tuning objectives (equations 10 to 15).

A training score is the search's score: documents are sparsified to their K largest terms, the query keeps all of its
own. The indices are chosen without a gradient; it flows through the kept values, and the query's weights at them.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from harness.models.layers.encoder import top_terms


def hybrid_scores(
    query_dense: Tensor,
    query_lexical: Tensor,
    passage_dense: Tensor,
    passage_lexical: Tensor,
    k: int,
    scale: float = 1.0,
) -> Tensor:
    """Equation 12 between every query and every passage: [Q,N], in float32.

    `query_dense` [Q,D], `query_lexical` μ_q [Q,V], `passage_dense` [N,D], `passage_lexical` μ_d [N,V]; either half may
    have no columns. `scale` weighs the lexical half. Passages are kept as K pairs, never as a second [N,V].

    Raises ValueError for widths that do not fit together.
    """
    if query_lexical.shape[1] != passage_lexical.shape[1]:
        raise ValueError(
            f"queries {list(query_lexical.shape)} and passages {list(passage_lexical.shape)} must have the same V"
        )
    ids, weights = top_terms(passage_lexical, k if passage_lexical.shape[1] else 0)  # [N,K]
    dense, lexical = halves(query_dense, query_lexical, passage_dense, ids, weights)
    return dense + scale * lexical


def halves(
    query_dense: Tensor, query_lexical: Tensor, passage_dense: Tensor, ids: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """The two sums of equation 12, each [Q,N] in float32: dense [Q,D] by [N,D], μ_q [Q,V] at the pairs [N,K].

    A half without columns gives zeros. Raises ValueError for dense widths that differ.
    """
    if query_dense.shape[1] != passage_dense.shape[1]:
        raise ValueError(
            f"queries {list(query_dense.shape)} and passages {list(passage_dense.shape)} must have the same width"
        )
    dense = query_dense.float() @ passage_dense.float().T  # [Q,N]
    return dense, kept_products(query_lexical, ids, weights) if ids.shape[1] else torch.zeros_like(dense)


def kept_products(query_lexical: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
    """Σ_k μ_q[ids[n,k]] · weights[n,k] for every query and passage: [Q,N] of [Q,V], [N,K], [N,K], in float32."""
    found: Tensor = _KeptProducts.apply(query_lexical.float(), ids, weights.float())  # type: ignore[no-untyped-call]
    return found


class _KeptProducts(torch.autograd.Function):
    """A query at a time, both ways: nothing of the size [Q,N,K] is ever held."""

    @staticmethod
    def forward(ctx: Any, query_lexical: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(query_lexical, ids, weights)
        return torch.stack([(query[ids] * weights).sum(dim=1) for query in query_lexical])  # Q of [N]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, Tensor]:
        query_lexical, ids, weights = ctx.saved_tensors
        to_queries, to_weights = torch.zeros_like(query_lexical), torch.zeros_like(weights)
        for query, row, grad in zip(query_lexical, to_queries, grads[0], strict=True):
            column = grad.unsqueeze(1)  # [N,1]
            row.index_add_(0, ids.flatten(), (column * weights).flatten())
            to_weights.addcmul_(column, query[ids])
        return to_queries, None, to_weights


def contrastive(scores: Tensor, positives: Tensor, temperature: float = 1.0, excluded: Tensor | None = None) -> Tensor:
    """Equations 13 and 14: -log softmax of each query's positive among all passages of the batch, mean over queries.

    `scores` [Q,N] of each query with its positive, hard negatives (equation 14) and everybody else's passages;
    `positives` [Q] the column of each query's own. The loss sees score / `temperature`: sums of hundreds of raw logits
    reach thousands, where a softmax is a step and learns nothing. The paper is silent on it. `excluded` [Q,N] bool
    leaves columns out: other passages of the batch that are known to answer the query are no negatives.
    """
    logits = scores.float() / temperature
    if excluded is not None:
        logits = logits.masked_fill(excluded, float("-inf"))
    return functional.cross_entropy(logits, positives)


def distillation(scores: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Equation 15 as soft-label cross-entropy: -Σ_d t_d log p_d over {d⁺, D⁻}, mean over queries.

    `scores` [Q,M] and `teacher` [Q,M] are of the same M passages; t is the softmax of the cross-encoder's scores. (The
    printed equation has exp⟨q, d⁺⟩ in the numerator for every d, which is taken as a misprint. The authors' code
    minimises the KL divergence, which differs by the teacher's entropy, a constant, and adds a small contrastive term.)
    """
    log_p = (scores.float() / temperature).log_softmax(dim=1)
    return -(teacher.float().softmax(dim=1) * log_p).sum(dim=1).mean()


def margin_mse(scores: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """How far each positive's margin over a negative lies from the teacher's: mean square (Hofstätter et al. 2020).

    `scores` [Q,M] and `teacher` [Q,M] are of the same M passages, the positive first. The student's margins count as
    the softmax of the other losses sees them, score / `temperature`: sums of raw logits reach thousands.
    """
    ours = (scores[:, :1].float() - scores[:, 1:].float()) / temperature  # [Q,M-1]
    theirs = teacher[:, :1].float() - teacher[:, 1:].float()
    return functional.mse_loss(ours, theirs)


def spread(scores: Tensor) -> Tensor:
    """How far a query's scores with the passages of a batch [Q,N] spread: standard deviation, mean over queries."""
    return scores.float().std(dim=1).mean()


def balance(dense: float, lexical: float) -> float:
    """What makes both halves spread alike: the scale of the lexical half, from the spreads of both.

    Raises ValueError where a half does not tell passages apart at all.
    """
    if not all(0 < value < float("inf") for value in (dense, lexical)):
        raise ValueError(
            f"the dense scores spread by {dense:.4g} and the lexical ones by {lexical:.4g} in the first batches; both "
            "must tell passages apart"
        )
    return dense / lexical
