"""`harness score`: another tool's run, scored by our rules."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.options import Json, Metrics, Qrels, WithText


def score_command(
    run: Annotated[Path, typer.Argument(metavar="RUNFILE", help="A run: TREC, MS MARCO, JSON or Parquet.")],
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", help="The collection that it is a run of. [mini]")
    ] = None,
    qrels: Qrels = None,
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="What its record goes by. [the tag in the file]")
    ] = None,
    metric: Metrics = None,
    top_k: Annotated[int | None, typer.Option("--top-k", "-k", help="Results of a query that count. [1000]")] = None,
    titles: Annotated[
        Path | None, typer.Option("--titles", help="Titles for a corpus without them: document id, tab, title.")
    ] = None,
    queries_with_text: WithText = False,
    check_documents: Annotated[
        bool, typer.Option("--check-documents", help="Read the corpus, to see that it has the run's documents.")
    ] = False,
    results: Annotated[Path, typer.Option("--results", help="Where records are kept.")] = Path("results"),
    force: Annotated[bool, typer.Option("--force", help="Redo what is finished.")] = False,
    as_json: Json = False,
) -> None:
    """Score a run that another tool made, and leave a record of it."""
    from harness.cli.console import outcomes_table
    from harness.runs.config import build
    from harness.runs.external import given, judged_by, label_of, score_given

    found = given(run)
    values: dict[str, Any] = {
        "retrievers": [label_of(name, found)],
        "datasets": [judged_by(dataset, qrels, check_documents) or "mini"],
        "metrics": metric or None,
        "titles": titles,
        "queries_with_text": queries_with_text,
        "results": results,
        "force": force,
    } | ({} if top_k is None else {"top_k": top_k})
    config = build(values, "harness score")
    outcomes_table([score_given(config, found, ["harness", *sys.argv[1:]], check_documents)], as_json)
