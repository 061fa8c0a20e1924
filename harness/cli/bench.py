"""`harness bench`: ours and its peer, in turn, in one process."""

import signal
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.interrupt import interruptible


def bench_command(
    what: Annotated[
        list[str] | None, typer.Argument(help="One or several benchmarks.", metavar="search|encode|collate|score|gpu")
    ] = None,
    output: Annotated[Path | None, typer.Option("--json", help="File for the figures; replaced as a whole.")] = None,
    rounds: Annotated[int | None, typer.Option("--rounds", min=1, help="Rounds of each comparison. [5]")] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Threads to use. [all cores; collate: 1]")
    ] = None,
    docs: Annotated[int | None, typer.Option("--docs", min=1, help="search: documents.")] = None,
    queries: Annotated[
        int | None, typer.Option("--queries", min=1, help="search, score: queries. [score: 6980]")
    ] = None,
    k: Annotated[
        int | None, typer.Option("--k", min=1, help="search, score: results of a query. [score: 1000]")
    ] = None,
    model: Annotated[Path | None, typer.Option("--model", help="encode, search: a checkpoint's folder.")] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", help="encode, search: a collection. [encode: mini]")
    ] = None,
    passages: Annotated[int | None, typer.Option("--passages", min=1, help="encode: how many of them. [256]")] = None,
    lexical: Annotated[
        int | None, typer.Option("--lexical", min=1, help="encode: terms kept. [as the checkpoint says, else 384]")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option("--max-length", min=1, help="encode: tokens of a passage. [as the checkpoint says]")
    ] = None,
    batch: Annotated[int | None, typer.Option("--batch", min=1, help="collate: texts of a batch. [64]")] = None,
    length: Annotated[int | None, typer.Option("--length", min=3, help="collate: tokens of a text. [150]")] = None,
    minutes: Annotated[float | None, typer.Option("--minutes", min=0.1, help="gpu: for all its parts. [8.5]")] = None,
    tiny: Annotated[bool | None, typer.Option("--tiny", help="gpu: sizes that only try the command.")] = None,
) -> None:
    """Compare our speed with a peer's: ours/peer of each round, as min, median and max; or measure a GPU."""
    from harness.bench.command import bench
    from harness.bench.options import BenchOptions

    options = BenchOptions(
        model=model, dataset=dataset, passages=passages, lexical=lexical, max_length=max_length, batch=batch,
        length=length, docs=docs, queries=queries, k=k, threads=threads, rounds=rounds, minutes=minutes, tiny=tiny,
    )  # fmt: skip
    with interruptible("nothing was written"):
        found = bench(what or [], options, output, typer.echo)
    if stopped := found.get("gpu", {}).get("stopped"):
        raise typer.Exit(128 + signal.Signals[stopped])
