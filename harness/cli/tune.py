"""`harness tune`: a retriever's options, or the weights of a fusion, chosen on one split for another."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.options import Json, Metrics, WithText


def tune_command(
    retriever: Annotated[
        list[str] | None,
        typer.Option("--retriever", "-r", help="Of one its options are tuned, of several the weights of their fusion."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", help="The split that chooses, such as beir/scifact/train.")
    ] = None,
    evaluate: Annotated[
        list[str] | None,
        typer.Option("--evaluate", "-e", help="Collection to run the best on, with another split; repeatable."),
    ] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option("--grid", "-g", help="NAME=VALUE,VALUE,… of an option; repeatable. [bm25: k1 and b, 5 x 5]"),
    ] = None,
    by: Annotated[str, typer.Option("--by", help="The metric that chooses.")] = "NDCG@10",
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="NAME=VALUE of an option that stays as it is.")
    ] = None,
    step: Annotated[float | None, typer.Option("--step", help="Several retrievers: of the weights. [0.1]")] = None,
    norm: Annotated[
        str | None, typer.Option("--norm", help="Several retrievers: min-max, z-score, sum, rank or none. [min-max]")
    ] = None,
    metric: Metrics = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="Results of a query in the records.")] = 1000,
    queries_with_text: WithText = False,
    results: Annotated[Path, typer.Option("--results", help="Where records are kept.")] = Path("results"),
    threads: Annotated[int | None, typer.Option("--threads", help="Threads to use. [all cores]")] = None,
    as_json: Json = False,
) -> None:
    """Choose options or fusion weights on one split, run the best on others, and keep the grid in their records."""
    from harness.retrievers.errors import InputError
    from harness.runs import tuning
    from harness.runs.config import build, pairs

    names = retriever or []
    if not names or dataset is None:
        raise InputError(
            "give --retriever NAME and --dataset, the split that chooses: harness tune -r bm25 -d PATH/dev."
        )
    fixed = pairs(option or [])
    values: dict[str, Any] = {
        "retrievers": names,
        "datasets": evaluate or [dataset],
        "metrics": metric or None,
        "top_k": top_k,
        "queries_with_text": queries_with_text,
        "results": results,
        "threads": threads,
    }
    config = build(values, "harness tune").model_copy(update={} if evaluate else {"datasets": []})
    command = ["harness", *sys.argv[1:]]

    from harness.cli.console import tuning_table

    points = tuning.typed(grid or [])
    found = tuning.tune(names, dataset, by, config, command, grid=points, fixed=fixed, step=step, norm=norm)
    tuning_table(found, as_json)
