"""`harness list`: what can be run, and what was."""

from pathlib import Path
from typing import Annotated

import typer


def list_command(
    what: Annotated[
        str, typer.Argument(help="retrievers, datasets, recipes or runs", metavar="retrievers|datasets|recipes|runs")
    ],
    results: Annotated[Path, typer.Option("--results", help="Where records are kept.")] = Path("results"),
) -> None:
    """List what can be run, or what was."""
    from harness.cli import console
    from harness.retrievers.errors import unknown

    if what == "retrievers":
        console.retrievers_table()
    elif what == "datasets":
        console.datasets_table()
    elif what == "recipes":
        console.recipes_table()
    elif what == "runs":
        console.runs_table(results)
    else:
        raise unknown("list", what, ["retrievers", "datasets", "recipes", "runs"])
