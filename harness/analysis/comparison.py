"""Records against each other: found, checked to be of one collection, and compared query by query."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.metrics.scoring import parse_metrics
from harness.reports.errors import RecordError
from harness.reports.records import records
from harness.reports.records.records import Record
from harness.reports.statistics import paired
from harness.reports.statistics.paired import Change, Judged, Significance
from harness.retrievers.errors import InputError
from harness.retrievers.run_files import trec
from harness.runs import recorded_data
from harness.runs.record_store import slug

CUTOFF = 10  # of Judged@k
_SHORTEST = 4  # letters of a hash


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
    found: Sequence[Record], metric: str = "NDCG@10", permutations: int = 100_000, seed: int = 42, most_changed: int = 5
) -> Compared:
    """Compare every record with the first, in one metric that all of them have.

    Raises InputError or RecordError for fewer than two records, one that is given twice, records of different
    collections or rules, a metric that one of them lacks, or other queries in one than in its pair.
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
    for record in found:
        if name not in record.metrics:
            raise InputError(
                f"{record.folder} has no {name}; it has {', '.join(record.metrics)}. "
                f"Run it again with --metric {name} (nothing is searched anew), or choose another --metric."
            )
    labels = _labels(found)
    by_name = dict(zip(labels, found, strict=True))
    values = {label: values_of(record, name) for label, record in by_name.items()}
    significance = paired.against_baseline(labels[0], values, permutations, seed)
    changes = {label: paired.changes(values[labels[0]], values[label], most_changed) for label in labels[1:]}
    warnings = []
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


def find(word: str, results: Path) -> Record:
    """The record that `word` names: its folder, its hash (or a beginning of it), `dataset/retriever` or all three.

    Raises InputError for none or several, naming them; RecordError for a record that cannot be read.
    """
    path = Path(word).expanduser()
    if (path / records.MANIFEST).exists():
        return records.read(path)
    every = [folder for folder in sorted(results.glob("[!.]*/[!.]*/[!.]*")) if folder.is_dir()]
    hits = [folder for folder in every if _names(word, folder)]
    if len(hits) == 1:
        return records.read(hits[0])
    if hits:
        raise InputError(f"{word!r} is {len(hits)} records. Name one by its hash: {'; '.join(map(_described, hits))}.")
    if path.is_dir():
        raise InputError(
            f"{path} is no record: it holds no {records.MANIFEST}. Give a folder that `harness run` wrote."
        )
    if not every:
        raise InputError(
            f"no record {word!r}: it is no folder, and {results} holds no record. --results names another."
        )
    shown = "; ".join(str(folder) for folder in every[:10]) + f"; and {len(every) - 10} more" * (len(every) > 10)
    raise InputError(
        f"no record {word!r}. Give a record's folder, its hash, or dataset/retriever of one in {results}: {shown}."
    )


def _names(word: str, folder: Path) -> bool:
    dataset, retriever, digest = folder.parts[-3:]
    if len(word) >= _SHORTEST and digest.startswith(word):
        return True
    return slug(word) in (slug(f"{dataset}/{retriever}"), slug(f"{dataset}/{retriever}/{digest}"))


def _described(folder: Path) -> str:
    try:
        manifest = records.read(folder).manifest
    except RecordError:
        return f"{folder.name} (not readable)"
    options = ", ".join(f"{key}={value}" for key, value in manifest.system.options.items())
    return f"{folder.name} ({options or 'no options'}; {manifest.created[:16]})"


def check_collections(found: Sequence[Record]) -> None:
    """Raise InputError where records differ in corpus, titles, queries, judgments or rules."""
    first = found[0]
    for record in found[1:]:
        if parts := recorded_data.differences(first.manifest.data, record.manifest.data):
            raise InputError(
                f"{first.folder} ({first.manifest.data.name}) and {record.folder} ({record.manifest.data.name}) are "
                f"not of one collection. They differ in {', '.join(parts)}. Compare runs of the same collection."
            )


def _labels(found: Sequence[Record]) -> list[str]:
    """Retriever and variant, and the hash where several are alike in these."""
    short = [
        f"{system.retriever} ({system.variant})" if system.variant else system.retriever
        for system in (record.manifest.system for record in found)
    ]
    labels = [
        f"{name} {record.folder.name}" if short.count(name) > 1 else name
        for name, record in zip(short, found, strict=True)
    ]
    # the same hash in two results folders
    return [f"{name} {found[n].folder}" if labels.count(name) > 1 else name for n, name in enumerate(labels)]


def values_of(record: Record, metric: str) -> dict[str, float]:
    """{query id: value} by one metric. Raises RecordError where the record lacks it at a query."""
    try:
        return {query: row[metric] for query, row in record.per_query().items()}
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(
            f"{record.folder / records.PER_QUERY}: no number for {metric} at every query ({error!r}). "
            "Run again with --force."
        ) from error


def _judged(record: Record, topics: recorded_data.Topics) -> Judged:
    run = trec.read(record.folder / records.RUN).first(CUTOFF)
    ranked = {query: [doc.decode() for doc in run.rows(n)[0].tolist()] for n, query in enumerate(run.query_ids)}
    return paired.judged(ranked, topics.qrels, CUTOFF)
