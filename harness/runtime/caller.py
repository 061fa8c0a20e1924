"""The process of a program that calls the harness as a library: what it had set is as it was when a call returns."""

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def leaves_no_trace(function: Callable[P, T]) -> Callable[P, T]:
    """The function, behind which random numbers go on as if it had not been called, also after an error."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        with _random_numbers():
            return function(*args, **kwargs)

    return wrapped


@contextmanager
def _random_numbers() -> Iterator[None]:
    """Give Python's, numpy's and torch's generators back the states they had."""
    import numpy as np

    before, numpy_before = random.getstate(), np.random.get_state()  # noqa: NPY002  # the global one, which is others'
    torch_before, gpus = None, None
    if "torch" in sys.modules:
        import torch

        torch_before = torch.get_rng_state()
        gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)  # noqa: NPY002
        if torch_before is not None:  # else it was imported within, and nobody can have seeded it
            torch.set_rng_state(torch_before)
        if gpus is not None:
            torch.cuda.set_rng_state_all(gpus)
