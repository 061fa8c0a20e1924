"""`harness dissect`: what each half of a hybrid checkpoint finds, and quality against K."""

import os
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.interrupt import interruptible
from harness.cli.options import Json, WithText


def dissect_command(
    checkpoint: Annotated[str, typer.Option("--checkpoint", help="Folder or hub id of a hybrid checkpoint.")] = "",
    dataset: Annotated[
        list[str] | None,
        typer.Option("--dataset", "-d", help="Collection: a name, an id or PATH[/split]; repeatable. [mini]"),
    ] = None,
    k_terms: Annotated[
        str | None, typer.Option("--k-terms", help="Terms to keep of a passage, such as 16,32,64. [K, K/2, …, 8]")
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", "-m", help="Metric; repeat for several. [NDCG@10, MRR@10, R@100]"),
    ] = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="Results kept for a query.")] = 1000,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-O", help="Folder for scores.csv, queries.csv and quality.png and .svg."),
    ] = None,
    lexical: Annotated[
        int | None, typer.Option("--lexical", min=1, help="K of the store. [as the checkpoint says]")
    ] = None,
    titles: Annotated[
        Path | None, typer.Option("--titles", help="Titles for a corpus without them: document id, tab, title.")
    ] = None,
    queries_with_text: WithText = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option("--precision", help="auto, fp32 or bf16.")] = "auto",
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads to use. [all cores]")] = None,
    as_json: Json = False,
) -> None:
    """Take a hybrid apart: each half alone, both, and with fewer terms, from one encoding."""
    from harness.datasets.loader import resolve
    from harness.metrics.names import parse_metrics
    from harness.models import hybrid
    from harness.reports.files import check_folder
    from harness.retrievers.errors import InputError
    from harness.retrievers.neural import views
    from harness.retrievers.neural.retriever import Neural
    from harness.retrievers.places import cache
    from harness.runs.config import RetrieverSpec, make_retriever
    from harness.runtime import log
    from harness.runtime.job import HarnessJob

    if not checkpoint:
        raise InputError(
            "no checkpoint named. Give --checkpoint FOLDER_OR_HUB_ID of a hybrid; `harness train` makes one."
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("harness dissect runs in one process. Start it without torchrun.")
    metrics = parse_metrics(metric or ("NDCG@10", "MRR@10", "R@100"))
    if metric is None:
        metrics = [m for m in metrics if (m.cutoff or 0) <= top_k] or parse_metrics([f"NDCG@{top_k}"])
    if deep := [str(m) for m in metrics if (m.cutoff or 0) > top_k]:
        raise InputError(f"{', '.join(deep)} cannot be measured on runs of {top_k:,} results: raise --top-k.")
    widths = None if k_terms is None else _widths(k_terms)
    if output is not None:
        check_folder(output)
    options = {"checkpoint": checkpoint, "lexical": lexical, "device": device, "precision": precision}
    retriever = make_retriever(RetrieverSpec(name="dupmae", options=options))
    assert isinstance(retriever, Neural)
    names = dict.fromkeys(dataset or ["mini"])
    datasets = [part for name in names for part in resolve(name, titles, queries_with_text)]
    if spec := hybrid.read(retriever.folder):  # of a checkpoint of ours, before torch is imported
        views.check(spec.replace(lexical=lexical), widths or [], retriever.folder)
    retriever.check()
    from harness.analysis.dissection import dissect
    from harness.cli.console import print_json
    from harness.reports.dissection import as_facts, as_markdown, write

    job, facts = HarnessJob(cache(), threads), []
    with interruptible("encoded shards are kept"):
        for number, one in enumerate(datasets):
            found = dissect(retriever, one, widths, metrics, top_k, job)
            if as_json:
                facts.append(as_facts(found))
            else:
                typer.echo("\n" * (number > 0) + as_markdown(found), nl=False)
            if output is not None:
                place = output if len(datasets) == 1 else output / one.name.replace("/", "-")
                for path in write(found, place):
                    log.logger.info(f"wrote {path}")
        if as_json:
            print_json(facts)


def _widths(text: str) -> list[int]:
    """Widths such as `16,32,64`. Raises InputError for anything else."""
    from harness.retrievers.errors import InputError

    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and int(word) > 0 for word in words):
        raise InputError(f"--k-terms {text!r}: want numbers from 1 up with commas between them, such as 16,32,64.")
    return sorted({int(word) for word in words})
