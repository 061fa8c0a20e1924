"""`harness fuse`: several runs become one."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.options import Json, Metrics, Qrels, WithText


def fuse_command(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN RUN [...]", help="Records (a folder, or a hash under --results) or run files."),
    ] = None,
    method: Annotated[str, typer.Option("--method", help="rrf (reciprocal rank fusion) or weighted.")] = "rrf",
    k: Annotated[int | None, typer.Option("--rrf-k", help="rrf: 1 / (k + rank). [60]")] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", "-w", help="weighted: one for each run, such as 0.6,0.4. [all 1]")
    ] = None,
    norm: Annotated[
        str | None,
        typer.Option("--norm", help="weighted: min-max, z-score, sum, rank or none. [min-max]"),
    ] = None,
    absent: Annotated[
        str | None,
        typer.Option("--absent", help="weighted: what a document gets that a run lacks: zero or least. [by the norm]"),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", help="The collection, where no record says it.")
    ] = None,
    qrels: Qrels = None,
    metric: Metrics = None,
    top_k: Annotated[int | None, typer.Option("--top-k", "-k", help="Results kept for a query. [1000]")] = None,
    queries_with_text: WithText = False,
    results: Annotated[Path, typer.Option("--results", help="Where records are kept.")] = Path("results"),
    force: Annotated[bool, typer.Option("--force", help="Redo what is finished.")] = False,
    as_json: Json = False,
) -> None:
    """Fuse runs of one collection, score the result, and leave a record that names its parts."""
    from harness.cli.console import outcomes_table
    from harness.runs.config import build
    from harness.runs.external import judged_by
    from harness.runs.fusion import LABEL, fuse_parts, numbers, recipe

    named = judged_by(dataset, qrels)
    how = recipe(method, k, None if weights is None else numbers(weights), norm, absent)
    values: dict[str, Any] = {
        "retrievers": [LABEL],
        "datasets": [named or "mini"],  # replaced by what the records say
        "metrics": metric or None,
        "queries_with_text": queries_with_text,
        "results": results,
        "force": force,
    } | ({} if top_k is None else {"top_k": top_k})
    config = build(values, "harness fuse")
    outcomes_table([fuse_parts(runs or [], how, config, ["harness", *sys.argv[1:]], named)], as_json)
