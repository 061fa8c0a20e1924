"""`harness fuse`: several runs of one collection become one, with a record that names its parts."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.datasets.dataset import Dataset
from harness.datasets.qrels_file import QrelsSource
from harness.reports.records import records
from harness.reports.records.comparable import depth, differences, knows_corpus, knows_queries
from harness.reports.records.labels import label, name_of, unique
from harness.reports.records.origin import FusedPart
from harness.reports.records.records import Record
from harness.retrievers.errors import InputError, unknown
from harness.retrievers.places import cache_or_temporary
from harness.retrievers.run_files import fusion, trec
from harness.retrievers.run_files.exchange import aligned
from harness.retrievers.types import Run
from harness.runs import manifest, recorded_data
from harness.runs.config import RunConfig, explain
from harness.runs.external import fitted, given, one_dataset, unnamed
from harness.runs.lookup import record_of
from harness.runs.record_store import Outcome, RecordStore, check_writable
from harness.runtime.job import HarnessJob

LABEL = "fusion"


class Recipe(BaseModel):
    """How runs are fused; see `harness.retrievers.run_files.fusion`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: fusion.Method = "rrf"
    k: int = Field(fusion.RRF_K, ge=0)
    weights: tuple[float, ...] | None = None
    norm: fusion.Norm = "min-max"
    absent: fusion.Absent | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Those that the method has."""
        if self.method == "rrf":
            return {"method": self.method, "k": self.k}
        absent = self.absent or fusion.usual_absent(self.norm)
        return {"method": self.method, "weights": self.weights, "norm": self.norm, "absent": absent}

    @property
    def variant(self) -> str:
        """In a few words."""
        if self.method == "rrf":
            return f"rrf k = {self.k}"
        weights = ", ".join(f"{weight:g}" for weight in self.weights or ())
        norm = {"min-max": "", "none": ", no norm"}.get(self.norm, f", {self.norm}")
        other = self.absent and self.absent != fusion.usual_absent(self.norm)
        return f"weighted {weights}{norm}" + (f", absent {self.absent}" if other else "")


def recipe(
    method: str,
    k: int | None,
    weights: Sequence[float] | None,
    norm: str | None,
    absent: str | None = None,
) -> Recipe:
    """A checked recipe. Raises InputError for an unknown name, or an option that the method does not have."""
    if method not in ("rrf", "weighted"):
        raise unknown("method", method, ["rrf", "weighted"])
    if norm not in (None, *fusion.NORMS):
        raise unknown("norm", str(norm), fusion.NORMS)
    if absent not in (None, *fusion.ABSENT):
        raise unknown("absent", str(absent), fusion.ABSENT)
    foreign = {"--weights": weights, "--norm": norm, "--absent": absent} if method == "rrf" else {"--rrf-k": k}
    if given_ := [name for name, value in foreign.items() if value is not None]:
        raise InputError(f"{', '.join(given_)}: the method {method} has no such option.")
    if k is not None:
        fusion.check_k(k)
    if isinstance(weights, str):
        raise InputError(f"weights is {weights!r}; want a list of numbers, one for each run.")
    chosen: dict[str, Any] = {
        "k": k,
        "norm": norm,
        "absent": absent,
        "weights": None if weights is None else tuple(weights),
    }
    try:
        return Recipe(method=method, **{name: value for name, value in chosen.items() if value is not None})
    except ValidationError as error:
        raise InputError(f"harness fuse: {explain(error, sorted(Recipe.model_fields))}") from error


def numbers(words: str) -> list[float]:
    """Weights as they are typed, with commas between them. Raises InputError for what is no number."""
    try:
        return [float(word) for word in words.split(",")]
    except ValueError as error:
        raise InputError(f"--weights {words!r}: want numbers with commas between them, such as 0.6,0.4.") from error


def fuse_parts(
    found: Sequence[Any], how: Recipe, config: RunConfig, command: Sequence[str], dataset: str | None = None
) -> Outcome:
    """Find or make the record of a fusion of records and runs; all must be of one collection.

    Of `found` each is a Record, a record's folder or hash under `config.results`, or what `harness.runs.external.given`
    takes; the collection is that of the records, else `dataset`. Raises InputError or RecordError for a part that
    cannot be read, is given twice or is of another collection.
    """
    weights = fusion.checked_weights(how.weights, len(found))
    if how.method == "weighted":
        how = how.model_copy(update={"weights": tuple(weights)})
    read = [record_of(part, config.results) for part in found]
    firsts = [record for record in read if record is not None]
    check_one_collection(firsts)
    if not firsts and dataset is None:
        raise unnamed()
    check_writable(config.results)
    job = HarnessJob(cache_or_temporary(), config.threads)
    data = dataset_of(firsts, dataset, config)
    # of judgments alone a run says which of their ids stand in a csv writer's quotes
    data.open(job, _first(found[0], read[0]) if isinstance(data.source, QrelsSource) else None)
    config = config.model_copy(update={"datasets": [data.name]})
    if firsts:
        check_unchanged(firsts[0], data)
    every = weights if how.method == "weighted" else [None] * len(found)
    parts = [
        part_of(one, record, weight, data, config.top_k, job)
        for one, record, weight in zip(found, read, every, strict=True)
    ]
    check_once(parts)
    parts = told_apart(parts)
    for message in [w for part in parts if part.record for w in part.record.manifest.warnings] or data.warnings:
        job.warn(message)
    store = RecordStore(config.results, config.force, job)
    key = {
        "schema": records.SCHEMA_VERSION,
        "fusion": how.options | {"formula": fusion.FORMULA},
        "runs": [fusion.digest(part.run) for part in parts],
        "hashes": [data.content_hash, data.queries_hash, data.qrels_hash],
        "rules": data.rules.key,
        "top_k": config.top_k,
    }

    with store.lend(store.folder(data.name, LABEL, key), LABEL, data, config.metric_names(data.official)) as place:
        named = [part.named for part in parts]
        if place.outcome is not None and _same(place.outcome.record.manifest.system.fused, named):
            return place.outcome
        with job.phase("fuse", len(data.queries), "queries"):
            runs = [part.run for part in parts]
            run = fusion.fuse(
                runs, how.method, k=how.k, weights=weights, norm=how.norm, absent=how.absent, top_k=config.top_k
            )
        scores = place.score(run)
        system = manifest.fused_system(LABEL, f"{how.variant} of {shortly(parts)}", how.options, named)
        return place.write(run, scores, manifest.of_made(config, command, job, data, run, system))


@dataclass(frozen=True)
class Part:
    """A run to fuse; `record` is None for one from a file."""

    named: FusedPart
    run: Run
    record: Record | None


def check_one_collection(firsts: Sequence[Record]) -> None:
    """Raise InputError where records differ in corpus, queries, judgments or rules, or one is a mean of several."""
    for record in firsts:
        if record.manifest.parts:
            raise InputError(
                f"{record.folder} is the mean of {len(record.manifest.parts)} collections. Fuse their runs one by one."
            )
        a, b = firsts[0].manifest.data, record.manifest.data
        if other := differences(a, b):
            raise InputError(
                f"{firsts[0].folder} ({a.name}) and {record.folder} ({b.name}) are not of one collection: they differ "
                f"in {', '.join(other)}. Fuse runs of the same collection."
            )


def _first(found: Any, record: Record | None) -> Run:
    return given(found).run if record is None else trec.read(record.folder / records.RUN)


def dataset_of(firsts: Sequence[Record], named: str | None, config: RunConfig) -> Dataset:
    """The collection that is `named`, else that of the records. Raises InputError where it is not here."""
    if named is not None or not firsts:
        return one_dataset(str(named), config.titles, config.queries_with_text)
    before = firsts[0].manifest
    titles = before.config.get("titles")
    return one_dataset(
        recorded_data.asked_name(before.data),
        config.titles or (Path(titles) if titles else None),
        config.queries_with_text or before.data.rules.queries_with_text,
    )


def check_unchanged(record: Record, dataset: Dataset) -> None:
    """Raise InputError where the collection is not what the record was made with."""
    now = {"corpus": dataset.content_hash, "queries": dataset.queries_hash, "judgments": dataset.qrels_hash}
    data = record.manifest.data
    then = {"corpus": data.corpus_hash, "queries": data.queries_hash, "judgments": data.qrels_hash}
    unknown = set() if knows_corpus(data) and dataset.surveyed else {"corpus"}
    unknown |= set() if knows_queries(data) and dataset.queries_hash else {"queries"}
    if other := [name for name, value in now.items() if then[name] != value and name not in unknown]:
        raise InputError(
            f"{record.folder} was made with another {record.manifest.data.name} than {dataset.name} is now: "
            f"{', '.join(other)} differ. "
            + (
                "It was made without --queries-with-text: leave it out."
                if dataset.queries_with_text and not data.rules.queries_with_text
                else "Run it again, or name its collection with --dataset."
            )
        )


def part_of(
    found: Any, record: Record | None, weight: float | None, dataset: Dataset, top_k: int, job: HarnessJob
) -> Part:
    """Read a part, with the collection's queries in their order. Raises InputError as `harness.runs.external`."""
    query_ids = [query.query_id for query in dataset.queries]
    if record is not None:
        named = FusedPart(
            name=label(record.manifest),
            record=record.folder.name,
            location=str(record.folder.absolute()),
            run_hash=record.manifest.files[records.RUN],
            weight=weight,
            cut_at=depth(record, sys.maxsize),
        )
        return Part(named, aligned(trec.read(record.folder / records.RUN), query_ids), record)
    content = given(found)
    run, _ = fitted(content, dataset, top_k, job, check_documents=True)
    file = content.file
    name = file.tag or Path(file.location).name
    named = FusedPart(
        name=name,
        record=None,
        location=file.location,
        run_hash=file.sha256 or fusion.digest(run),
        weight=weight,
        cut_at=file.cut_at if file.cut_at and not (dataset.surveyed and file.cut_at >= dataset.count) else None,
    )
    return Part(named, run, None)


