"""Where the harness keeps what outlives a command."""

import os
from pathlib import Path

from harness.retrievers.errors import InputError


def home() -> Path:
    """Where collections that users supply, indexes and stores live: HARNESS_HOME, else `~/.harness`."""
    return Path(os.environ.get("HARNESS_HOME") or Path.home() / ".harness").expanduser().absolute()


def cache() -> Path:
    """Where indexes, stores and tokens are kept. Raises InputError where it cannot be made."""
    folder = home() / "cache"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = f"{error.strerror}. HARNESS_HOME names another place."
        raise InputError(f"there is no folder {folder} and it cannot be made: {why}") from error
    return folder
