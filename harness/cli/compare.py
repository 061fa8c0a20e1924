"""`harness compare`: which differences between runs are real."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import AllowShallow, Json, Qrels

if TYPE_CHECKING:
    from harness.reports.suite_table import OverSuite


def compare_command(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN_A RUN_B [...]",
            help="Records or run files, the baseline first; a record is a folder, or a hash or dataset/retriever under "
            "--results. Or SUITE/RETRIEVER of each, to compare over a suite.",
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
    from harness.analysis.suite_comparison import compare_means
    from harness.reports import comparison_table as tables
    from harness.retrievers.errors import InputError, unknown
    from harness.runs.from_files import place_of, records_of
    from harness.runs.suites import means_of as suite_means
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
    if means := suite_means(runs or [], results):
        if dataset is not None or qrels is not None or correction != "all":
            raise InputError("--dataset, --qrels and --correction are not of suites. Leave them out.")
        over = compare_means(means, metric, permutations, seed, allow_shallow)
        _show_suite(over, output, seed)
        _fail_below(fail_if_worse, over.systems[0], over.metric, _worse_over(over, alpha))
        return
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
    worse = [(s.name, s.difference, s.p_max_t) for s in tested.systems if s.difference < 0 and s.p_max_t < alpha]
    _fail_below(fail_if_worse, tested.baseline, found.metric, worse)


def _fail_below(asked: bool, baseline: str, metric: str, worse: Sequence[tuple[str, float, float]]) -> None:
    """Exit with 1 where that was asked for and systems (name, difference, p) are below the baseline."""
    from harness.runtime import log

    if asked and worse:
        log.logger.error(
            f"below {baseline} in {metric}: "
            + "; ".join(f"{name} by {-difference:.4f} (max-T p {p:.2g})" for name, difference, p in worse)
        )
        raise typer.Exit(1)


def _worse_over(over: "OverSuite", alpha: float) -> list[tuple[str, float, float]]:
    """The systems whose mean over the collections is below the baseline's."""
    rows = zip(over.systems[1:], over.whole.differences, strict=True)
    return [(name, d.value, d.corrected) for name, d in rows if d.value < 0 and d.corrected < alpha]


def _show_suite(over: "OverSuite", output: str, seed: int) -> None:
    from harness.reports import suite_table
    from harness.runtime import log

    if output == "json":
        text = suite_table.as_json(over, seed=seed)
    else:
        text = suite_table.as_markdown(over) if output == "md" else suite_table.as_csv(over)
    typer.echo(text, nl=False)
    log.logger.info(
        f"{over.suite}, {over.counted}, {over.metric}; baseline {over.systems[0]}; two-sided randomisation tests: of a "
        "collection over its queries, corrected by Holm for all of the table; of the mean over the collections, each "
        f"counting alike, corrected by max-T for the systems; seed {seed}"
    )
