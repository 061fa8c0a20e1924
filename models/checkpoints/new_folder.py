"""A folder that is written whole or not at all."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.models.errors import CheckpointError


def check(target: Path) -> None:
    """Raise CheckpointError where something is at `target` already."""
    if target.exists():
        raise CheckpointError(f"{target} is there already. Name a folder that is not there yet.")


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """Give a temporary folder beside `target`; it becomes `target` when the block ends, and is removed if it fails.

    Raises CheckpointError as `check`, and where nothing can be made there.
    """
    check(target)
    new = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_ident()}.new")
    mask = os.umask(0)
    os.umask(mask)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        new.mkdir()
    except OSError as error:
        raise CheckpointError(f"{target} cannot be made a folder: {error.strerror}. Name another.") from error
    try:
        yield new
        for file in filter(Path.is_file, new.iterdir()):
            file.chmod(0o666 & ~mask)  # some writers give the owner alone the right to read
        new.rename(target)
    finally:
        shutil.rmtree(new, ignore_errors=True)
