"""The losses that make the vocabulary's logits once: values and gradients against the plain formulas."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import DistilBertConfig, DistilBertForMaskedLM, RobertaConfig, RobertaForMaskedLM

from harness.models.layers import fused_vocabulary
from harness.models.layers.encoder import max_pooled_logits
from harness.models.layers.families import mlm_head
from harness.models.losses import pretraining as losses
from tests.support import tiny

N, B, L, H, V = 11, 4, 5, 6, 23
CHUNKS = [1, 2 * V, 2 * V + 5, 1 << 25]  # a row at once; 2 of 11; the same, with logits to spare; all


def parts(kind=torch.float64, seed=0):
    """States [B,L,H], weight and bias of a decoder, each a leaf that wants a gradient."""
    torch.manual_seed(seed)
    return [torch.randn(*shape, dtype=kind, requires_grad=True) for shape in ((B, L, H), (V, H), (V,))]


def rows_and_targets(kind=torch.float64):
    states, weight, bias = parts(kind)
    rows = states.flatten(0, 1)[:N].detach().requires_grad_()
    return (rows, weight, bias), torch.tensor([0, 3, 3, 22, 7, 3, 1, 0, 9, 22, 4])


def naive_cross_entropy(rows, weight, bias, targets):
    return functional.cross_entropy(functional.linear(rows, weight, bias).float(), targets, reduction="sum")


def naive_pool(states, weight, bias):
    return functional.linear(states, weight, bias).float().max(dim=1).values


def same(ours, other, inputs, scale=1.0, rtol=1e-5, atol=1e-6):
    torch.testing.assert_close(ours.float(), other.float(), rtol=rtol, atol=atol)
    one, two = (torch.autograd.grad(found * scale, inputs, retain_graph=True) for found in (ours, other))
    for found, wanted, leaf in zip(one, two, inputs, strict=True):
        assert found.dtype == leaf.dtype
        torch.testing.assert_close(found, wanted, rtol=rtol, atol=atol * scale)


def weighted(pool, each, *inputs):
    return (pool(*inputs) * each).sum()


# --- by hand


def test_cross_entropy_and_its_gradient_by_hand():
    """W = (1, 0), b = (0, ln 2), row ln 6: logits (ln 6, ln 2), softmax (3/4, 1/4).

    For target 1 the loss is ln 4; d/d logits = (3/4, -3/4), so 3/4 for the row, 3/4 ln 6 and minus it for W, and
    (3/4, -3/4) for b.
    """
    row, weight, bias = (
        torch.tensor(values, requires_grad=True) for values in ([[math.log(6)]], [[1.0], [0.0]], [0.0, math.log(2)])
    )
    loss = fused_vocabulary.cross_entropy(row, weight, bias, torch.tensor([1]), chunk=10)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(4))
    assert row.grad.tolist() == [[pytest.approx(0.75)]]
    assert weight.grad.flatten().tolist() == pytest.approx([0.75 * math.log(6), -0.75 * math.log(6)])
    assert bias.grad.tolist() == pytest.approx([0.75, -0.75])


def test_max_pool_and_its_gradient_by_hand():
    """States 2 and -3, W = (1, -1), b = (10, 0): logits (12, -2) and (7, 3). μ = (12, 3), from state 0 and state 1.

    With d/dμ = (1, 5): W has 1·2 and 5·(-3); the states have 1·1 and 5·(-1); b has (1, 5).
    """
    states, weight, bias = (
        torch.tensor(values, requires_grad=True) for values in ([[[2.0], [-3.0]]], [[1.0], [-1.0]], [10.0, 0.0])
    )
    pooled = fused_vocabulary.max_pool(states, weight, bias, chunk=100)
    assert pooled.tolist() == [[12.0, 3.0]]
    pooled.backward(torch.tensor([[1.0, 5.0]]))
    assert weight.grad.flatten().tolist() == [2.0, -15.0]
    assert states.grad.flatten().tolist() == [1.0, -5.0]
    assert bias.grad.tolist() == [1.0, 5.0]


def test_of_equal_maxima_one_position_has_the_gradient():
    states = torch.ones(1, 3, 2, requires_grad=True)
    weight, bias = torch.ones(4, 2, requires_grad=True), torch.zeros(4)
    fused_vocabulary.max_pool(states, weight, bias, chunk=1).sum().backward()
    assert sorted(states.grad[0, :, 0].tolist()) == [0.0, 0.0, 4.0]
    assert weight.grad.tolist() == [[1.0, 1.0]] * 4


# --- against the formula


@pytest.mark.parametrize("chunk", CHUNKS)
def test_gradients_are_those_of_finite_differences(chunk):
    inputs, targets = rows_and_targets()
    assert torch.autograd.gradcheck(lambda *given: fused_vocabulary.cross_entropy(*given, targets, chunk), inputs)
    assert torch.autograd.gradcheck(lambda *given: fused_vocabulary.max_pool(*given, chunk), parts())


@pytest.mark.parametrize("scale", [1.0, 65536.0, 1e-3])
@pytest.mark.parametrize("chunk", CHUNKS)
def test_values_and_scaled_gradients_in_float32(chunk, scale):
    inputs, targets = rows_and_targets(torch.float32)
    ours = fused_vocabulary.cross_entropy(*inputs, targets, chunk)
    same(ours, naive_cross_entropy(*inputs, targets), inputs, scale)
    inputs, each = parts(torch.float32), torch.randn(B, V)
    same((fused_vocabulary.max_pool(*inputs, chunk) * each).sum(), (naive_pool(*inputs) * each).sum(), inputs, scale)


def test_a_backward_pass_may_be_taken_twice():
    """The gradient that the forward pass made is not spent by the first."""
    inputs, targets = rows_and_targets()
    loss = fused_vocabulary.cross_entropy(*inputs, targets, 50)
    first, second = (torch.autograd.grad(loss, inputs, retain_graph=True) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_a_confident_row_keeps_its_digits():
    """Logits (40, 0) and target 0: the loss, e^-40, is 0 in float32; for target 1 it is 40, with no infinity."""
    weight, bias = torch.tensor([[40.0], [0.0]]), torch.zeros(2)
    losses_of = [
        fused_vocabulary.cross_entropy(torch.ones(1, 1), weight, bias, torch.tensor([t]), 9).item() for t in (0, 1)
    ]
    assert losses_of == [0.0, 40.0]
    far = fused_vocabulary.cross_entropy(
        torch.ones(1, 1), 25 * weight, bias, torch.tensor([1]), 9
    )  # e^-1000 underflows
    assert far.item() == 1000.0


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_what_is_frozen_gets_no_gradient(frozen):
    inputs, targets = rows_and_targets(torch.float32)
    inputs[frozen].requires_grad_(False)
    free = [leaf for place, leaf in enumerate(inputs) if place != frozen]
    same(fused_vocabulary.cross_entropy(*inputs, targets, 50), naive_cross_entropy(*inputs, targets), free)
    inputs = parts(torch.float32)
    inputs[frozen].requires_grad_(False)
    free = [leaf for place, leaf in enumerate(inputs) if place != frozen]
    same(fused_vocabulary.max_pool(*inputs, 50).sum(), naive_pool(*inputs).sum(), free)


def test_without_a_gradient_the_value_is_the_same_and_no_gradient_is_made(monkeypatch):
    inputs, targets = rows_and_targets(torch.float32)
    states, weight, bias = parts(torch.float32)
    learnt = fused_vocabulary.cross_entropy(*inputs, targets, 50), fused_vocabulary.max_pool(states, weight, bias, 50)
    monkeypatch.setattr(fused_vocabulary, "_add_product", lambda *given: pytest.fail("a gradient was made"))
    with torch.no_grad():
        found = (
            fused_vocabulary.cross_entropy(*inputs, targets, 50),
            fused_vocabulary.max_pool(states, weight, bias, 50),
        )
    for one, other in zip(found, learnt, strict=True):
        assert not one.requires_grad
        assert torch.equal(one, other)


# --- autocast


@pytest.mark.parametrize("chunk", [50, 1 << 25])
def test_under_bf16_values_and_gradients_are_within_its_digits(chunk):
    """bf16 has 8 binary digits. The yardstick is float32; autograd's own way under autocast has to be no nearer to it.

    Both are compared by the norm of the difference over the norm of the truth.
    """
    inputs, targets = rows_and_targets(torch.float32)
    states, weight, bias = parts(torch.float32)
    each = torch.randn(B, V)
    pooled = partial(fused_vocabulary.max_pool, chunk=chunk)
    labelled = partial(fused_vocabulary.cross_entropy, targets=targets, chunk=chunk)
    cases = [
        (inputs, labelled, partial(naive_cross_entropy, targets=targets)),
        ((states, weight, bias), partial(weighted, pooled, each), partial(weighted, naive_pool, each)),
    ]
    for leaves, ours, naive in cases:
        truth = torch.autograd.grad(naive(*leaves), leaves)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found, other = ours(*leaves), naive(*leaves)
        assert found.dtype == torch.float32
        assert found.item() == pytest.approx(other.item(), rel=1e-2)
        for mine, theirs, exact in zip(
            torch.autograd.grad(found, leaves), torch.autograd.grad(other, leaves), truth, strict=True
        ):
            assert mine.dtype == torch.float32
            error, usual = ((grad - exact).norm() / exact.norm() for grad in (mine, theirs))
            assert error < 2**-6
            assert error < 1.5 * usual + 1e-3


@pytest.mark.filterwarnings("ignore:.*CPU Autocast.*")
def test_float16_is_left_to_autograd(monkeypatch):
    """Its loss scale is known only on the way back, so that a gradient made before would underflow."""
    assert fused_vocabulary.fits(torch.zeros(1))
    assert not fused_vocabulary.fits(torch.zeros(1, dtype=torch.float16))
    head, hidden = nn.Sequential(nn.Linear(H, V)), torch.randn(B, L, H)
    for name in ("cross_entropy", "max_pool"):
        monkeypatch.setattr(fused_vocabulary, name, lambda *given: pytest.fail("not for float16"))
    with torch.autocast("cpu", dtype=torch.float16):
        assert not fused_vocabulary.fits(torch.zeros(1))
        assert losses.cross_entropy_at(head, hidden, torch.zeros(B, L, dtype=torch.long), 50).isfinite()
        assert losses.max_pooled(head, hidden, torch.ones(B, L, dtype=torch.bool), 50).isfinite().all()


# --- kept positions


def test_the_kept_states_come_first_and_in_order():
    """Of three texts, one keeps 1 and 3, one keeps 2 alone, one nothing: it repeats its first state."""
    hidden = torch.arange(12.0).view(3, 4, 1)
    keep = torch.tensor([[0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]]).bool()
    assert fused_vocabulary.kept_first(hidden, keep).squeeze(-1).tolist() == [[1.0, 3.0], [6.0, 6.0], [8.0, 8.0]]
    assert fused_vocabulary.kept_first(hidden, torch.zeros_like(keep)).squeeze(-1).tolist() == [[0.0], [4.0], [8.0]]


@pytest.mark.parametrize("chunk", [1, 300, 1 << 25])
def test_pooling_in_training_is_the_pooling_of_search(chunk):
    """A text without words has zeros, and sends no gradient back."""
    torch.manual_seed(0)
    head = nn.Sequential(nn.Linear(H, H), nn.GELU(), nn.Linear(H, V))
    hidden = torch.randn(B, L, H, requires_grad=True)
    keep = torch.rand(B, L) < 0.6
    keep[0], keep[1] = False, True
    found = losses.max_pooled(head, hidden, keep, chunk)
    assert found[0].tolist() == [0.0] * V
    torch.testing.assert_close(found, max_pooled_logits(head, hidden, keep), rtol=1e-5, atol=1e-6)
    each = torch.randn(B, V)
    leaves = [hidden, *head.parameters()]
    same((found * each).sum(), (max_pooled_logits(head, hidden, keep) * each).sum(), leaves, rtol=1e-4)
    [grad] = torch.autograd.grad((found * each).sum(), hidden)
    assert (grad[~keep] == 0).all()


# --- heads


def roberta():
    return RobertaForMaskedLM(RobertaConfig(**SMALL))


def distilbert():
    return DistilBertForMaskedLM(DistilBertConfig(vocab_size=V, dim=H, n_layers=1, n_heads=1, hidden_dim=8))


SMALL = {"vocab_size": V, "hidden_size": H, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}


@pytest.mark.parametrize("made", [tiny.masked_lm, roberta, distilbert])
def test_heads_of_each_family_give_what_autograd_gives(made, monkeypatch):
    """Embeddings are tied to the decoder, so that their gradient has a part from either end."""
    torch.manual_seed(0)
    model = made().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    head = mlm_head(model)
    ids = torch.randint(5, 20, (3, 8))
    labels = torch.where(torch.rand(3, 8) < 0.5, ids, losses.IGNORED)
    keep = torch.rand(3, 8) < 0.5
    keep[:, 2] = True
    leaves = [weight for weight in model.parameters() if weight.requires_grad]

    def go():
        hidden = model.base_model(input_ids=ids).last_hidden_state
        pooled = losses.max_pool(head, hidden, keep, 500)
        found = losses.cross_entropy_at(head, hidden, labels, 500)
        total = found + losses.bag_of_words(pooled, ids, torch.ones_like(keep), over_n=True)
        return total, torch.autograd.grad(total, leaves, allow_unused=True)

    total, ours = go()
    monkeypatch.setattr(fused_vocabulary, "fits", lambda states: False)
    other, theirs = go()
    assert total.item() == pytest.approx(other.item(), rel=1e-5)
    assert sum(grad is not None for grad in ours) > 10
    for one, two in zip(ours, theirs, strict=True):
        assert (one is None) == (two is None)
        if one is not None and two is not None:
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


def test_a_head_that_cannot_be_taken_apart_still_works():
    """Its last map has no bias: autograd's way, with the same numbers as a bias of zero."""
    torch.manual_seed(0)
    bare, whole = nn.Sequential(nn.Linear(H, V, bias=False)), nn.Sequential(nn.Linear(H, V))
    with torch.no_grad():
        whole[0].weight.copy_(bare[0].weight)
        whole[0].bias.zero_()
    hidden, labels = torch.randn(B, L, H), torch.randint(V, (B, L))
    for chunk in CHUNKS:
        one, other = (losses.cross_entropy_at(head, hidden, labels, chunk) for head in (bare, whole))
        torch.testing.assert_close(one, other)
        keep = torch.ones(B, L, dtype=torch.bool)
        one, other = (losses.max_pooled(head, hidden, keep, chunk) for head in (bare, whole))
        torch.testing.assert_close(one, other)


