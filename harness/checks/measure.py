"""What `harness check` measures: an entry's collection as it is now, and its retriever's scores and first documents."""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.checks.baseline import DEPTH, Entry, Inputs, Row, Rows, short_hash
from harness.datasets.dataset import Dataset
from harness.datasets.loader import resolve
from harness.metrics.names import parse_metrics
from harness.metrics.scoring import EvaluatorsDisagree, score
from harness.retrievers.errors import InputError
from harness.retrievers.places import cache
from harness.retrievers.types import Run
from harness.runs.config import RetrieverSpec, RunConfig, build, make_retriever
from harness.runs.external import Given, fitted
from harness.runs.recorded_data import part_label
from harness.runs.runner import iterate
from harness.runtime.environment import packages
from harness.runtime.hashing import joint
from harness.runtime.job import HarnessJob
from harness.runtime.processes import Processes


@dataclass(frozen=True)
class Topic:
    """Short hashes of a query's text and judgments."""

    text: str
    judgments: str


@dataclass(frozen=True)
class Collection:
    """An entry's collection as it is now: its hashes, and those of each judged query."""

    datasets: tuple[Dataset, ...]
    inputs: Inputs
    topics: dict[str, Topic]


@dataclass(frozen=True)
class Measured:
    """What a retriever gives now. `refused` says why there are no scores, where the evaluators disagree."""

    means: dict[str, float]
    scores: Mapping[str, Mapping[str, float]]  # query id → metric → value
    top: dict[str, tuple[str, ...]]  # query id → the first documents
    refused: str = ""
    checkpoint_hash: str | None = None

    def rows(self, collection: Collection, metrics: list[str]) -> Rows:
        """A row of each query, for the baseline's CSV."""
        return {
            query_id: Row(
                {name: self.scores[query_id][name] for name in metrics}, topic.text, topic.judgments, self.top[query_id]
            )
            for query_id, topic in collection.topics.items()
        }


def run_config(entry: Entry, results: Path, threads: int | None) -> RunConfig:
    """The run that an entry asks for, always made anew. Raises InputError for whatever is wrong with it."""
    spec = {"name": entry.retriever, "options": entry.options}
    values = {
        "retrievers": [spec],
        "datasets": [entry.dataset],
        "top_k": entry.depth(),
        "metrics": list(entry.metrics),
        "results": results,
        "titles": entry.titles,
        "queries_with_text": entry.queries_with_text,
        "threads": threads,
        "force": True,
    }
    config = build(values, entry.name)
    make_retriever(config.retrievers[0])
    return config


def open_collection(entry: Entry, threads: int | None) -> Collection:
    """Read an entry's collection. Raises InputError where it is unknown or unusable."""
    datasets = resolve(entry.dataset, entry.titles, entry.queries_with_text)
    job = HarnessJob(cache(), threads)
    topics: dict[str, Topic] = {}
    for dataset in datasets:
        dataset.open(job)
        texts = {query.query_id: query.text for query in dataset.queries}
        for query_id, grades in sorted(dataset.qrels.items()):
            said = "".join(f"{doc_id}\0{grade}\0" for doc_id, grade in sorted(grades.items()))
            key = _key(dataset, query_id, datasets)
            topics[key] = Topic(short_hash(texts.get(query_id, "")), short_hash(said))
    hashes = [[d.content_hash, d.queries_hash, d.qrels_hash] for d in datasets]
    joined = hashes[0] if len(datasets) == 1 else [joint(column) for column in zip(*hashes, strict=True)]
    corpus, queries, judgments = joined
    return Collection(tuple(datasets), Inputs(corpus=corpus, queries=queries, judgments=judgments), topics)


def measure(entry: Entry, collection: Collection, results: Path | None, threads: int | None) -> Measured:
    """Run an entry's retriever, and keep the record under `results` where that is given.

    Raises InputError or another error that the user can fix, as `harness run` does.
    """
    runs: list[Run] = []  # of the collections in their order
    with tempfile.TemporaryDirectory(prefix="harness-check-") as temporary:
        config = run_config(entry, results or Path(temporary), threads)
        try:
            for outcome in iterate(config, ["harness", *sys.argv[1:]], Processes.launched()):
                record = outcome.record
                if len(runs) < len(collection.datasets):  # after its parts comes a composite
                    runs.append(outcome.run().first(DEPTH))
        except EvaluatorsDisagree as error:
            runs += [error.run.first(DEPTH)] if error.run is not None else []
            return Measured({}, {}, _top(collection, runs), str(error))
        weights = record.manifest.system.checkpoint_hash
        return Measured(record.metrics, record.per_query(), _top(collection, runs), checkpoint_hash=weights)


def measure_given(entry: Entry, collection: Collection, run: Given, threads: int | None) -> Measured:
    """Score a run that was given as if the entry's retriever had given it.

    Raises InputError for a composite collection, and as `harness.runs.external.fitted`.
    """
    if len(collection.datasets) != 1:
        raise InputError(
            f"{entry.dataset} is {len(collection.datasets)} collections, and a run is of one. Leave --run out."
        )
    [dataset] = collection.datasets
    found, _ = fitted(run, dataset, entry.depth(), HarnessJob(cache(), threads), check_documents=True)
    try:
        scores = score(found, dataset.qrels, parse_metrics(entry.metrics), dataset.rules.levels)
    except EvaluatorsDisagree as error:
        return Measured({}, {}, _top(collection, [found.first(DEPTH)]), str(error))
    rows = {
        query_id: {name: float(values[number]) for name, values in scores.values.items()}
        for number, query_id in enumerate(scores.query_ids)
    }
    return Measured(scores.mean(), rows, _top(collection, [found.first(DEPTH)]), checkpoint_hash=entry.checkpoint_hash)


def packages_of(entry: Entry) -> dict[str, str]:
    """Versions of what may change the retriever's results."""
    names = make_retriever(RetrieverSpec(name=entry.retriever, options=entry.options)).packages
    return {name: version for name, version in packages(names).items() if name in names}


def _top(collection: Collection, runs: Sequence[Run]) -> dict[str, tuple[str, ...]]:
    top: dict[str, tuple[str, ...]] = dict.fromkeys(collection.topics, ())
    for dataset, run in zip(collection.datasets, runs, strict=False):
        for number, query_id in enumerate(run.query_ids):
            documents = tuple(doc_id.decode() for doc_id in run.rows(number)[0].tolist())
            top[_key(dataset, query_id, collection.datasets)] = documents
    return top


def _key(dataset: Dataset, query_id: str, datasets: tuple[Dataset, ...] | list[Dataset]) -> str:
    """A query's id in the record: of a composite, with its part before it."""
    return query_id if len(datasets) == 1 else f"{part_label(dataset.name)}:{query_id}"
