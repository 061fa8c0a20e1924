"""`harness fuse`: several runs of one collection become one, with a record that names its parts."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from harness.datasets.dataset import cache
from harness.reports.records import records
from harness.reports.records.records import Manifest
from harness.retrievers.errors import InputError, unknown
from harness.retrievers.run_files import fusion
from harness.retrievers.types import Run
from harness.runs import derived
from harness.runs.config import RunConfig
from harness.runs.parts import (
    check_once,
    check_one_collection,
    check_unchanged,
    dataset_of,
    part_of,
    record_of,
    shortly,
)
from harness.runs.record_store import Shelf, check_writable
from harness.runs.runner import Outcome
from harness.runtime.job import Conductor

LABEL = "fusion"


class Recipe(BaseModel):
    """How runs are fused; see `harness.retrievers.run_files.fusion`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: fusion.Method = "rrf"
    k: int = Field(fusion.RRF_K, ge=0)
    weights: tuple[float, ...] | None = None
    norm: fusion.Norm = "min-max"

    @property
    def options(self) -> dict[str, Any]:
        """Those that the method has."""
        if self.method == "rrf":
            return {"method": self.method, "k": self.k}
        return {"method": self.method, "weights": self.weights, "norm": self.norm}

    @property
    def variant(self) -> str:
        """In a few words."""
        if self.method == "rrf":
            return f"rrf k = {self.k}"
        weights = ", ".join(f"{weight:g}" for weight in self.weights or ())
        return f"weighted {weights}" + ", no norm" * (self.norm == "none")


def recipe(method: str, k: int | None, weights: Sequence[float] | None, norm: str | None) -> Recipe:
    """A checked recipe. Raises InputError for an unknown name, or an option that the method does not have."""
    if method not in ("rrf", "weighted"):
        raise unknown("method", method, ["rrf", "weighted"])
    if norm not in (None, "min-max", "none"):
        raise unknown("norm", str(norm), ["min-max", "none"])
    foreign = {"weights": weights, "norm": norm} if method == "rrf" else {"k": k}
    if given_ := [name for name, value in foreign.items() if value is not None]:
        raise InputError(f"{', '.join(given_)}: the method {method} has no such option.")
    if k is not None and k < 0:
        raise InputError(f"k is {k}; want a whole number from 0 up ({fusion.RRF_K} is usual).")
    chosen: dict[str, Any] = {"k": k, "norm": norm, "weights": None if weights is None else tuple(weights)}
    return Recipe(method=method, **{name: value for name, value in chosen.items() if value is not None})


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
        raise InputError("runs from files do not say which collection they are of. Name it with --dataset.")
    check_writable(config.results)
    job = Conductor(cache(), config.threads)
    data = dataset_of(firsts, dataset, config)
    data.open(job)
    config = config.model_copy(update={"datasets": [data.name]})
    if firsts:
        check_unchanged(firsts[0], data)
    every = weights if how.method == "weighted" else [None] * len(found)
    parts = [
        part_of(one, record, weight, data, config.top_k, job)
        for one, record, weight in zip(found, read, every, strict=True)
    ]
    check_once(parts)
    for message in [w for part in parts if part.record for w in part.record.manifest.warnings] or data.warnings:
        job.warn(message)
    shelf = Shelf(config.results, config.force, job)
    key = {
        "schema": records.SCHEMA_VERSION,
        "fusion": how.options,
        "runs": [fusion.digest(part.run) for part in parts],
        "hashes": [data.content_hash, data.queries_hash, data.qrels_hash],
        "rules": [data.rules.drop_self, data.rules.binary_level],
        "top_k": config.top_k,
        "packages": {"ranx": version("ranx")},
    }

    def make() -> Run:
        with job.phase("fuse", len(data.queries), "queries"):
            return fusion.fuse(
                [part.run for part in parts], how.method, k=how.k, weights=weights, norm=how.norm, top_k=config.top_k
            )

    def describe(run: Run) -> Manifest:
        system = derived.fused_system(
            LABEL, f"{how.variant} of {shortly(parts)}", how.options, [part.named for part in parts]
        )
        return derived.of_made(config, command, job, data, run, system)

    folder = shelf.folder(data.name, LABEL, key)
    return Outcome(*shelf.keep(folder, LABEL, data, config.metric_names(), make, describe))