def test_no_more_logits_than_the_chunk_are_made_at_once(monkeypatch):
    """The products of the states are watched: 11 rows in chunks of 2, 4 texts of 5 positions in chunks of 3."""
    inputs, targets = rows_and_targets(torch.float32)
    real, sizes = torch.Tensor.softmax, []
    monkeypatch.setattr(
        torch.Tensor, "softmax", lambda logits, **more: sizes.append(logits.shape) or real(logits, **more)
    )
    fused_vocabulary.cross_entropy(*inputs, targets, 2 * V + 5)
    assert sizes == [(2, V)] * 5 + [(1, V)]
    sizes.clear()
    monkeypatch.setattr(fused_vocabulary, "CPU_ROWS", 4)
    fused_vocabulary.cross_entropy(*inputs, targets, 1 << 25)  # on a CPU the cache has its say
    assert sizes == [(4, V)] * 2 + [(3, V)]
    real_max = torch.Tensor.max
    sizes.clear()
    monkeypatch.setattr(
        torch.Tensor, "max", lambda logits, **more: sizes.append(logits.shape) or real_max(logits, **more)
    )
    monkeypatch.setattr(fused_vocabulary, "CPU_ROWS", 1000)
    fused_vocabulary.max_pool(*parts(torch.float32), 3 * L * V)
    assert sizes == [(V, 3, L), (V, 1, L)]
