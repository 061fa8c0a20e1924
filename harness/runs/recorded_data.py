"""What a record was made from, read again: the texts of its queries and its judgments, if they are still the same."""

from dataclasses import dataclass

from harness.datasets import loose_files
from harness.datasets.dataset import Dataset, Qrels
from harness.datasets.fields import Fields
from harness.datasets.hub.name import PREFIX as HUB
from harness.datasets.loader import resolve
from harness.datasets.qrels_file import PREFIX, QrelsSource
from harness.reports.records.records import Data, Manifest
from harness.retrievers.errors import InputError
from harness.retrievers.places import cache_or_temporary
from harness.retrievers.types import Query
from harness.runtime.hashing import joint
from harness.runtime.job import HarnessJob


@dataclass(frozen=True)
class Topics:
    """Texts by query id, and judgments by query id and document id."""

    texts: dict[str, str]
    qrels: Qrels


def topics(manifest: Manifest) -> Topics:
    """Read the queries and judgments of the record with that manifest; the corpus only where ids stand in quotes.

    The ids of a composite are `<part>:<query id>`, as in its record. Raises InputError where the collection cannot be
    read here, or has other queries or judgments than the record's hashes say.
    """
    data = manifest.data
    datasets = resolve(asked_name(data), queries_with_text=data.rules.queries_with_text, fields=fields_of(data))
    for dataset in datasets:
        if isinstance(dataset.source, QrelsSource):
            dataset.qrels = read_judgments(dataset.source)
        else:
            _read(dataset)
    if _hashes(datasets) != (data.queries_hash, data.qrels_hash):
        raise InputError(f"{data.name}: its queries or judgments are no longer those that the record was made with.")
    if not manifest.parts:
        [dataset] = datasets
        return Topics({query.query_id: query.text for query in dataset.queries}, dataset.qrels)
    found = Topics({}, {})
    for dataset in datasets:
        label = part_label(dataset.name)
        found.texts.update({f"{label}:{query.query_id}": query.text for query in dataset.queries})
        found.qrels.update({f"{label}:{query_id}": grades for query_id, grades in dataset.qrels.items()})
    return found


def read_judgments(source: QrelsSource) -> Qrels:
    """A file's judgments, with ids as they stand there."""
    found: Qrels = {}
    for query_id, doc_id, grade in source.qrels():
        found.setdefault(query_id, {})[doc_id] = grade
    return found


def part_label(name: str) -> str:
    """What stands before the query ids of a part in its composite's record."""
    return name.rsplit("/", 1)[-1]


def asked_name(data: Data) -> str:
    """What to ask the loader for; of a folder or a file of judgments, the name alone does not say where it lies."""
    if data.dataset_id.startswith((PREFIX, HUB, loose_files.PREFIX)):  # of a repository it says the commit as well
        return data.dataset_id
    return f"{data.dataset_id}/{part_label(data.name)}" if data.dataset_id.startswith("/") else data.name


def fields_of(data: Data) -> Fields:
    """The fields of queries and documents that the record's run read."""
    return Fields(data.rules.query_field, data.rules.doc_fields)


def _read(dataset: Dataset) -> None:
    texts: dict[str, str] = {}
    for query in dataset.source.queries():
        texts.setdefault(query.query_id, query.text)
    for query_id, doc_id, grade in dataset.source.qrels():
        if query_id[:1] == '"' or doc_id[:1] == '"':  # whether the quotes are the id's own, only the corpus says
            dataset.qrels.clear()
            dataset.open(HarnessJob(cache_or_temporary()))
            return
        if query_id in texts or not dataset.queries_with_text:
            dataset.qrels.setdefault(query_id, {})[doc_id] = grade
    dataset.queries = [Query(query_id, text) for query_id, text in texts.items() if query_id in dataset.qrels]


def _hashes(datasets: list[Dataset]) -> tuple[str, str]:
    if len(datasets) == 1:
        return datasets[0].queries_hash, datasets[0].qrels_hash
    return joint(d.queries_hash for d in datasets), joint(d.qrels_hash for d in datasets)
