"""`harness adapt`: from an embedding model and texts to a hybrid."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.interrupt import stoppable


def adapt_command(
    base: Annotated[
        str, typer.Option("--base", help="The embedding model: a folder, a hub id or a packaged model. [required]")
    ] = "",
    corpus: Annotated[
        list[str] | None,
        typer.Option("--corpus", help="Texts: a collection, a .jsonl or .txt file, a folder; repeatable. [required]"),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-O", help="The folder to train into. [required]")] = None,
    minutes: Annotated[
        float,
        typer.Option("--minutes", min=0.5, help="How long training may take, about; the evaluation comes on top."),
    ] = 60.0,
    pairs: Annotated[
        list[str] | None,
        typer.Option("--pairs", help="A collection whose judged queries are learned from; repeatable."),
    ] = None,
    queries: Annotated[
        str | None,
        typer.Option("--queries", help="A file of your users' questions without answers (.txt, .jsonl; .gz, .xz)."),
    ] = None,
    query_generator: Annotated[
        str | None,
        typer.Option("--query-generator", help="A language model that writes queries, such as doc2query's T5."),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            "--teacher", help="The retriever whose scores are learned. [the base, weight 2, and bm25, weight 1]"
        ),
    ] = None,
    evaluate: Annotated[
        list[str] | None, typer.Option("--evaluate", help="A collection to measure on, before and after; repeatable.")
    ] = None,
    pretrain: Annotated[
        bool, typer.Option(help="Also pre-train on the texts if there is time; this changes the dense half, too.")
    ] = True,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads to use. [all cores]")] = None,
) -> None:
    """Turn an embedding model into a hybrid retriever for your texts, without labels, within a given time."""
    from harness.adapt.command import adapt
    from harness.adapt.wish import Wish
    from harness.retrievers.errors import InputError
    from harness.runtime import log

    missing = [name for name, given in (("--base", base), ("--corpus", corpus), ("--output", output)) if not given]
    if missing:
        raise InputError(
            f"{' and '.join(missing)} not given. An example: harness adapt --base dupmae-mini --corpus texts.jsonl "
            "--output adapted"
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("adapt is planned by one process. Start it without torchrun; `harness train` shares out.")
    assert output is not None
    wish = Wish(
        base, tuple(corpus or ()), output, minutes, tuple(pairs or ()), queries, query_generator, teacher,
        tuple(evaluate or ()), pretrain,
    )  # fmt: skip
    with stoppable() as stopping:
        found, hybrid = adapt(wish, ["harness", *sys.argv[1:]], log.logger.info, threads, stopping)
    typer.echo(found, nl=False)
    typer.echo(f"\nharness run --retriever dupmae --checkpoint {hybrid} --dataset COLLECTION")