def shortly(parts: Sequence[Part]) -> str:
    """The parts' retrievers, in a few words."""
    names = [name_of(part.record.manifest.system) if part.record else part.named.name for part in parts]
    if len(set(names)) < len(names):
        names = [part.named.name for part in parts]
    return " + ".join(names)


def told_apart(parts: Sequence[Part]) -> list[Part]:
    """The same parts, the records among them by names of which no two are alike."""
    names = iter(unique([part.record for part in parts if part.record]))
    return [
        replace(part, named=part.named.model_copy(update={"name": next(names)})) if part.record else part
        for part in parts
    ]


def _same(before: Sequence[FusedPart], now: Sequence[FusedPart]) -> bool:
    """Whether parts are the same runs with the same weights, whatever they were called."""
    return [one.model_copy(update={"name": ""}) for one in before] == [
        one.model_copy(update={"name": ""}) for one in now
    ]


def check_once(parts: Sequence[Part]) -> None:
    """Raise InputError where two parts are the same run, whatever they are called."""
    digests = [fusion.digest(part.run) for part in parts]
    for number, one in enumerate(digests):
        if one in digests[:number]:
            raise InputError(
                f"{parts[number].named.location} is the same run as {parts[digests.index(one)].named.location}. "
                "Give each run once; a weight counts one more."
            )
