"""Arrays on huge pages: what is read in random order spends its time in page walks otherwise."""

import contextlib
import math
import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

_PAGE = 2**21  # bytes; the huge page of x86-64 and of most ARM kernels


def roomy(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """A zeroed array on huge pages where the system has them and the array fills one; else a plain one.

    `numpy.empty` asks for them as well, but in vain where the allocator hands out memory that was used before.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < _PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return np.zeros(shape, dtype)
    held = mmap.mmap(-1, size + _PAGE)
    with contextlib.suppress(OSError):  # a kernel without them; the memory is as good
        held.madvise(mmap.MADV_HUGEPAGE)
    whole = np.frombuffer(held, np.uint8)
    start = -whole.ctypes.data % _PAGE
    return whole[start : start + size].view(dtype).reshape(shape)
