"""One process at a time: the kernel lets go of the lock of a killed process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from harness.retrievers.errors import InputError

_looking = threading.Lock()
_of_threads: dict[Path, threading.RLock] = {}


@contextmanager
def held(path: Path, otherwise: str) -> Iterator[None]:
    """Hold the lock file `path`; a thread waits for the others of its process.

    Raises InputError with the message `otherwise` where another process has it.
    """
    with _looking:
        own = _of_threads.setdefault(path.absolute(), threading.RLock())
    with own:
        lock = FileLock(path, timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise InputError(otherwise) from error
        try:
            yield
        finally:
            lock.release()
