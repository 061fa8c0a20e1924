"""Attention written out against torch's fused function."""

import pytest
import torch

from harness.models.layers.attention import attend, choose, written_out_pays
from tests.support import tiny


def test_both_ways_give_the_same_values_and_gradients():
    """With rows that see everything, and some; no row that counts sees nothing."""
    torch.manual_seed(5)
    shape = (3, 2, 7, 4)
    tensors = [torch.randn(shape).requires_grad_() for _ in range(3)]
    visible = torch.rand(3, 1, 7, 7) < 0.6
    visible[0, 0, 2] = True
    visible[..., 0] = True
    added = (1.0 - visible.float()) * torch.finfo(torch.float32).min
    factors = torch.randn(shape)
    found = []
    for way in (False, True):
        out = attend(*tensors, added, 0.0, way)
        found.append((out, *torch.autograd.grad((out * factors).sum(), tensors)))
    for fused, written in zip(*found, strict=True):
        torch.testing.assert_close(written, fused, rtol=1e-5, atol=1e-6)


def test_dropout_leaves_the_mean_and_changes_the_values():
    torch.manual_seed(6)
    q, k, v = torch.randn(3, 1, 1, 4, 8)
    added = torch.zeros(1, 1, 4, 4)
    whole = attend(q, k, v, added, 0.0, True)
    many = torch.stack([attend(q, k, v, added, 0.5, True) for _ in range(4_000)])
    assert not torch.equal(many[0], whole)
    torch.testing.assert_close(many.mean(dim=0), whole, rtol=0, atol=0.12)  # six standard errors of a mean of 4,000


def test_a_model_gives_the_same_states_both_ways():
    model = tiny.masked_lm()
    ids, mask = torch.randint(5, 40, (2, 9)), torch.ones(2, 9, dtype=torch.long)
    mask[1, 6:] = 0
    states = []
    for way in (True, False):
        choose(model, way)
        states.append(model.bert(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()])
    torch.testing.assert_close(*states, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("case", "pays"),
    [
        (("cpu", "bf16", 64), True),
        (("cpu", "no", 64), False),
        (("cuda", "bf16", 64), False),
        (("cpu", "bf16", 512), False),
    ],
)
def test_when_it_pays(case, pays):
    assert written_out_pays(*case) == pays
