"""Ctrl-C: what a command leaves, in one line, and exit status 130."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import typer

_INTERRUPTED = 130  # 128 + SIGINT, as a shell has it


@contextmanager
def interruptible(left: str) -> Iterator[None]:
    """End an interrupted command with 130, and say what is `left`, in one process of several.

    Typer alone would end it with 1, which is a failed check.
    """
    try:
        yield
    except KeyboardInterrupt:
        if os.environ.get("RANK", "0") == "0":
            typer.echo(f"interrupted; {left}", err=True)
        raise typer.Exit(_INTERRUPTED) from None
