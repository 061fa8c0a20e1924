"""The command line. Nothing heavy is imported before a command runs: `harness --help` answers at once."""

import errno
import io
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.ablate import ablate_command
from harness.cli.bench import bench_command
from harness.cli.card import card_command
from harness.cli.check import check_command
from harness.cli.compare import compare_command
from harness.cli.dissect import dissect_command
from harness.cli.export import export_command
from harness.cli.fuse import fuse_command
from harness.cli.plot import plot_app
from harness.cli.score import score_command
from harness.cli.table import table_command
from harness.cli.train import train_command

app = typer.Typer(
    name="harness",
    help="Evaluate retrievers: one command from a retriever and a collection to a scored, reproducible record.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
_FAILED, _BAD_INPUT, _INTERRUPTED = 1, 2, 130
# what a full, forbidden or broken disk says; everything else that is an OSError is a bug of ours
_DISK = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO),
    *(errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR),
}


def _print_version(wanted: bool) -> None:
    if wanted:
        from harness import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before the command; `--version` is dealt with by its callback."""


@app.command("run")
def run_command(
    retriever: Annotated[
        list[str] | None, typer.Option("--retriever", "-r", help="Retriever; repeat for several.")
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            "--dataset", "-d", help="Collection: a name, an ir_datasets id or PATH[/split]; repeatable. [mini]"
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="YAML file with the same settings.")] = None,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", "-m", help="Metric such as NDCG@10; repeat for several.")
    ] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", "-k", help="Results kept for a query. [1000]")] = None,
    fields: Annotated[str | None, typer.Option("--fields", help="bm25: flat or multifield. [flat]")] = None,
    k1: Annotated[float | None, typer.Option("--k1", help="bm25: term-frequency saturation. [0.9]")] = None,
    b: Annotated[float | None, typer.Option("--b", help="bm25: length normalisation. [0.4]")] = None,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", help="neural: folder or hub id of the weights.")
    ] = None,
    dense: Annotated[int | None, typer.Option("--dense", help="neural: width of the dense half; 0 for none.")] = None,
    lexical: Annotated[
        int | None, typer.Option("--lexical", help="neural: terms kept of a passage; 0 for none.")
    ] = None,
    pooling: Annotated[str | None, typer.Option("--pooling", help="neural: cls or mean.")] = None,
    similarity: Annotated[str | None, typer.Option("--similarity", help="neural: dot or cosine.")] = None,
    max_length: Annotated[
        int | None, typer.Option("--max-length", help="neural: tokens of a passage, and of a query.")
    ] = None,
    query_length: Annotated[int | None, typer.Option("--query-length", help="neural: tokens of a query.")] = None,
    engine: Annotated[
        str | None, typer.Option("--engine", help="neural: auto, compiled, torch or faiss. [auto]")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="neural: auto, cpu or cuda. [auto]")] = None,
    precision: Annotated[str | None, typer.Option("--precision", help="neural: auto, fp32 or bf16. [auto]")] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="NAME=VALUE for any other option of a retriever.")
    ] = None,
    rerank: Annotated[
        str | None, typer.Option("--rerank", help="Cross-encoder, folder or hub id, that re-ranks each retriever.")
    ] = None,
    depth: Annotated[int | None, typer.Option("--depth", help="Documents of a query that are re-ranked. [100]")] = None,
    titles: Annotated[
        Path | None, typer.Option("--titles", help="Titles for a corpus without them: document id, tab, title.")
    ] = None,
    results: Annotated[Path | None, typer.Option("--results", help="Where records are kept. [results]")] = None,
    threads: Annotated[int | None, typer.Option("--threads", help="Threads to use. [all cores]")] = None,
    force: Annotated[bool, typer.Option("--force", help="Redo runs that are finished.")] = False,
) -> None:
    """Run retrievers on collections, score them, and leave a record of each."""
    from harness.retrievers.errors import InputError
    from harness.runs.config import build, pairs, read_yaml, reranked_by, share_options

    values = read_yaml(config) if config else {}
    given: dict[str, Any] = {
        "datasets": dataset,
        "metrics": metric,
        "top_k": top_k,
        "titles": titles,
        "results": results,
        "threads": threads,
    }
    values |= {name: value for name, value in given.items() if value is not None}
    if force:
        values["force"] = True
    flags: dict[str, Any] = {
        "fields": fields,
        "k1": k1,
        "b": b,
        "checkpoint": checkpoint,
        "dense": dense,
        "lexical": lexical,
        "pooling": pooling,
        "similarity": similarity,
        "max_length": max_length,
        "query_length": query_length,
        "engine": engine,
        "device": device,
        "precision": precision,
    }
    options = {name: value for name, value in flags.items() if value is not None}
    others = pairs(option or [])
    if twice := sorted(options.keys() & others.keys()):
        raise InputError(f"{', '.join(twice)}: given by its own flag and by --option. Give it once.")
    options |= others
    if retriever:
        values["retrievers"] = reranked_by(rerank, depth, share_options(retriever, options))
    elif rerank is not None or depth is not None:
        raise InputError("--rerank and --depth need --retriever; in a --config they are written under a retriever.")
    elif options:
        raise InputError(
            f"{', '.join(options)}: options of a retriever need --retriever; in a --config they are written there."
        )
    if "retrievers" not in values and config is None:
        raise InputError(
            "no retriever named. Give --retriever NAME or --config FILE; `harness list retrievers` shows them."
        )

    from harness.cli.console import outcomes_table
    from harness.runs.runner import iterate

    finished = []
    try:
        for outcome in iterate(build(values, str(config) if config else "harness run"), ["harness", *sys.argv[1:]]):
            finished.append(outcome)
    except KeyboardInterrupt:  # here, since Typer would turn it into a silent exit
        if os.environ.get("RANK", "0") == "0":
            typer.echo("interrupted; finished runs are kept", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    finally:
        if finished:
            outcomes_table(finished)


app.command("train")(train_command)
app.command("ablate")(ablate_command)
app.command("bench")(bench_command)
app.command("score")(score_command)
app.command("fuse")(fuse_command)
app.command("export")(export_command)
app.command("card")(card_command)
app.command("dissect")(dissect_command)
app.add_typer(plot_app, name="plot")
app.command("table")(table_command)
app.command("check")(check_command)
app.command("compare")(compare_command)


@app.command("list")
def list_command(
    what: Annotated[
        str, typer.Argument(help="retrievers, datasets, recipes or runs", metavar="retrievers|datasets|recipes|runs")
    ],
    results: Annotated[Path, typer.Option("--results", help="Where records are kept.")] = Path("results"),
) -> None:
    """List what can be run, or what was."""
    import harness.cli.console as console
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


def main() -> None:
    """Run the command line: 0 fine, 1 a failed check, 2 bad input (one message, no traceback), 130 interrupted.

    1 also where another process of the command is lost.
    """
    from harness.models.errors import CheckpointError, TrainingError
    from harness.reports.errors import RecordError
    from harness.retrievers.errors import InputError
    from harness.runtime.processes import ProcessLost

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no reason to fail
    try:
        app()
    except (InputError, RecordError, CheckpointError) as error:
        _fail(str(error))
    except (TrainingError, ProcessLost) as error:
        _fail(str(error), _FAILED)
    except OSError as error:
        if error.errno not in _DISK:
            raise
        where = error.filename or "in the results folder (--results), the cache (HARNESS_HOME) or standard output"
        _fail(f"{error.strerror}: {where}. Make room or permission there and run again.")


def _fail(message: str, status: int = _BAD_INPUT) -> None:
    from harness.runtime.processes import speaks

    if speaks():
        typer.echo(f"error: {message}", err=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
