"""One process at a time: the kernel lets go of the lock of a killed process."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from harness.retrievers.errors import InputError


@contextmanager
def held(path: Path, otherwise: str) -> Iterator[None]:
    """Hold the lock file `path`. Raises InputError with the message `otherwise` where another process has it."""
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(otherwise) from error
    try:
        yield
    finally:
        lock.release()
