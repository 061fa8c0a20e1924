"""Where torch computes: what `auto`, `cpu` and `cuda` come to, and what a GPU that is full or lost says."""

import os
import warnings
from typing import TYPE_CHECKING, Any

from harness.retrievers.errors import InputError

if TYPE_CHECKING:
    import torch

# what CUDA says of a device that is gone, busy, or left unusable by an earlier fault
_LOST = ("cuda error", "cuda-capable device", "no cuda gpus", "cublas_status", "cudnn_status", "nccl error")


def chosen(wanted: str, setting: str) -> "torch.device":
    """The device that `auto`, `cpu` or `cuda` stands for. Raises InputError, naming the setting, for no GPU."""
    import torch

    there, why = available()
    if wanted == "cuda" and not there:
        raise InputError(f"{setting}: no GPU is visible to torch{why}. Use auto or cpu, or `harness env` to see more.")
    return torch.device("cuda" if wanted != "cpu" and there else "cpu")


def available() -> tuple[bool, str]:
    """Whether torch sees a GPU; where it does not, why, as far as is known."""
    import torch

    with warnings.catch_warnings(record=True) as said:  # torch says by a warning what the driver lacks
        warnings.simplefilter("always")
        there = torch.cuda.is_available()
    if there:
        return True, ""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if torch.version.cuda is None and torch.version.hip is None:
        return False, " (this torch is built for the CPU; https://pytorch.org says which to install)"
    if said:
        return False, f" ({' '.join(str(said[0].message).split())[:200]})"
    if visible is not None:
        return False, f" (CUDA_VISIBLE_DEVICES is {visible!r}, which names no device that is there)"
    return False, ""


def failure(error: BaseException) -> str | None:
    """What a GPU's failure means, in one line: that it is full, or that it is lost; None for any other error."""
    import torch

    text = " ".join(str(error).split())
    if isinstance(error, torch.OutOfMemoryError):
        return (
            f"the GPU has no memory left{_free()}. See with nvidia-smi who holds it, free it, choose another by "
            "CUDA_VISIBLE_DEVICES, or use --device cpu."
        )
    lost = isinstance(error, RuntimeError) and any(sign in text.lower() for sign in _LOST)
    if lost:
        return f"the GPU failed: {text[:200]}. It may be lost, busy or full: see nvidia-smi, and run again."
    return None


def _free() -> str:
    import torch

    try:
        free, total = torch.cuda.mem_get_info()
    except Exception:  # a device that is full may not even answer that
        return ""
    return f" ({free / 2**30:.1f} of {total / 2**30:.1f} GiB are free)"


def refuse_forced_tf32(device: "torch.device") -> None:
    """Raise InputError where NVIDIA_TF32_OVERRIDE makes the driver use TF32, whatever torch asks for."""
    if device.type == "cuda" and os.environ.get("NVIDIA_TF32_OVERRIDE") == "1":
        raise InputError(
            "NVIDIA_TF32_OVERRIDE=1 rounds the factors of all products on the GPU, so that an exact search would lose "
            "documents. Unset it, or search with --device cpu."
        )


def about() -> dict[str, Any]:
    """torch, CUDA and the devices, for a bug report."""
    import torch

    there, why = available()
    found: dict[str, Any] = {
        "torch": torch.__version__,
        "cuda": torch.version.cuda or "not built in",
        "gpu": "visible" if there else f"none{why}",
    }
    for number in range(torch.cuda.device_count() if there else 0):
        properties = torch.cuda.get_device_properties(number)
        free, total = torch.cuda.mem_get_info(number)
        found[f"cuda:{number}"] = (
            f"{properties.name}, compute capability {properties.major}.{properties.minor}, "
            f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free, "
            f"bf16 {'yes' if torch.cuda.is_bf16_supported(including_emulation=False) else 'no'}"
        )
    return found
