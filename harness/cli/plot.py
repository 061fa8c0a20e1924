"""`harness plot`: pictures from records, as PNG or SVG."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import AllowShallow, Qrels

plot_app = typer.Typer(
    help="Draw pictures from records, as PNG or SVG.", no_args_is_help=True, rich_markup_mode=None, add_completion=False
)
Output = Annotated[Path, typer.Option("--output", "-O", help="The picture: FILE.png or FILE.svg.")]
Metric = Annotated[str, typer.Option("--metric", "-m", help="The metric to draw.")]
_WHICH = "a folder, or a hash or dataset/retriever under --results; or a run file"
Folders = Annotated[
    list[str] | None,
    typer.Argument(help=f"Records: {_WHICH}; all records if none is named.", metavar="[RECORD]..."),
]
Results = Annotated[Path, typer.Option("--results", help="Where records are kept.")]
Datasets = Annotated[
    list[str] | None,
    typer.Option("--dataset", "-d", help="Only of this collection; repeatable. Of run files: what they are runs of."),
]
Retrievers = Annotated[list[str] | None, typer.Option("--retriever", "-r", help="Only of this retriever; repeatable.")]
Labels = Annotated[
    list[str] | None,
    typer.Option(
        "--label", help="NAME=TEXT: what to call a system, by either of its names, or the record FOLDER; repeatable."
    ),
]
_RESULTS = Path("results")


@plot_app.command("bars")
def bars_command(
    output: Output,
    folders: Folders = None,
    results: Results = _RESULTS,
    dataset: Datasets = None,
    retriever: Retrievers = None,
    metric: Metric = "NDCG@10",
    label: Labels = None,
    qrels: Qrels = None,
    allow_shallow: AllowShallow = False,
) -> None:
    """Scores by collection with 95 % intervals, beside what is published."""
    from harness.analysis import plots
    from harness.analysis.plot_selection import chosen

    with chosen(folders, results, dataset, retriever, label, [metric], qrels) as named:
        plots.bars(named, metric, output, allow_shallow)
    _wrote(output)


@plot_app.command("cost")
def cost_command(
    output: Output,
    folders: Folders = None,
    results: Results = _RESULTS,
    dataset: Datasets = None,
    retriever: Retrievers = None,
    metric: Metric = "NDCG@10",
    label: Labels = None,
    qrels: Qrels = None,
    allow_shallow: AllowShallow = False,
) -> None:
    """Scores against bytes per document, in both countings, and against queries per second."""
    from harness.analysis import plots
    from harness.analysis.plot_selection import chosen

    with chosen(folders, results, dataset, retriever, label, [metric], qrels) as named:
        plots.cost(named, metric, output, allow_shallow)
    _wrote(output)


@plot_app.command("differences")
def differences_command(
    first: Annotated[str, typer.Argument(help=f"A record: {_WHICH}.", metavar="RECORD_A")],
    second: Annotated[str, typer.Argument(help="The record to hold against it.", metavar="RECORD_B")],
    output: Output,
    results: Results = _RESULTS,
    metric: Metric = "NDCG@10",
    label: Labels = None,
    dataset: Annotated[str | None, typer.Option("--dataset", "-d", help="The collection of run files.")] = None,
    qrels: Qrels = None,
    allow_shallow: AllowShallow = False,
) -> None:
    """The difference B - A of each query, sorted, with wins, ties and losses."""
    from harness.analysis import plots
    from harness.runs.from_files import records_of

    with records_of([first, second], results, [metric], dataset, qrels) as pair:
        plots.differences(pair, metric, label, output, allow_shallow)
    _wrote(output)


@plot_app.command("recall")
def recall_command(
    output: Output,
    folders: Folders = None,
    results: Results = _RESULTS,
    dataset: Datasets = None,
    retriever: Retrievers = None,
    cutoffs: Annotated[
        str | None,
        typer.Option("--cutoffs", help="Such as 1,10,100: score the runs at these. [the R@k of the records]"),
    ] = None,
    label: Labels = None,
    qrels: Qrels = None,
    allow_shallow: AllowShallow = False,
) -> None:
    """Recall by cutoff, from the records' R@k, or from their runs and the collections' judgments."""
    from harness.analysis import plots
    from harness.analysis.plot_selection import chosen

    with chosen(folders, results, dataset, retriever, label, plots.recalls(cutoffs), qrels) as named:
        plots.recall(named, cutoffs, output, allow_shallow)
    _wrote(output)


@plot_app.command("ablation")
def ablation_command(
    table: Annotated[Path, typer.Argument(help="table3.csv of `harness ablate`, or the folder that holds it.")],
    output: Output,
    metric: Metric = "MRR@10",
    each: Annotated[
        bool, typer.Option("--each", help="A panel for each collection, not for each kind: in domain, zero-shot.")
    ] = False,
) -> None:
    """The rows of Table 3, measured in domain and zero-shot, and published."""
    from harness.reports.plots import ablation as ablation_plot
    from harness.reports.plots import style

    style.check_output(output)
    path = table / "table3.csv" if table.is_dir() else table
    with style.styled():
        style.save(ablation_plot.ablation(ablation_plot.read_cells(path, metric), metric, each), output)
    _wrote(output)


@plot_app.command("curves")
def curves_command(
    stage: Annotated[Path, typer.Argument(help="A stage of `harness train`, or its metrics.jsonl.")], output: Output
) -> None:
    """Losses and validation scores of one training stage."""
    from harness.reports.plots import training_curves

    log = stage / "metrics.jsonl" if stage.is_dir() else stage
    training_curves.draw(log, output, "/".join(log.absolute().parent.parts[-2:]))
    _wrote(output)


def _wrote(output: Path) -> None:
    typer.echo(f"wrote {output}")
