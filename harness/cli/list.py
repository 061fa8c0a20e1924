"""`harness list`: what can be run, and what was."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Json

_KINDS = ("retrievers", "datasets", "metrics", "recipes", "runs")


def list_command(
    what: Annotated[str, typer.Argument(help=", ".join(_KINDS), metavar="|".join(_KINDS))],
    name: Annotated[str | None, typer.Argument(help="One retriever, to see all that is known of it.")] = None,
    results: Annotated[Path, typer.Option("--results", help="Where records are kept.")] = Path("results"),
    as_json: Json = False,
) -> None:
    """List what can be run, or what was."""
    from harness.cli import console
    from harness.retrievers.errors import InputError, unknown

    if what not in _KINDS:
        raise unknown("list", what, list(_KINDS))
    if name is not None and what != "retrievers":
        raise InputError(f"list {what} takes no name; `harness list retrievers NAME` does.")
    if what == "retrievers":
        console.retrievers_table(name, as_json)
    elif what == "datasets":
        console.datasets_table(as_json)
    elif what == "metrics":
        console.metrics_table(as_json)
    elif what == "recipes":
        console.recipes_table(as_json)
    else:
        console.runs_table(results, as_json)
