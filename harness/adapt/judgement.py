"""Before and after: the base, its halves, the hybrid, BM25, and the fusion of base and BM25, on each collection."""

from collections.abc import Sequence
from pathlib import Path

from harness.reports.markdown import table
from harness.reports.records.records import Record
from harness.runs.config import RetrieverSpec, RunConfig
from harness.runs.fusion import Recipe as Fusion
from harness.runs.fusion import fuse_parts
from harness.runs.runner import iterate
from harness.training.evaluation import compared
from harness.training.student import searched_as

METRIC = "NDCG@10"
COLUMNS = ("collection", "queries", "system", METRIC, "against the base", "p")


def judge(base: str, after: Path, datasets: Sequence[str], results: Path, command: Sequence[str]) -> list[list[str]]:
    """A row for each system on each collection; the difference to the base and p of a paired t-test, not corrected.

    Every run leaves its record in `results`.
    """
    specs = {
        "base": RetrieverSpec(name=f"hf:{base}"),
        "bm25": RetrieverSpec(name="bm25"),
        "dense half, after": searched_as("dupmae", after, lexical=0),
        "lexical half, after": searched_as("dupmae", after, dense=0),
        "hybrid": searched_as("dupmae", after),
    }
    rows = []
    for dataset in datasets:
        config = RunConfig(
            retrievers=list(specs.values()), datasets=[dataset], results=results, metrics=[METRIC], top_k=1000
        )
        found = [outcome.record for outcome in iterate(config, command)]
        of = dict(zip(specs, found, strict=True))
        how = Fusion(method="weighted", weights=(2.0, 1.0))
        of["base + bm25, weighted 2 : 1"] = fuse_parts([of["base"], of["bm25"]], how, config, command).record
        rows += [_row(of["base"], name, record) for name, record in of.items()]
    return rows


def _row(base: Record, name: str, record: Record) -> list[str]:
    data, value = record.manifest.data, record.metrics[METRIC]
    row = [data.name, f"{data.counts['queries']:,}", name, f"{value:.4f}", "", ""]
    if record is not base:
        found = compared(base, record)
        row[4:] = [f"{found.difference:+.4f}", found.p_shown]
    return row


def as_text(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return table(COLUMNS, rows)
