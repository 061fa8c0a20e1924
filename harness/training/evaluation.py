"""A training's outcome: every stage's encoder run on the recipe's held-out collections, beside others."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from harness.reports.records.records import Record
from harness.reports.statistics.paired import Comparison, paired_t_test
from harness.runs.config import RetrieverSpec, RunConfig
from harness.runs.runner import iterate
from harness.runtime.processes import Processes
from harness.training.context import Context
from harness.training.stage import ENCODER
from harness.training.student import searched_as

_METRICS = ("MRR@10", "NDCG@10")
_COLUMNS = ("dataset", "system", *_METRICS, "against", "difference in NDCG@10", "p", "wins", "ties", "losses")
Row = dict[str, str]


def evaluate(context: Context, command: Sequence[str], results: Path | None = None) -> list[Row]:
    """Run what each encoder stage left, and the systems of `data.against`, on `data.evaluate`; write `scores.csv`.

    Each stage is compared with the one before it by a paired t-test over the queries' NDCG@10; p is not corrected for
    the number of comparisons. All processes of the training search together; rank 0 writes, the others return nothing.
    """
    recipe = context.recipe
    encoders = [name for name, stage in recipe.stages.items() if ENCODER in stage.leaves]
    specs = {name: RetrieverSpec(name=name) for name in recipe.data.against}
    for name in encoders:
        specs[name] = searched_as(recipe.system, context.place(name))
    datasets = [recipe.place(name) for name in recipe.data.evaluate]
    config = RunConfig(
        retrievers=list(specs.values()),
        datasets=datasets,
        results=results or context.output / "results",
        threads=context.job.threads,
        metrics=list(_METRICS),
        top_k=100,
    )
    found = [outcome.record for outcome in iterate(config, command, Processes.launched())]
    if not context.main:
        return []
    rows = []
    for number in range(0, len(found), len(specs)):
        of_one = dict(zip(specs, found[number : number + len(specs)], strict=True))
        rows += _rows(of_one, encoders)
    with (context.output / "scores.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    return rows


def _rows(records: dict[str, Record], encoders: list[str]) -> list[Row]:
    rows = []
    for name, record in records.items():
        row = dict.fromkeys(_COLUMNS, "") | {"dataset": record.manifest.data.name, "system": name}
        row |= {metric: f"{record.metrics[metric]:.4f}" for metric in _METRICS}
        if name in encoders[1:]:
            before = encoders[encoders.index(name) - 1]
            row |= {"against": before} | _words(compared(records[before], record))
        rows.append(row)
    return rows


def compared(before: Record, after: Record) -> Comparison:
    """The second against the first by a paired t-test over the queries' NDCG@10."""
    a, b = ({query: row["NDCG@10"] for query, row in record.per_query().items()} for record in (before, after))
    return paired_t_test(a, b)


def _words(found: Comparison) -> Row:
    return {
        "difference in NDCG@10": f"{found.difference:+.4f}",
        "p": found.p_shown,
        "wins": str(found.wins),
        "ties": str(found.ties),
        "losses": str(found.losses),
    }


def as_text(rows: list[Row]) -> str:
    """A Markdown table."""
    out = io.StringIO()
    out.write("| " + " | ".join(_COLUMNS) + " |\n|" + " --- |" * len(_COLUMNS) + "\n")
    for row in rows:
        out.write("| " + " | ".join(row[column] for column in _COLUMNS) + " |\n")
    return out.getvalue()
