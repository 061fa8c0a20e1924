"""Fine-tuning objectives: by hand, against the search, and their gradients."""

import math

import numpy as np
import pytest
import torch

from harness.models.layers.encoder import top_terms
from harness.models.losses import ranking
from harness.retrievers.encoding.vectors import HybridQueries, HybridVectors
from harness.retrievers.search.final import Part, final_scores
from harness.training import recipe_files
from harness.training.stages.finetune import Finetune


def random_halves(seed=0, q=3, n=5, dense=4, vocabulary=30):
    torch.manual_seed(seed)
    return torch.randn(q, dense), torch.randn(q, vocabulary), torch.randn(n, dense), torch.randn(n, vocabulary) * 3


def test_a_training_score_is_the_searchs():
    """The same vectors through the store's types and `final_scores` give the same numbers, to float16's precision."""
    q_dense, q_lexical, d_dense, d_lexical = random_halves()
    found = ranking.hybrid_scores(q_dense, q_lexical, d_dense, d_lexical, k=7, scale=0.5)
    ids, weights = top_terms(d_lexical, 7)
    vectors = HybridVectors(
        d_dense.numpy().astype(np.float16), ids.numpy().astype(np.uint16), weights.numpy().astype(np.float16)
    )
    queries = HybridQueries(q_dense.numpy(), 0.5 * q_lexical.numpy())
    rows = [np.arange(len(vectors))] * 3
    final = [np.empty(len(vectors), np.float32) for _ in rows]
    final_scores(queries, Part(0, vectors), rows, final)
    np.testing.assert_allclose(found, final, rtol=2e-3, atol=2e-2)


def test_the_hybrid_score_by_hand():
    """h: 1·2 = 2. μ_d = (5, 4, -1) keeps its top two (0: 5, 1: 4); μ_q = (1, -1, 9): 5 - 4 = 1; together 3."""
    one = torch.tensor
    found = ranking.hybrid_scores(one([[1.0]]), one([[1.0, -1.0, 9.0]]), one([[2.0]]), one([[5.0, 4.0, -1.0]]), k=2)
    assert found.tolist() == [[3.0]]


def test_halves_may_be_empty():
    q_dense, q_lexical, d_dense, d_lexical = random_halves()
    nothing_q, nothing_d = torch.zeros(3, 0), torch.zeros(5, 0)
    dense = ranking.hybrid_scores(q_dense, nothing_q, d_dense, nothing_d, k=7)
    lexical = ranking.hybrid_scores(nothing_q, q_lexical, nothing_d, d_lexical, k=7)
    both = ranking.hybrid_scores(q_dense, q_lexical, d_dense, d_lexical, k=7)
    torch.testing.assert_close(dense + lexical, both)
    with pytest.raises(ValueError, match="must have the same width"):
        ranking.hybrid_scores(q_dense, q_lexical, nothing_d, d_lexical, k=7)
    with pytest.raises(ValueError, match="must have the same V"):
        ranking.hybrid_scores(q_dense, q_lexical, d_dense, nothing_d, k=7)


def test_gradients_flow_through_kept_values_only_and_to_the_query_at_them():
    _, q_lexical, _, d_lexical = (x.double().requires_grad_() for x in random_halves())
    total = ranking.kept_products(q_lexical, *top_terms(d_lexical, 7)).sum()
    to_query, to_passages = torch.autograd.grad(total, [q_lexical, d_lexical])
    kept = torch.zeros(5, 30, dtype=torch.bool).scatter_(1, d_lexical.topk(7, dim=1).indices, True)
    assert ((to_passages != 0) == kept).all()
    torch.testing.assert_close(to_passages[kept], q_lexical.sum(0).expand(5, -1)[kept], rtol=1e-5, atol=1e-6)
    dense_form = torch.where(kept, d_lexical, 0.0).sum(0).expand(3, -1)
    torch.testing.assert_close(to_query, dense_form, rtol=1e-5, atol=1e-6)


