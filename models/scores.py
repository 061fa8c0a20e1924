"""The hybrid inner product as training sees it, and the three fine-tuning objectives (equations 10 to 15).

A training score is the search's score: documents are sparsified to their K largest terms, the query keeps all of its
own. The indices are chosen without a gradient; it flows through the kept values, and the query's weights at them.
"""

import torch
from torch import Tensor
from torch.nn import functional

from models.encoder import top_terms


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
    if query_dense.shape[1] != passage_dense.shape[1] or query_lexical.shape[1] != passage_lexical.shape[1]:
        raise ValueError(
            f"queries {list(query_dense.shape)} + {list(query_lexical.shape)} and passages {list(passage_dense.shape)} "
            f"+ {list(passage_lexical.shape)} must have the same widths"
        )
    scores = query_dense.float() @ passage_dense.float().T  # [Q,N]
    if k and query_lexical.shape[1]:
        ids, weights = top_terms(passage_lexical, k)  # [N,K]
        scores = scores + scale * kept_products(query_lexical, ids, weights)
    return scores


def kept_products(query_lexical: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
    """Σ_k μ_q[ids[n,k]] · weights[n,k] for every query and passage: [Q,N] of [Q,V], [N,K], [N,K], in float32."""
    rows = [query.index_select(0, ids.flatten()).view_as(ids) for query in query_lexical.float()]  # Q of [N,K]
    return torch.stack([(row * weights.float()).sum(dim=1) for row in rows])


def contrastive(scores: Tensor, positives: Tensor, temperature: float = 1.0) -> Tensor:
    """Equations 13 and 14: -log softmax of each query's positive among all passages of the batch, mean over queries.

    `scores` [Q,N] of each query with its positive, hard negatives (equation 14) and everybody else's passages;
    `positives` [Q] the column of each query's own. The loss sees score / `temperature`: sums of hundreds of raw logits
    reach thousands, where a softmax is a step and learns nothing. The paper is silent on it.
    """
    return functional.cross_entropy(scores.float() / temperature, positives)


def distillation(scores: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Equation 15 as soft-label cross-entropy: -Σ_d t_d log p_d over {d⁺, D⁻}, mean over queries.

    `scores` [Q,M] and `teacher` [Q,M] are of the same M passages; t is the softmax of the cross-encoder's scores. (The
    printed equation has exp⟨q, d⁺⟩ in the numerator for every d, which is taken as a misprint. The authors' code
    minimises the KL divergence, which differs by the teacher's entropy, a constant, and adds a small contrastive term.)
    """
    log_p = (scores.float() / temperature).log_softmax(dim=1)
    return -(teacher.float().softmax(dim=1) * log_p).sum(dim=1).mean()


def lexical_scale(dense_scores: Tensor, lexical_scores: Tensor) -> float:
    """What makes both halves spread alike in a batch [Q,N]: the ratio of their standard deviations within a query.

    Set once at step 0 and kept in the checkpoint. Raises ValueError where a half does not tell passages apart at all.
    """
    spreads = [scores.float().std(dim=1).mean().item() for scores in (dense_scores, lexical_scores)]
    if not all(0 < spread < float("inf") for spread in spreads):
        raise ValueError(f"the halves' scores spread by {spreads} in this batch; both must tell passages apart")
    return spreads[0] / spreads[1]
