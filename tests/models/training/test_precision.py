"""bf16 on CPUs that have it, and on those that imitate it."""

import pytest
import torch

from harness.models.training.precision import automatic, imitated


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, True),
        ({"avx2": True, "avx512_bf16": True, "amx_bf16": False}, False),
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": True}, False),
        ({"neon": True, "bf16": True}, False),
        ({}, False),  # not known, so nothing is said
    ],
)
def test_a_cpu_imitates_bf16_where_none_of_its_instructions_is_for_it(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert imitated("cpu", "bf16") is expected
    assert not imitated("cuda", "bf16")
    assert not imitated("cpu", "no")
    assert not imitated("cpu", "fp32")


def test_a_torch_that_does_not_say_what_a_cpu_has(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not imitated("cpu", "bf16")


@pytest.mark.parametrize(("native", "trains", "encodes"), [(True, "bf16", "bf16"), (False, "fp16", "fp32")])
def test_automatic_on_a_gpu_that_may_only_emulate_bf16(monkeypatch, native, trains, encodes):
    """torch counts emulation as support, under which a V100 or a T4 took bf16 and was slower than in fp32."""
    asked = []

    def supported(including_emulation=True):
        asked.append(including_emulation)
        return native or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert (automatic("cuda", training=True), automatic("cuda", training=False)) == (trains, encodes)
    assert asked == [False, False]
    assert (automatic("cpu", training=True), automatic("cpu", training=False)) == ("fp32", "fp32")
