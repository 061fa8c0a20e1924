"""Where the harness keeps what outlives a command, and where the libraries that it uses keep theirs.

A variable that the user set always wins. No folder is made or touched here but by `cache` and
`cache_or_temporary`.
"""

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path

from harness.retrievers.errors import InputError

NUMBA = "NUMBA_CACHE_DIR"
# what these libraries fetch stays in their own homes, unless those cannot be used
_OTHERS_HOMES = (("IR_DATASETS_HOME", ".ir_datasets", "ir_datasets"), ("HF_HOME", ".cache/huggingface", "huggingface"))
_HUGGING_FACE = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME")  # any of them moves HF_HOME's default


def home() -> Path:
    """Where collections that users supply, indexes and stores live: HARNESS_HOME, else `~/.harness`.

    Raises InputError for a user without a home who has not set it.
    """
    if named := os.environ.get("HARNESS_HOME"):
        return expanded(named).absolute()
    try:
        return (Path.home() / ".harness").absolute()
    except RuntimeError as error:
        raise InputError(
            "this user has no home folder, so HARNESS_HOME must name a folder for indexes and vectors."
        ) from error


def cache() -> Path:
    """Where indexes, stores and tokens are kept. Raises InputError where it cannot be made."""
    folder = home() / "cache"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = f"{error.strerror}. HARNESS_HOME names another place."
        raise InputError(f"there is no folder {folder} and it cannot be made: {why}") from error
    return folder


def cache_or_temporary() -> Path:
    """The cache, for work that keeps nothing which it could not make again at once; a temporary folder without one."""
    try:
        return cache()
    except InputError:
        return _temporary()


@functools.cache
def _temporary() -> Path:
    folder = tempfile.mkdtemp(prefix="harness-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def expanded(path: str | Path) -> Path:
    """A path with `~` replaced by the user's home, where there is one."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  # pathlib's raises for a home that nobody has


def prepare() -> None:
    """Lend homes to the libraries that have none they can use, before they are imported.

    For a user without any home (in a container, one whom no passwd file knows) HOME is HARNESS_HOME; where a library's
    own place can be neither read nor made, it is a folder there. Raises InputError as `home`.
    """
    try:
        own = Path.home()
    except RuntimeError:
        own = home()
        os.environ["HOME"] = str(own)
    for variable, usual, ours in _OTHERS_HOMES:
        moved = (variable, *_HUGGING_FACE) if variable == "HF_HOME" else (variable,)
        if not any(os.environ.get(name) for name in moved) and not _usable(own / usual):
            os.environ[variable] = str(home() / ours)


def lend_home(variable: str) -> bool:
    """Have a library's home under HARNESS_HOME, unless it was named; whether that is so now."""
    if os.environ.get(variable):
        return False
    os.environ[variable] = str(home() / next(ours for name, _, ours in _OTHERS_HOMES if name == variable))
    return True


def keep_fonts() -> None:
    """Let matplotlib keep its list of fonts in the cache; for a process that is ours alone."""
    os.environ.setdefault("MPLCONFIGDIR", str(home() / "cache" / "matplotlib"))


def compiled_code() -> Path:
    """Where numba keeps what it compiled."""
    return Path(os.environ.get(NUMBA) or home() / "cache" / "numba")


def _usable(folder: Path) -> bool:
    """Whether a folder can be read, or made."""
    try:
        if folder.exists():
            return os.access(folder, os.R_OK | os.X_OK)
        nearest = next(parent for parent in folder.parents if parent.exists())
        return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    except OSError:
        return False
