"""`harness compare`: which differences between runs are real."""

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import AllowShallow, Json, Qrels


def compare_command(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN_A RUN_B [...]",
            help="Records or run files, the baseline first; a record is a folder, or a hash or dataset/retriever under "
            "--results.",
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", help="The collection of run files. [the first record's]")
    ] = None,
    qrels: Qrels = None,
    metric: Annotated[str, typer.Option("--metric", "-m", help="The metric, such as NDCG@10.")] = "NDCG@10",
    correction: Annotated[
        str, typer.Option("--correction", help="For several systems: all, holm, max-t or none.")
    ] = "all",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the randomisation test.")] = 42,
    permutations: Annotated[
        int, typer.Option("--permutations", min=1, max=100_000_000, help="Sign flips; all 2^n where these are no more.")
    ] = 100_000,
    changes: Annotated[int, typer.Option("--changes", min=0, help="Queries to show that changed most.")] = 5,
    output: Annotated[str, typer.Option("--format", "-f", help="md, csv (without the queries) or json.")] = "md",
    fail_if_worse: Annotated[
        bool,
        typer.Option(
            "--fail-if-worse", help="Exit 1 where a run is below the baseline and max-T's p is below --alpha."
        ),
    ] = False,
    alpha: Annotated[float, typer.Option("--alpha", min=0, max=1, help="For --fail-if-worse.")] = 0.05,
    allow_shallow: AllowShallow = False,
    results: Annotated[Path, typer.Option("--results", help="Where records are kept.")] = Path("results"),
    as_json: Json = False,
) -> None:
    """Compare runs query by query: paired tests, corrections, effect sizes, and the queries that changed most."""
    from harness.analysis.comparison import compare_records
    from harness.reports import comparison_table as tables
    from harness.retrievers.errors import InputError, unknown
    from harness.runs.from_files import place_of, records_of
    from harness.runtime import log

    output = "json" if as_json else output
    if output not in ("md", "csv", "json"):
        raise unknown("--format", output, ["md", "csv", "json"])
    if correction not in tables.CORRECTIONS:
        raise unknown("--correction", correction, tables.CORRECTIONS)
    if len(runs or []) < 2:
        raise InputError(
            "a comparison needs a baseline and another run: harness compare RUN_A RUN_B [...]. "
            f"`harness list runs --results {results}` shows what there is."
        )
    with records_of(runs or [], results, [metric], dataset, qrels) as given:
        found = compare_records(given, metric, permutations, seed, changes, allow_shallow)
    for warning in found.warnings:
        log.logger.warning(warning)
    tested = found.significance
    folders = {name: place_of(record) for name, record in found.records.items()}
    if output == "md":
        text = tables.as_markdown(tested, found.metric, correction, found.judged, found.changes, found.texts)
    elif output == "csv":
        text = tables.as_csv(tested, found.metric, correction, found.judged, folders)
    else:
        text = tables.as_json(
            tested, found.metric, correction, found.judged, folders, found.changes, found.texts,
            collection=found.collection, seed=seed,
        )  # fmt: skip
    typer.echo(text, nl=False)
    how = f"all {tested.flips:,}" if tested.exact else f"{tested.flips:,} drawn with seed {seed}"
    log.logger.info(
        f"{found.collection}, {tested.queries:,} queries; baseline {tested.baseline}; two-sided paired tests; sign "
        f"flips: {how}; d_z is Cohen's, the interval Student's; detectable: the least difference that so many queries "
        "would show at 80 % power"
    )
    if fail_if_worse and (worse := [s for s in tested.systems if s.difference < 0 and s.p_max_t < alpha]):
        log.logger.error(
            f"below {tested.baseline} in {found.metric}: "
            + "; ".join(f"{s.name} by {-s.difference:.4f} (max-T p {s.p_max_t:.2g})" for s in worse)
        )
        raise typer.Exit(1)
