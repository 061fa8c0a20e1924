"""numba's `njit(cache=True)` with what it compiles kept under HARNESS_HOME, or where NUMBA_CACHE_DIR says.

numba looks for a place when a function is decorated, and raises a RuntimeError where none can be written to: then the
code is kept in a temporary folder, as long as the process lives.
"""

import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from harness.retrievers import places
from harness.retrievers.errors import InputError

T = TypeVar("T")


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """The decorator, with numba's own options."""
    import numba

    return lambda function: kept(lambda: numba.njit(cache=True, **options)(function))


def kept(decorate: Callable[[], T]) -> T:
    """What `decorate` makes, its compiled code kept where it belongs; also of modules of other packages."""
    try:
        with _cache_in(str(places.compiled_code())):
            return decorate()
    except InputError:  # no home at all
        pass
    except RuntimeError as error:
        if "cannot cache function" not in str(error):
            raise
    with _cache_in(_temporary()):
        return decorate()


@contextmanager
def _cache_in(folder: str) -> Iterator[None]:
    """Have numba look there first; its other users' setting is as before behind it."""
    from numba import config

    before = config.CACHE_DIR
    config.CACHE_DIR = folder
    try:
        yield
    finally:
        config.CACHE_DIR = before


def temporary() -> bool:
    """Whether this process keeps what it compiles for as long as it lives, which another cannot use."""
    return _temporary.cache_info().currsize > 0


@functools.cache
def _temporary() -> str:
    """A folder for this process."""
    folder = tempfile.mkdtemp(prefix="harness-numba-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
