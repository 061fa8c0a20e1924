"""Files that a user names for output: looked at before the work, and written whole or not at all."""

import os
import threading
from pathlib import Path

from harness.reports.errors import RecordError


def check_output(path: Path, make: bool = False) -> None:
    """Raise RecordError where a file `path` cannot be written: before the work that fills it is done.

    It may be there already, or be a device or a pipe. With `make` the folders above it need not be there yet.
    """
    try:
        if path.is_dir():
            raise RecordError(f"{path} is a folder. Name a file in it.")
        folder = _target(path).parent
        while make and not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if not folder.is_dir():
            raise RecordError(f"there is no folder {folder} for {path.name}. Make it first, or name another.")
        if _whole(path) and not os.access(folder, os.W_OK | os.X_OK):
            raise RecordError(f"{path} cannot be written: no permission in {folder}. Name another place.")
    except OSError as error:  # a name that is too long, a loop of links
        raise _impossible(path, error) from error


def check_folder(path: Path) -> None:
    """Raise RecordError where a folder `path` can neither be made nor written into."""
    there = path.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise RecordError(f"{there} is a file, so that {path} cannot be a folder. Name another.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise RecordError(f"nothing can be written into {path}: no permission in {there}. Name another place.")


def write_whole(path: Path, data: str | bytes) -> bool:
    """Write `data` (a text as UTF-8) to a temporary name, then over `path`; False where just that is there already.

    A link stays, and its target is written; a device or a pipe is written to. Raises RecordError where that fails, as
    for a full disk; what was there before is there still.
    """
    content = data.encode() if isinstance(data, str) else data
    try:
        target = _target(path)
        new = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_ident()}.new")
        if not _whole(path):
            with target.open("wb") as file:
                file.write(content)
            return True
        if target.is_file() and target.read_bytes() == content:
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            new.write_bytes(content)
            new.replace(target)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        raise _impossible(path, error) from error
    return True


def _impossible(path: Path, error: OSError) -> RecordError:
    return RecordError(f"{path} cannot be written ({error.strerror or error}). Name another place.")


def _target(path: Path) -> Path:
    return path.resolve() if path.is_symlink() else path.absolute()


def _whole(path: Path) -> bool:
    """Whether a rename may put a new file there: nothing is there yet, or a regular file."""
    target = _target(path)
    return target.is_file() or not target.exists()
