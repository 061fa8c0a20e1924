"""What the harness says on standard error, through `logging.getLogger("harness")`.

Imported as a library, the harness adds no handler: the program that imports it decides which messages are shown, and
Python shows warnings by default. The command line adds a handler that writes each message on one line.
"""

import contextlib
import logging
import os
import sys
from pathlib import Path

logger = logging.getLogger("harness")


class _Lines(logging.Handler):
    """Writes each message to standard error as it is at that moment, so that a progress bar can move out of its way."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        word = getattr(record, "word", "warning: " if record.levelno >= logging.WARNING else "")
        tell(f"{word}{record.getMessage()}")


def tell(line: str) -> None:
    """Write a line to standard error. Where it cannot be written, as on a full disk, no more is said: work goes on."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except OSError:
        with contextlib.suppress(OSError), Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)


_lines = _Lines()


def show(level: int = logging.INFO) -> None:
    """Show messages from `level` up on standard error, as the command line does."""
    if _lines not in logger.handlers:
        logger.addHandler(_lines)
        logger.propagate = False
    logger.setLevel(level)


def note(message: str) -> None:
    """Remark on what is shown."""
    logger.info(message, extra={"word": "note: "})


def notice(message: str) -> None:
    """Say what a user should know in any case, though nothing is wrong."""
    logger.warning(message, extra={"word": "note: "})


def quiet() -> bool:
    """Whether only warnings were asked for."""
    return logger.level > logging.INFO
