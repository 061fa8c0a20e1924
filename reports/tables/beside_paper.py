"""A record's mean by one metric: how far it could be off, and what the paper prints for the same."""

from harness.reports.paper import claims, rows
from harness.reports.paper.collections import COLLECTIONS, against
from harness.reports.paper.published import TABLES, published
from harness.reports.records.records import Record
from harness.reports.statistics.bootstrap import interval, means
from harness.reports.tables.builder import collection_and_metric


def mean_interval(record: Record, metric: str) -> tuple[float, float]:
    """The 95 % bootstrap interval of the mean over queries; of a composite's, within each of its parts."""
    groups: dict[str, list[float]] = {}
    for query_id, values in record.per_query().items():
        part = query_id.partition(":")[0] if record.manifest.parts else ""
        groups.setdefault(part, []).append(values[metric])
    return interval(means(list(groups.values())))


def printed(record: Record, metric: str) -> float | None:
    """What the paper prints for a record's system on its collection by `metric`.

    As in the tables, the manifest alone decides; None where the paper has no such cell, or the record could not stand
    beside it (another corpus, a miniature model, other fine-tuning, …).
    """
    data, system = record.manifest.data, record.manifest.system
    for number in TABLES:
        table = published(number)
        for test in claims.tests(table):
            name, by = collection_and_metric(table, test)
            if by != metric or COLLECTIONS[name].dataset_id != data.dataset_id or against(COLLECTIONS[name], data):
                continue
            for row in rows.rows_of(number, system):
                text = claims.printed_text(table, row, test)
                if text and not rows.against(number, row, system):
                    return float(text)
    return None
