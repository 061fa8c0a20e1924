"""Ctrl-C: what a command leaves, in one line, and exit status 130."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from harness.runtime.stopping import Stopping

_INTERRUPTED = 130  # 128 + SIGINT, as a shell has it


@contextmanager
def interruptible(left: str) -> Iterator[None]:
    """End an interrupted command with 130 (or as its signal says), and say what is `left`, in one process of several.

    Typer alone would end it with 1, which is a failed check.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        _say(f"interrupted; {left}")
        raise typer.Exit(getattr(error, "status", _INTERRUPTED)) from None


@contextmanager
def stoppable() -> "Iterator[Stopping]":
    """End a training that is asked to stop, by Ctrl-C or SIGTERM, when its step is done and saved: with 130 or 143."""
    from harness.models.errors import TrainingStopped
    from harness.runtime.stopping import Stopping

    stopping = Stopping()
    with interruptible("finished stages, and what was saved of the last one, are kept"), stopping.listening():
        try:
            yield stopping
        except TrainingStopped as stopped:
            _say(f"{stopped}; the same command goes on from there")
            raise typer.Exit(stopping.status) from None


def _say(message: str) -> None:
    if os.environ.get("RANK", "0") == "0":
        from harness.runtime import log

        log.tell(message)
