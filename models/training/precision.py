"""Which precision a device computes in by itself, and what a CPU makes of bf16."""

from collections.abc import Mapping
from typing import Any

import torch

IMITATED = (
    "this CPU has no bf16 instructions (such as avx512_bf16): bf16 is imitated, and can take many times as long as "
    "fp32. --precision fp32 (of a recipe: --set precision=fp32) does not"
)


def automatic(device: str, training: bool) -> str:
    """What `precision: auto` stands for on a device ("cpu", "cuda").

    bf16 on a GPU that has it; one that would only emulate it (V100, T4) trains in fp16, whose losses are scaled, and
    encodes in fp32. fp32 on a CPU.
    """
    if device != "cuda":
        return "fp32"
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16"
    return "fp16" if training else "fp32"


def fastest(device: str) -> str:
    """What trains fastest on a device: `automatic`, but bf16 on a CPU that is known to have instructions for it."""
    if device == "cpu" and not imitated(device, "bf16") and _capabilities():
        return "bf16"
    return automatic(device, training=True)


def imitated(device: str, precision: str) -> bool:
    """Whether arithmetic in `precision` ("bf16", …) on `device` ("cpu", "cuda") is known to be imitated.

    False as well where torch does not say what the CPU has.
    """
    if device != "cpu" or precision != "bf16":
        return False
    capabilities = _capabilities()
    return bool(capabilities) and not any(there for name, there in capabilities.items() if "bf16" in name)


def _capabilities() -> Mapping[str, Any]:
    found: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return found
