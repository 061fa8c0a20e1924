"""`harness check`: measured against stored scores, for CI."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.interrupt import interruptible
from harness.cli.options import Json

if TYPE_CHECKING:
    from harness.runs.external import Given


def check_command(
    baseline: Annotated[
        Path | None, typer.Option("--baseline", "-B", help="YAML file of expected scores. [the one of mini]")
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Write the baseline anew from what is measured, and show what changes.")
    ] = False,
    junit: Annotated[Path | None, typer.Option("--junit", help="Also write JUnit XML, for CI systems.")] = None,
    retriever: Annotated[
        list[str] | None,
        typer.Option("--retriever", "-r", help="Only this one's entries; with --update a new entry as well."),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option("--dataset", "-d", help="Only this collection's entries; of a new entry, its collection. [mini]"),
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="--update: NAME=VALUE, an option of the retriever.")
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", "-m", help="--update: metrics to expect. [NDCG@10, MRR@10, R@100]")
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option("--tolerance", min=0, max=1, help="--update: how far a mean may be off. [0.0005]")
    ] = None,
    queries_with_text: Annotated[
        bool, typer.Option("--queries-with-text", help="--update: leave out judged queries that have no text.")
    ] = False,
    entry: Annotated[str | None, typer.Option("--entry", help="Only this entry, by its name.")] = None,
    run: Annotated[Path | None, typer.Option("--run", help="A run file to check as what one entry gives now.")] = None,
    results: Annotated[
        Path | None, typer.Option("--results", help="Keep the records there. [a temporary folder]")
    ] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, max=1024, help="Threads. [all cores]")] = None,
    show: Annotated[int, typer.Option("--show", min=0, help="Queries to show that flipped, of each entry.")] = 20,
    as_json: Json = False,
) -> None:
    """Run what a baseline names, and compare: 0 as expected, 1 a score or a top 10 changed, 2 other inputs."""
    from harness.checks.baseline_file import EMBEDDED, read
    from harness.reports import files
    from harness.retrievers.errors import InputError
    from harness.runtime import log

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("harness check runs as one process. Start it without torchrun or accelerate launch.")
    path = baseline or EMBEDDED
    if results is not None:
        files.check_folder(results)
    if update:
        _check_update(junit, run or entry, as_json)
        _update(
            path, baseline is None, retriever, dataset, option, metric, tolerance, results, threads, queries_with_text
        )
        return
    if given := [
        name
        for name, value in (
            ("option", option),
            ("metric", metric),
            ("tolerance", tolerance),
            ("queries-with-text", queries_with_text or None),
        )
        if value is not None
    ]:
        raise InputError(f"--{', --'.join(given)}: only with --update; a check takes them from the baseline.")
    if junit is not None:
        files.check_output(junit, make=True)
        if junit.resolve() in (path.resolve(), path.with_suffix(".csv").resolve()):
            raise InputError(f"--junit {junit} is the baseline itself, which it would overwrite. Name another file.")
    found = read(path).only(retriever or [], dataset or []).named(entry)
    content = _given(run, [entry.name for entry in found.entries], results)
    from harness.checks.check import check
    from harness.reports import checks

    done = []
    with interruptible("nothing was written"):
        for result in check(found, found.entries, results, threads, content):
            done.append(result)
            for note in result.notes:
                log.note(note)
            if len(result.flips) > show:
                more = len(result.flips) - show
                log.note(f"{result.entry}: {more:,} more queries flipped; --show {len(result.flips)}")
    typer.echo(checks.as_json(done) if as_json else checks.as_markdown(done, show), nl=False)
    if junit is not None:
        files.write_whole(junit, checks.as_junit(done))
    findings = [finding for result in done for finding in result.findings]
    other = [f for f in findings if f.status is not checks.Status.OK]
    log.logger.info(
        f"{len(findings):,} checks of {len(done):,} entries in {path}: "
        + (f"{len(other):,} not as expected" if other else "all as expected")
    )
    raise typer.Exit(checks.exit_status(done))


def _check_update(junit: Path | None, one: Path | str | None, as_json: bool) -> None:
    """Raise InputError for what an update does not take."""
    from harness.retrievers.errors import InputError

    if junit is not None:
        raise InputError("--junit is for a check; with --update there is nothing to pass or fail. Leave one out.")
    if one is not None:
        raise InputError("--run and --entry are of a check; --update runs the retrievers of -r and -d. Leave one out.")
    if as_json:
        raise InputError("--json is of a check; --update shows its changes as a table. Leave one out.")


def _given(run: Path | None, entries: list[str], results: Path | None) -> "Given | None":
    """The run in a file. Raises InputError where it is to leave a record, or there is not one entry for it."""
    from harness.retrievers.errors import InputError
    from harness.runs.external import given

    if run is None:
        return None
    if results is not None:
        raise InputError("--run leaves no record. Leave out --results.")
    if len(entries) != 1:
        raise InputError(
            f"--run is checked as one entry, and there are {len(entries)}: {', '.join(entries)}. Name one by --entry."
        )
    return given(run)


def _update(
    path: Path,
    embedded: bool,
    retriever: list[str] | None,
    dataset: list[str] | None,
    option: list[str] | None,
    metric: list[str] | None,
    tolerance: float | None,
    results: Path | None,
    threads: int | None,
    queries_with_text: bool,
) -> None:
    from harness.checks import update
    from harness.checks.baseline_file import EMBEDDED, read
    from harness.metrics.names import parse_metrics
    from harness.reports.files import check_output
    from harness.reports.markdown import table
    from harness.retrievers.errors import InputError
    from harness.runs.config import pairs, share_options
    from harness.runtime import log

    if embedded and not (EMBEDDED.resolve().parents[3] / "pyproject.toml").is_file():
        raise InputError("the baseline of mini is the package's own. Name yours: --baseline FILE.")
    if path.suffix not in (".yaml", ".yml"):
        raise InputError(f"--baseline {path}: want a name that ends in .yaml; a .csv of the same name goes beside it.")
    for file in (path, path.with_suffix(".csv")):
        check_output(file, make=True)
    if option and not retriever:
        raise InputError("--option is an option of a retriever: it needs --retriever.")
    found = read(path) if path.exists() or not retriever else update.empty(path)
    if retriever:
        entries = update.wanted(
            found, share_options(retriever, pairs(option or [])), dataset or ["mini"], queries_with_text
        )
    else:
        entries = list(found.only([], dataset or []).entries)
    metrics = [str(name) for name in parse_metrics(metric)] if metric else None
    with interruptible("nothing was written"):
        changes, written = update.update(found, entries, results, threads, metrics, tolerance)
    if changes:
        typer.echo(table(["entry", "what", "before", "after"], changes, ["before", "after"]), nl=False)
    log.logger.info(f"{'wrote' if written else 'nothing changes in'} {path} and {path.with_suffix('.csv')}")