def test_contrastive_by_hand():
    """Scores (ln 3, 0) with the first positive and (0, 0) with the second: -ln 3/4 and -ln 1/2, mean (ln 4/3 + ln 2)/2.

    At temperature 0.5 the first is (2 ln 3, 0): -ln 9/10.
    """
    found = ranking.contrastive(torch.tensor([[math.log(3), 0.0], [0.0, 0.0]]), torch.tensor([0, 1]))
    assert found.item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)
    cooler = ranking.contrastive(torch.tensor([[math.log(3), 0.0]]), torch.tensor([0]), temperature=0.5)
    assert cooler.item() == pytest.approx(-math.log(0.9))


def test_distillation_by_hand():
    """Teacher (ln 3, 0): t = (3/4, 1/4). Student (0, 0): p = 1/2 each: -ln 1/2. Student as teacher: the entropy."""
    teacher = torch.tensor([[math.log(3), 0.0]])
    assert ranking.distillation(torch.zeros(1, 2), teacher).item() == pytest.approx(math.log(2))
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert ranking.distillation(teacher, teacher).item() == pytest.approx(entropy)
    assert ranking.distillation(2 * teacher, teacher, temperature=2.0).item() == pytest.approx(entropy)


def test_excluded_columns_are_no_negatives():
    """Scores (ln 3, 0, 99) without the last: -ln 3/4, and the last has no gradient."""
    found = torch.tensor([[math.log(3), 0.0, 99.0]], requires_grad=True)
    loss = ranking.contrastive(found, torch.tensor([0]), excluded=torch.tensor([[False, False, True]]))
    assert loss.item() == pytest.approx(math.log(4 / 3))
    [gradient] = torch.autograd.grad(loss, found)
    assert gradient[0].tolist() == pytest.approx([-1 / 4, 1 / 4, 0])


def test_the_scale_makes_both_halves_spread_alike():
    """Spreads within a query of 1 and 3 (any offset of a query apart), mean 2; four times as wide: weighed by 1/4."""
    dense = torch.tensor([[-1.0, 0.0, 1.0], [7.0, 10.0, 13.0]])
    assert ranking.spread(dense).item() == pytest.approx(2)
    assert ranking.spread(4 * dense + 100).item() == pytest.approx(8)
    assert ranking.balance(2, 8) == 0.25
    for wrong in ((0.0, 1.0), (1.0, 0.0), (1.0, math.inf), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="must tell passages apart"):
            ranking.balance(*wrong)


def test_the_authors_distillation_is_a_sixteenth_of_ours():
    """Their loss, from modeling.py: a KL averaged over queries and passages, and 0.0001 of the contrastive loss."""
    torch.manual_seed(0)
    scores = (3 * torch.randn(4, 64, dtype=torch.double)).requires_grad_()  # 4 groups of 16: query i's is 16i to 16i+15
    teacher = torch.randn(4, 16, dtype=torch.double)
    positives = torch.arange(0, 64, 16)
    own = positives[:, None] + torch.arange(16)

    log_p, teachers = torch.log_softmax(scores.gather(1, own), dim=1), torch.softmax(teacher, dim=1)
    divergence = torch.nn.functional.kl_div(log_p, teachers, reduction="none").mean()  # KLDivLoss("mean"), unwarned
    theirs = divergence + 0.0001 * torch.nn.functional.cross_entropy(scores, positives)
    distil = recipe_files.load("dupmae-msmarco", []).stages["distil"]
    assert isinstance(distil, Finetune)
    weight = distil.contrastive_weight
    ours = ranking.distillation(scores.gather(1, own), teacher) + weight * ranking.contrastive(scores, positives)
    (to_theirs,), (to_ours,) = (torch.autograd.grad(loss, scores) for loss in (theirs, ours))
    torch.testing.assert_close(16 * to_theirs, to_ours, rtol=1e-4, atol=1e-6)
