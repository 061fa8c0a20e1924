"""A run that something else made, scored by our rules: a record like any other, which says where the run came from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.datasets.dataset import Dataset
from harness.datasets.loader import resolve
from harness.datasets.qrels_file import PREFIX
from harness.reports.records import records
from harness.reports.records.comparable import cut_at
from harness.reports.records.origin import RunFile
from harness.reports.records.records import Record
from harness.retrievers.errors import InputError
from harness.retrievers.places import cache_or_temporary, expanded
from harness.retrievers.run_files import exchange, formats
from harness.retrievers.run_files.fusion import digest
from harness.retrievers.types import Run
from harness.runs import manifest
from harness.runs.config import RunConfig
from harness.runs.record_store import Outcome, RecordStore, check_writable
from harness.runtime.job import HarnessJob

_LONGEST_NAME = 100
_MOST_UNKNOWN = 0.1  # of the documents; beyond it the run is of another collection


@dataclass(frozen=True)
class Given:
    """A run from a file, or from an object in memory; `reordered` as in `run_files.trec.TrecFile`."""

    run: Run
    file: RunFile
    reordered: int = 0


def given(found: Any) -> Given:
    """Read a run: a file that `harness.retrievers.run_files.formats` knows, or an object in memory, as
    `harness.retrievers.run_files.exchange.of_any` takes it.

    Raises InputError for a malformed file, what is no run, or a run without any result.
    """
    if isinstance(found, str | Path):
        if not str(found) or "\0" in str(found):
            raise InputError(f"the run is {str(found)!r}, which is no path of a file.")
        path = expanded(found)
        content = formats.read_file(path)
        run, location, reordered = content.run, str(path.absolute()), content.reordered
        known = {name: getattr(content, name) for name in ("sha256", "tag", "format", "metadata")}
    else:
        run, location, reordered = exchange.of_any(found), "in memory", 0
        known = {"sha256": None, "tag": "", "format": None}
    counts = np.diff(run.offsets)
    deepest = int(max(counts, default=0))
    if not deepest:
        raise InputError(f"the run {location} holds no results. Was it written whole?")
    cut = cut_at(counts.tolist())
    return Given(run, RunFile(location=location, deepest=deepest, cut_at=cut, **known), reordered)


def label_of(name: str | None, found: Given) -> str:
    """What the record goes by: the name asked for, else the file's tag. Raises InputError for one that is no name."""
    if name is not None and (not isinstance(name, str) or not name.strip()):
        what = "empty" if isinstance(name, str) else f"{name!r:.60}"
        raise InputError(f"--name is {what}. Give a word, or leave it out for the tag in the file.")
    label = (name or found.file.tag or "run").strip()
    if len(label) > _LONGEST_NAME or not label.isprintable():
        raise InputError(
            f"the name {label[:40]!r} {'is too long' if label.isprintable() else 'holds what cannot be printed'}: want "
            f"{_LONGEST_NAME} letters at most, without line breaks and the like (--name)."
        )
    return label


def score_given(config: RunConfig, found: Given, command: Sequence[str], check_documents: bool = False) -> Outcome:
    """Find or make the record of a run that was given; `config` names one retriever (a label) and one dataset.

    With `check_documents` the corpus is read, to see whether it has the run's documents.

    Raises InputError where the run and the collection do not belong together.
    """
    [spec], [name] = config.retrievers, config.datasets
    dataset = one_dataset(name, config.titles, config.queries_with_text)
    check_writable(config.results)
    job = HarnessJob(cache_or_temporary(), config.threads)
    dataset.open(job, None if check_documents else found.run)
    for message in dataset.warnings:
        job.warn(message)
    result, unknown = fitted(found, dataset, config.top_k, job, check_documents)
    store = RecordStore(config.results, config.force, job)
    key = {
        "schema": records.SCHEMA_VERSION,
        "run": [spec.name, digest(result)],
        "hashes": [dataset.queries_hash, dataset.qrels_hash],  # whatever the corpus is, the scores are these
        "rules": dataset.rules.key,
        "top_k": config.top_k,
    }
    system = manifest.given_system(spec.name, found.file.model_copy(update={"unknown_documents": unknown}))
    folder = store.folder(dataset.name, spec.name, key)
    with store.lend(folder, spec.name, dataset, config.metric_names(dataset.official)) as place:
        if place.outcome is not None and _says_as_much(place.outcome.record, found.file, dataset, unknown):
            return place.outcome
        scores = place.score(result)
        return place.write(result, scores, manifest.of_made(config, command, job, dataset, result, system))


