"""The command line. Nothing heavy is imported before a command runs: `harness --help` answers at once."""

import atexit
import contextlib
import errno
import gc
import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from harness.cli.options import HELP_NAMES, Once, Quiet, Verbose, begin, choose, leave_output, of_group, with_loudness

# One module of this package per command: its function `<name>_command`, or, for a command with commands of its own, the
# Typer object `<name>_app`. `harness --help` lists them in this order, the latter last.
COMMANDS = (
    *("run", "train", "adapt", "ablate", "bench", "score", "fuse", "export", "card", "dissect", "plot", "table"),
    *("check", "compare", "tune", "list", "env"),
)
_FAILED, _BAD_INPUT, _FAULT = 1, 2, 70  # the last as sysexits.h has it: a fault of the program's own
# what a full, forbidden or broken disk says; everything else that is an OSError is a bug of ours
_DISK = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO),
    *(errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR),
}


def _print_version(wanted: bool) -> None:
    if wanted:
        from harness import __version__

        typer.echo(__version__)
        raise typer.Exit


def _root(
    verbose: Verbose = False,
    quiet: Quiet = False,
    version: Annotated[  # noqa: ARG001  # its callback deals with it
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before the command."""
    begin()
    choose(verbose, quiet)


def build(commands: Sequence[str] = COMMANDS) -> typer.Typer:
    """Make the command line of the modules that `commands` names."""
    made = typer.Typer(
        name="harness",
        help="Evaluate retrievers: one command from a retriever and a collection to a scored, reproducible record.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings=HELP_NAMES,
    )
    made.callback()(_root)
    for name in commands:
        module = import_module(f"harness.cli.{name}")
        if group := getattr(module, f"{name}_app", None):
            made.add_typer(_with_loudness(group), name=name, context_settings=HELP_NAMES)
        else:
            command = with_loudness(getattr(module, f"{name}_command"))
            made.command(name, cls=Once, context_settings=HELP_NAMES)(command)
    return made


def _with_loudness(group: typer.Typer) -> typer.Typer:
    """A copy of a group whose commands have the options of every command."""
    made = typer.Typer(help=group.info.help, no_args_is_help=True, rich_markup_mode=None)
    made.callback(help=group.info.help)(of_group)
    for one in group.registered_commands:
        assert one.callback is not None
        made.command(one.name, cls=Once, context_settings=HELP_NAMES)(with_loudness(one.callback))
    return made


app = build()


def main() -> None:
    """Run the command line: 0 fine, 1 a failed check, 2 bad input (one message, no traceback), 130 interrupted.

    1 also where a training or a GPU fails, or another process of the command is lost; 70, with a traceback, for a fault
    of ours.
    """
    from harness.models.errors import CheckpointError, TrainingError
    from harness.reports.errors import RecordError
    from harness.retrievers.errors import InputError
    from harness.runtime.processes import ProcessLost

    # The libraries that a command imports make hundreds of thousands of objects that live to its end. Looking through
    # them for garbage again and again, and once more at exit, takes a third of the time of a small run.
    gc.set_threshold(50_000, 20, 20)
    atexit.register(gc.freeze)
    from harness.retrievers.places import keep_fonts, prepare

    with contextlib.suppress(InputError):  # of no home at all, which is said when something is to be kept
        prepare()
        keep_fonts()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the parent process closed it
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  # to the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no reason to fail
    try:
        if wrong := [word for word in sys.argv if word.encode(errors="replace").decode() != word]:
            raise InputError(f"the word {wrong[0]!a} of the command is not UTF-8. Rename the file or folder.")
        try:
            app()
        finally:
            sys.stdout.flush()  # an error here is reported; at exit Python would end with 120
    except (InputError, RecordError, CheckpointError) as error:
        _fail(str(error))
    except (TrainingError, ProcessLost) as error:
        _fail(str(error), _FAILED)
    except BrokenPipeError:
        leave_output()
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        leave_output()
        if error.errno not in _DISK:
            _fault()
        where = error.filename or "in the results folder (--results), the cache (HARNESS_HOME) or standard output"
        _fail(f"{error.strerror}: {where}. Make room or permission there and run again.")
    except Exception as error:
        _fail_device(error)
        _fault()


def _fail_device(error: Exception) -> None:
    """End with one line where a GPU is full or lost."""
    if "torch" in sys.modules:
        from harness.retrievers.devices import failure

        if what := failure(error):
            leave_output()
            _fail(what, _FAILED)


def _fault() -> NoReturn:
    """End with the traceback of what is no mistake of the user's, and never as a check that failed."""
    traceback.print_exc()
    sys.exit(_FAULT)


def _fail(message: str, status: int = _BAD_INPUT) -> None:
    from harness.runtime import log
    from harness.runtime.processes import speaks

    if speaks():
        log.tell(f"error: {message}")
    sys.exit(status)
