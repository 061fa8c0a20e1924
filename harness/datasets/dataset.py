"""A collection that is checked, hashed, and ready to be searched and scored."""

import hashlib
from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from harness.datasets import loose_files
from harness.datasets.fields import Fields
from harness.datasets.qrels_file import QrelsSource
from harness.datasets.rules import (
    Rules,
    official_for,
)
from harness.datasets.survey import CorpusSurvey, Source, kept_survey, lacking, survey
from harness.datasets.titles import TitledSource
from harness.retrievers.errors import InputError
from harness.retrievers.ids import fault
from harness.retrievers.text_files import without_quotes
from harness.retrievers.types import Document, Job, Query, Run

Qrels = dict[str, dict[str, int]]
_MOST_WITHOUT_TEXT = 0.1  # of the judged queries; beyond it the mean would say more of them than of a retriever


class Counts(BaseModel):
    """Sizes of a collection, and what of it was tolerated."""

    documents: int | None  # None, as all of documents, where the corpus was not read
    queries: int  # judged, therefore run
    judgments: int
    duplicate_documents: int | None
    duplicate_queries: int
    duplicate_judgments: int
    empty_texts: int | None
    documents_without_title: int | None
    queries_without_judgments: int
    judged_queries_without_text: int
    judged_documents_missing: int | None


class _DocumentsOf:
    """The documents of a run, to ask whether an id is among them."""

    def __init__(self, run: Run | None) -> None:
        self._run = run

    @cached_property
    def _ids(self) -> frozenset[bytes]:
        return frozenset(self._run.doc_ids.tolist()) if self._run is not None else frozenset()

    def __contains__(self, doc_id: object) -> bool:
        return str(doc_id).encode() in self._ids