def _says_as_much(record: Record, given_file: RunFile, dataset: Dataset, unknown: int | None) -> bool:
    """Whether a record of the same run is of the same file, and says of the corpus what is known of it now."""
    file = record.manifest.system.file
    if file is None or (file.location, file.sha256) != (given_file.location, given_file.sha256):
        return False
    known = not dataset.surveyed or record.manifest.data.corpus_hash == dataset.content_hash
    return known and (unknown is None or file.unknown_documents == unknown)


def judged_by(dataset: str | None, qrels: str | None, check_documents: bool = False) -> str | None:
    """The collection by whose judgments runs are scored: `dataset`, or a file of judgments; None where none is named.

    Raises InputError where both are named, or documents are to be checked that judgments do not have.
    """
    if qrels is None:
        return dataset
    if dataset is not None:
        raise InputError("--qrels and --dataset are both given. Give one: a file of judgments, or a collection.")
    if check_documents:
        raise InputError("--check-documents reads a corpus, and --qrels has none. Name the collection with --dataset.")
    return f"{PREFIX}{qrels}"


def unnamed() -> InputError:
    """The error for run files of which nothing says what they are runs of."""
    return InputError(
        "runs from files do not say which collection they are of. Name it with --dataset, or its judgments with "
        "--qrels."
    )


def one_dataset(name: str, titles: Path | None, queries_with_text: bool = False) -> Dataset:
    """The collection `name`. Raises InputError for one that is the mean of several."""
    datasets = resolve(name, titles, queries_with_text)
    if len(datasets) != 1:
        raise InputError(
            f"{name} is {len(datasets)} collections, and a run is of one: {', '.join(d.name for d in datasets)}."
        )
    return datasets[0]


def fitted(
    found: Given, dataset: Dataset, top_k: int, job: HarnessJob, check_documents: bool = False
) -> tuple[Run, int | None]:
    """The run with the collection's judged queries, `top_k` documents of each at most, and its rules applied.

    The number is of its documents that the corpus lacks; None where that is not known, since its ids are not kept and
    it is not to be read for them (`check_documents`).
    Queries without judgments are left out, with a warning. Raises InputError for a run that has none of the judged
    queries, or more than a tenth of whose documents the corpus lacks.
    """
    where, label = found.file.location, dataset.name
    where = "the run in memory" if found.file.sha256 is None else where
    query_ids = [query.query_id for query in dataset.queries]
    there = set(found.run.query_ids)
    if not there & set(query_ids):
        raise InputError(
            f"{where} has none of the judged queries of {label}: it has {', '.join(found.run.query_ids[:3])} …, and "
            f"{label} has {', '.join(query_ids[:3])} …. Is it a run of another collection or split?"
        )
    if extra := len(there - set(query_ids)):
        job.warn(f"{label}: {extra:,} queries of {where} have no judgments and are left out")
    if found.reordered:
        job.warn(f"{where}: {found.reordered:,} queries are in another order by rank than by score; scores count")
    run = exchange.aligned(found.run, query_ids)
    unknown = _unknown(run, dataset, where, job, check_documents)
    if dataset.rules.drop_self:
        run = run.without_self(max(top_k, found.file.deepest))
    deepest = found.file.deepest
    if deepest > top_k:
        job.warn(f"{where}: up to {deepest:,} documents of a query; the first {top_k:,} count")
    run = run.first(top_k)
    if run.silent:
        job.warn(f"{label}: {run.silent:,} queries have no results; each scores 0")
    if deepest < (min(top_k, dataset.count) if dataset.surveyed else top_k):
        job.warn(f"{where}: at most {deepest:,} documents of a query; a metric at a deeper rank has no more to count")
    return run, unknown


def _unknown(run: Run, dataset: Dataset, where: str, job: HarnessJob, read: bool) -> int | None:
    """How many documents of the run the corpus lacks; `read` is whether it may be read for that.

    Raises InputError where that is more than a tenth.
    """
    if not dataset.surveyed:
        return None
    wanted = {doc_id.decode() for doc_id in set(run.doc_ids.tolist())}
    lost = dataset.lacking(wanted)
    if lost is None:
        if not read:
            return None
        lost = sorted(wanted.difference(doc.doc_id for doc in dataset.documents()))
    if not lost:
        return 0
    every, shown = len(wanted), ", ".join(sorted(lost)[:3])
    said = f"{len(lost):,} of the {every:,} documents of {where} are not in {dataset.name} ({shown})"
    if len(lost) > _MOST_UNKNOWN * every:
        raise InputError(f"{said}. Is it a run of another collection?")
    job.warn(f"{said}; they count as not relevant")
    return len(lost)
