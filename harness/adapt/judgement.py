"""Before and after: the base, its halves, the hybrid, BM25, and the fusion of base and BM25, on each collection."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.analysis.dissection import dissect
from harness.datasets.dataset import Dataset
from harness.datasets.loader import resolve
from harness.metrics.names import parse_metrics
from harness.reports.dissection import DENSE, LEXICAL
from harness.reports.markdown import table
from harness.reports.records.records import Record
from harness.reports.statistics.paired import paired_t_test
from harness.retrievers.neural.retriever import Neural
from harness.retrievers.places import cache
from harness.runs.config import RetrieverSpec, RunConfig, make_retriever
from harness.runs.fusion import Recipe as Fusion
from harness.runs.fusion import fuse_parts
from harness.runs.runner import iterate
from harness.runtime.job import HarnessJob
from harness.training.student import searched_as

METRIC = "NDCG@10"
COLUMNS = ("collection", "queries", "system", METRIC, "against the base", "p")
_DEPTH = 1_000
_FUSION = Fusion(method="weighted", weights=(2.0, 1.0))
Values = Mapping[str, float]  # of each query


def judge(
    base: str,
    after: Path,
    datasets: Mapping[str, str | None],
    results: Path,
    command: Sequence[str],
    threads: int | None = None,
) -> list[list[str]]:
    """A row for each system on each collection; the difference to the base and p of a paired t-test, not corrected.

    Texts are encoded once by the base and once by the hybrid, whose halves are searched in one store. The runs of base,
    BM25, hybrid and fusion leave their records in `results`. `base` is named as a retriever's checkpoint is, `after`
    the hybrid's folder; `datasets` are names of collections, with what the table calls them where that is another.
    Raises InputError or CheckpointError for what cannot be run.
    """
    rows = []
    for name, shown in datasets.items():
        parts = resolve(name)
        for part in parts:  # several of a composite, each by its own name
            found = _values(base, after, name if len(parts) == 1 else part.name, part, results, command, threads)
            rows += [_row(shown or part.name, found["base"], system, values) for system, values in found.items()]
    return rows


def _values(
    base: str, after: Path, name: str, dataset: Dataset, results: Path, command: Sequence[str], threads: int | None
) -> dict[str, Values]:
    """Each system's values, the base's first."""
    specs = {
        "base": RetrieverSpec(name=f"hf:{base}"),
        "bm25": RetrieverSpec(name="bm25"),
        "hybrid": searched_as("dupmae", after),
    }
    config = RunConfig(
        retrievers=list(specs.values()), datasets=[name], results=results, metrics=[METRIC], top_k=_DEPTH,
        threads=threads,
    )  # fmt: skip
    records = dict(zip(specs, (outcome.record for outcome in iterate(config, command)), strict=True))
    fused = fuse_parts([records["base"], records["bm25"]], _FUSION, config, command).record
    hybrid = make_retriever(specs["hybrid"])
    assert isinstance(hybrid, Neural)
    apart = dissect(hybrid, dataset, [], parse_metrics([METRIC]), _DEPTH, HarnessJob(cache(), threads))
    halves = {one.halves: dict(zip(apart.query_ids, one.values[METRIC], strict=True)) for one in apart.scored}
    return {
        "base": _of(records["base"]),
        "bm25": _of(records["bm25"]),
        "dense half, after": halves[DENSE],
        "lexical half, after": halves[LEXICAL],
        "hybrid": _of(records["hybrid"]),
        "base + bm25, weighted 2 : 1": _of(fused),
    }


def _of(record: Record) -> Values:
    return {query: row[METRIC] for query, row in record.per_query().items()}


def _row(collection: str, base: Values, name: str, values: Values) -> list[str]:
    row = [collection, f"{len(values):,}", name, f"{sum(values.values()) / len(values):.4f}", "", ""]
    if values is not base:
        found = paired_t_test(base, values)
        row[4:] = [f"{found.difference:+.4f}", found.p_shown]
    return row


def as_text(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return table(COLUMNS, rows)
