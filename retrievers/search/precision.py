"""float32 products that are float32's, whatever was allowed elsewhere in the process."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

TINY = 1e-25  # a query of a smaller norm: its scores near what float32 can hold at all


@contextmanager
def ieee_products() -> Iterator[None]:
    """Matrix products in full float32 on every device; the settings of before come back.

    TF32 keeps 10 bits of each factor and bf16 7, where the bounds of the searches count on 23 (`device.slack`), so
    documents would be lost. TORCH_ALLOW_TF32_CUBLAS_OVERRIDE in a container allows them, or
    `torch.set_float32_matmul_precision`.
    """
    on_cpu: Any = torch.backends.mkldnn  # oneDNN
    settings: tuple[Any, ...] = torch.backends.cuda.matmul, on_cpu.matmul
    before = [one.fp32_precision for one in settings]
    try:
        for one in settings:
            one.fp32_precision = "ieee"
        yield
    finally:
        for one, value in zip(settings, before, strict=True):
            one.fp32_precision = value
