"""Options that several commands have: `-v` and `-q`, before the command's name or after it, and `--json`."""

import contextlib
import copy
import functools
import inspect
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from harness.runtime import log

HELP_NAMES = {"help_option_names": ["-h", "--help"]}
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more: what each phase took.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say less: warnings and errors alone, no progress.")]
Metrics = Annotated[
    list[str] | None,
    typer.Option("--metric", "-m", help="Such as NDCG@10, AP, P(rel=2)@5, or official; repeat for several."),
]
Qrels = Annotated[
    str | None, typer.Option("--qrels", help="Of run files: a file of judgments alone, in TREC's format or BEIR's.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output instead.")]
WithText = Annotated[
    bool, typer.Option("--queries-with-text", help="Leave out judged queries that have no text; else each scores 0.")
]
AllowShallow = Annotated[
    bool,
    typer.Option(
        "--allow-shallow", help="Also where a run was cut before the metric's rank and another was not; marked."
    ),
]

_asked: set[str] = set()  # of one command, before its name and after it


class Once(TyperCommand):
    """A command whose options of one value are given once: of two, the parser would keep the last in silence."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as ever. Raises InputError for an option of one value that is given twice."""
        if not ctx.resilient_parsing:
            self._refuse_repeated(ctx, args)
        return super().parse_args(ctx, args)

    def _refuse_repeated(self, ctx: Any, args: list[str]) -> None:
        from harness.retrievers.errors import InputError

        parser = self.make_parser(ctx)
        single = [p for p in self.get_params(ctx) if p.param_type_name == "option" and not (p.multiple or p.is_flag)]  # type: ignore[attr-defined]
        for option in single:
            twin = copy.copy(option)
            twin.multiple = True  # so that the parser keeps every value
            twin.add_to_parser(parser, ctx)
        values = parser.parse_args(args=list(args))[0]
        for option in single:
            given = values.get(option.name, ())
            if len(given) > 1:
                raise InputError(
                    f"{option.opts[0]} is given {_times(len(given))}, as {' and as '.join(given)}. Give it once."
                )


def _times(count: int) -> str:
    return "twice" if count == 2 else f"{count} times"


def begin() -> None:
    """Begin a command, of which nothing was asked yet."""
    _asked.clear()
    log.show()


def choose(verbose: bool, quiet: bool) -> None:
    """Set how much is said; neither leaves it as it is. Raises InputError for both, wherever they stand."""
    from harness.retrievers.errors import InputError

    _asked.update(word for word, given in (("verbose", verbose), ("quiet", quiet)) if given)
    if len(_asked) == 2:
        raise InputError("--verbose and --quiet contradict each other. Give one.")
    if verbose or quiet:
        log.show(logging.DEBUG if verbose else logging.WARNING)


def of_group(verbose: Verbose = False, quiet: Quiet = False) -> None:
    """The options of a command that has commands of its own, between its name and theirs."""
    choose(verbose, quiet)


def leave_output() -> None:
    """Drop unwritten output: Python would try to write it again at exit, fail, and change the status to 120."""
    with contextlib.suppress(ValueError, OSError):
        sys.stdout.flush()
        return
    with contextlib.suppress(ValueError, OSError), Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def with_loudness(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with both options added to its own."""

    @functools.wraps(command)
    def wrapped(*args: Any, verbose: bool, quiet: bool, **kwargs: Any) -> Any:
        choose(verbose, quiet)
        try:
            return command(*args, **kwargs)
        except BrokenPipeError:  # the reader has gone, such as `head`
            leave_output()
            raise typer.Exit(128 + signal.SIGPIPE) from None

    added = {"verbose": Verbose, "quiet": Quiet}
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for name, kind in added.items()
    ]
    signature = inspect.signature(command)
    wrapped.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *parameters])  # type: ignore[attr-defined]
    wrapped.__annotations__ = {**command.__annotations__, **added}
    return wrapped