class Dataset:
    """A collection with its judgments, as a `Corpus` for the retrievers.

    `name` is what the user wrote (a folder: its name and split), `dataset_id` what it stands for. With
    `queries_with_text` the judgments of queries that have no text are left out. `revision` is the commit that the files
    are of, where they have one, and `notes` are warnings from before it was opened. `open` must be called before
    anything else; it reads and checks everything.
    """

    def __init__(
        self,
        name: str,
        dataset_id: str,
        source: Source,
        rules: Rules,
        titles: Path | None = None,
        queries_with_text: bool = False,
        revision: str | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self.revision, self._notes = revision, notes
        self.name, self.dataset_id, self.source, self.rules, self.titles = name, dataset_id, source, rules, titles
        self.queries_with_text = queries_with_text
        self.queries: list[Query] = []
        self.qrels: Qrels = {}
        self.warnings: list[str] = []
        self._tolerated: dict[str, Any] = {}
        self._survey: CorpusSurvey | None = None
        self._wanted: set[str] = set()  # the judged documents
        self._job: Job | None = None

    @property
    def formats(self) -> dict[str, str]:
        """Of loose files, what each was recognised as."""
        source = self.source.source if isinstance(self.source, TitledSource) else self.source
        return source.formats if isinstance(source, loose_files.LooseSource) else {}

    @property
    def fields(self) -> Fields:
        """The fields that were named to be read."""
        source = self.source.source if isinstance(self.source, TitledSource) else self.source
        return getattr(source, "fields", Fields())

    def official(self) -> tuple[str, ...]:
        """The metrics that the collection is reported by."""
        return self.rules.official or official_for(self.dataset_id)

    def open(self, job: Job, run: Run | None = None) -> None:
        """Read queries and judgments and survey the corpus; `warnings` then says what was tolerated.

        To score a `run` the corpus is not read: what is known of it is what an earlier survey found, if anything
        (`surveyed`). Judgments from a file of their own have no queries either; then all that are judged count.

        Raises InputError for whatever makes the collection unusable.
        """
        if self._survey is not None:
            return
        if self.formats and run is None:
            job.note(f"{self.name}: " + "; ".join(f"{part}: {kind}" for part, kind in self.formats.items()))
        if self.titles is not None and not isinstance(self.source, TitledSource):
            self.source = TitledSource(self.source, self.titles, job)
        rows = list(self.source.qrels())
        if not rows:
            raise InputError(
                f"{self.name}: there are no judgments in {self.source.location}, so nothing can be scored."
            )
        self.qrels, duplicate_judgments = self._unique_qrels(rows)
        texts, duplicate_queries = self._texts(run)
        judged_queries, judged_documents = self.qrels.keys(), {row[1] for row in rows}
        plain_queries = _unquoted(judged_queries, texts.keys())
        plain = {plain_queries.get(query_id, query_id) for query_id in judged_queries}
        lacking = len(plain - texts.keys())
        self._check_texts(len(plain), lacking, len(texts))
        wanted = judged_documents | {without_quotes(doc_id) for doc_id in judged_documents}
        self._wanted, self._job = wanted, job
        found = (
            kept_survey(self.source, wanted, job) if run is not None else survey(self.source, self.name, wanted, job)
        )
        there: Container[str] = wanted - set(found.missing) if found is not None else _DocumentsOf(run)
        plain_documents = _unquoted(judged_documents, there)
        if plain_queries or plain_documents:
            self.qrels, duplicate_judgments = self._unique_qrels(
                (plain_queries.get(query_id, query_id), plain_documents.get(doc_id, doc_id), grade)
                for query_id, doc_id, grade in rows
            )
        if self.queries_with_text:
            self.qrels = {query_id: grades for query_id, grades in self.qrels.items() if query_id in texts}
        self.queries = [Query(q, text) for q, text in texts.items() if q in self.qrels]
        self._tolerated = {
            "judgments": sum(map(len, self.qrels.values())),
            "duplicate_queries": duplicate_queries,
            "duplicate_judgments": duplicate_judgments,
            "queries_without_judgments": len(texts) - len(self.queries),
            "judged_queries_without_text": lacking,
            "judged_documents_missing": None
            if found is None
            else len({doc_id for grades in self.qrels.values() for doc_id in grades} & set(found.missing)),
        }
        self._survey = found
        tolerated = [*self._notes, *_warnings(self.counts, self.queries_with_text)]
        self.warnings = [f"{self.name}: {message}" for message in tolerated]
        if plain_queries or plain_documents:
            self.warnings.append(
                f"{self.name}: {len(plain_queries) + len(plain_documents):,} ids of the judgments stand in a csv "
                f"writer's quotes, such as {[*plain_queries, *plain_documents][0]}; they are read without them"
            )
        if isinstance(self.source, TitledSource) and found is not None and (message := self.source.check(found)):
            self.warnings.append(f"{self.name}: {message}")

    def _texts(self, run: Run | None) -> tuple[dict[str, str], int]:
        """{query id: text}, and how many stand there once more; of judgments alone the ids, with no text."""
        if not isinstance(self.source, QrelsSource):
            return self._unique_queries()
        if run is None:
            raise InputError(
                f"{self.name} holds judgments alone. Name a collection; by judgments a run is scored or compared."
            )
        plain = _unquoted(self.qrels, set(run.query_ids))
        return {plain.get(query_id, query_id): "" for query_id in self.qrels}, 0

    def _unique_queries(self) -> tuple[dict[str, str], int]:
        texts: dict[str, str] = {}
        duplicates = 0
        for query in self.source.queries():
            if wrong := fault(query.query_id):
                raise InputError(f"{self.name}, queries of {self.source.location}: the id {wrong}.")
            if texts.setdefault(query.query_id, query.text) != query.text:
                raise InputError(
                    f"{self.name}: the query id {query.query_id!r} has two different texts in {self.source.location}: "
                    f"{texts[query.query_id]!r:.80} and {query.text!r:.80}. Ids must be unique."
                )
            duplicates += 1
        return texts, duplicates - len(texts)

    def _check_texts(self, judged: int, lacking: int, texts: int) -> None:
        """Raise InputError where no judged query, or not enough of them, has a text."""
        if lacking == judged:
            raise InputError(
                f"{self.name}: not one of its {texts:,} queries is among the {judged:,} judged ones, so there is "
                f"nothing to score. Do the ids in {self.source.location} belong together?"
            )
        if lacking > _MOST_WITHOUT_TEXT * judged and not self.queries_with_text:
            raise InputError(
                f"{self.name}: {lacking:,} of its {judged:,} judged queries have no text in "
                f"{self.source.location}, and each would score 0. Is the file of the queries whole? To score the "
                f"{judged - lacking:,} others alone, give --queries-with-text (queries_with_text in YAML and Python); "
                "the record says so."
            )

    def _unique_qrels(self, judged: Iterable[tuple[str, str, int]]) -> tuple[Qrels, int]:
        """The judgments, and how many rows were there once more. Raises InputError for two grades of one document."""
        qrels: Qrels = {}
        rows = 0
        for query_id, doc_id, grade in judged:
            rows += 1
            if qrels.setdefault(query_id, {}).setdefault(doc_id, grade) != grade:
                raise InputError(
                    f"{self.name}: document {doc_id!r} has two grades for query {query_id!r}, "
                    f"{qrels[query_id][doc_id]} and {grade}. Keep one."
                )
        return qrels, rows - sum(map(len, qrels.values()))

    @property
    def surveyed(self) -> bool:
        """Whether anything is known of the corpus."""
        return self._survey is not None

    def lacking(self, doc_ids: Collection[str]) -> list[str] | None:
        """Those of `doc_ids` that the corpus has not; None where that is not known without reading it."""
        return lacking(self.source, self._wanted, self._job, doc_ids) if self._job is not None else None

    @property
    def found(self) -> CorpusSurvey:
        """What the survey found."""
        if self._survey is None:
            raise RuntimeError("Dataset.open comes first")
        return self._survey

    @property
    def count(self) -> int:
        """N, each id once."""
        return self.found.documents

    @property
    def content_hash(self) -> str:
        """Hex SHA-256 of the documents, titles joined; empty where nothing is known of them."""
        return self.found.content_hash if self.surveyed else ""

    @cached_property
    def queries_hash(self) -> str:
        """Hex SHA-256 of the queries that are run; empty for judgments alone, which have no texts."""
        if isinstance(self.source, QrelsSource):
            return ""
        return _digest(f"{q.query_id}\0{q.text}\0" for q in self.queries)

    @cached_property
    def qrels_hash(self) -> str:
        """Hex SHA-256 of the judgments, in order of the ids."""
        return _digest(
            f"{q}\0{d}\0{g}\0" for q, grades in sorted(self.qrels.items()) for d, g in sorted(grades.items())
        )

    @property
    def counts(self) -> Counts:
        """Sizes, and what was tolerated."""
        found = self._survey
        return Counts(
            documents=found and found.documents,
            queries=len(self.queries),
            duplicate_documents=found and found.duplicates,
            empty_texts=found and found.empty_texts,
            documents_without_title=found and found.without_title,
            **self._tolerated,
        )

    def documents(self) -> Iterator[Document]:
        """Yield every document once; of identical duplicates the first."""
        repeated = set(self.found.repeated_ids)
        met: set[str] = set()
        for doc in self.source.documents():
            if doc.doc_id in repeated:
                if doc.doc_id in met:
                    continue
                met.add(doc.doc_id)
            yield doc


def _digest(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode(errors="surrogatepass"))
    return digest.hexdigest()


def _unquoted(written: Iterable[str], there: Container[str]) -> dict[str, str]:
    """{id as written: without a csv writer's quotes}, of those that are `there`, or written as well, only without."""
    every = set(written)
    plain = {one: without_quotes(one) for one in every if one.startswith('"') and one not in there}
    return {one: other for one, other in plain.items() if other != one and (other in there or other in every)}


def _warnings(counts: Counts, queries_with_text: bool) -> Iterator[str]:
    lacking = "left out, as queries_with_text asks" if queries_with_text else "each scores 0"
    for value, message in (
        (counts.duplicate_documents, "identical duplicates of documents dropped"),
        (counts.duplicate_queries, "identical duplicates of queries dropped"),
        (counts.duplicate_judgments, "identical duplicates of judgments dropped"),
        (counts.empty_texts, "documents without any text kept"),
        (counts.queries_without_judgments, "queries without judgments not run"),
        (counts.judged_queries_without_text, f"judged queries have no text; {lacking}"),
        (counts.judged_documents_missing, "judged documents are not in the corpus; they stay in the denominator"),
    ):
        if value:
            yield f"{value:,} {message}"
