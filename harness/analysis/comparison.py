"""Records of one collection compared, query by query."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.metrics.names import parse_metrics
from harness.reports.records import records
from harness.reports.records.comparable import looks_to, marked, without_corpus
from harness.reports.records.labels import unique
from harness.reports.records.records import Record
from harness.reports.statistics import paired
from harness.reports.statistics.paired import Change, Judged, Significance
from harness.retrievers.errors import InputError
from harness.retrievers.run_files import trec
from harness.runs import recorded_data
from harness.runs.lookup import check_collections, check_depths, measured, values_of

CUTOFF = 10  # of Judged@k


@dataclass(frozen=True)
class Compared:
    """What `harness compare` found; the first of `names` is the baseline."""

    metric: str
    collection: str
    names: tuple[str, ...]
    records: dict[str, Record]
    significance: Significance
    changes: dict[str, list[Change]]  # of each other system
    texts: dict[str, str]  # of the queries in `changes`; empty where the collection is not here
    judged: dict[str, Judged]  # of each system; empty where the collection is not here
    warnings: tuple[str, ...]


def compare_records(
    found: Sequence[Record],
    metric: str = "NDCG@10",
    permutations: int = 100_000,
    seed: int = 42,
    most_changed: int = 5,
    allow_shallow: bool = False,
) -> Compared:
    """Compare every record with the first, in one metric that all of them have.

    Runs of different depths, where the metric looks deeper, need `allow_shallow`, and are marked. Raises InputError or
    RecordError for fewer than two records, one that is given twice, records of different collections, rules or depths,
    a metric that one of them lacks, or other queries in one than in its pair.
    """
    if len(found) < 2:
        raise InputError(
            f"{len(found)} record{'s' * (len(found) != 1)} given; a comparison needs a baseline and another."
        )
    folders = [record.folder.resolve() for record in found]
    for number, folder in enumerate(folders):
        if folder in folders[:number]:
            raise InputError(f"{found[number].folder} is given twice. Give each record once.")
    [name] = [str(parsed) for parsed in parse_metrics([metric])]
    check_collections(found)
    check_metric(found, name)
    depths = check_depths(found, name, allow_shallow)
    labels = [marked(own, depth) for own, depth in zip(unique(found), depths, strict=True)]
    by_name = dict(zip(labels, found, strict=True))
    values = {label: values_of(record, name) for label, record in by_name.items()}
    significance = paired.against_baseline(labels[0], values, permutations, seed)
    changes = {label: paired.changes(values[labels[0]], values[label], most_changed) for label in labels[1:]}
    warnings = []
    if any(depths):
        warnings.append(f"runs of different depths: {name} counts only what a run that was cut still has")
    if message := without_corpus(found):
        warnings.append(message)
    manifest = found[0].manifest
    if manifest.parts:
        warnings.append(
            f"{manifest.data.name} is the mean of {len(manifest.parts)} parts, but each query weighs the same in a "
            "comparison, so its means are not those of the records."
        )
    try:
        topics = recorded_data.topics(manifest)
    except InputError as error:
        warnings.append(f"no texts of queries and no Judged@{CUTOFF}, only ids: {error}")
        topics = recorded_data.Topics({}, {})
    return Compared(
        metric=name,
        collection=manifest.data.name,
        names=tuple(labels),
        records=by_name,
        significance=significance,
        changes=changes,
        texts={c.query_id: topics.texts.get(c.query_id, "") for rows in changes.values() for c in rows},
        judged={label: _judged(record, topics) for label, record in by_name.items()} if topics.qrels else {},
        warnings=tuple(warnings),
    )


def check_metric(found: Sequence[Record], name: str) -> None:
    """Raise InputError where a record lacks a metric."""
    for record in found:
        if name not in measured(record):
            cutoff, top_k = looks_to(name) or 0, record.manifest.top_k
            how = f"Run or score it again with --metric {name} (nothing is searched anew)"
            if cutoff > top_k:
                how = f"Its run has {top_k:,} results of a query: run it with --top-k {cutoff}"
            raise InputError(
                f"{record.folder} has no {name}; it has {', '.join(record.metrics)}. {how}, or choose another --metric."
            )


def _judged(record: Record, topics: recorded_data.Topics) -> Judged:
    run = trec.read(record.folder / records.RUN).first(CUTOFF)
    ranked = {query: [doc.decode() for doc in run.rows(n)[0].tolist()] for n, query in enumerate(run.query_ids)}
    return paired.judged(ranked, topics.qrels, CUTOFF)
