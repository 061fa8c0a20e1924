"""The manifests of records that are made from runs that are there already: re-ranked, fused, read from a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.datasets.dataset import Dataset
from harness.reports.records import records
from harness.reports.records.origin import FusedPart, Reranking, RunFile
from harness.reports.records.records import Manifest, Record
from harness.retrievers.rerank import Reranker
from harness.retrievers.types import Run
from harness.runs import manifest
from harness.runs.config import RetrieverSpec, RunConfig
from harness.runtime.job import Conductor


def of_reranked(
    config: RunConfig, command: Sequence[str], job: Conductor, spec: RetrieverSpec, reranker: Reranker, first: Record
) -> Manifest:
    """The manifest of a run that was made from another record's: its system, and what re-ranked it."""
    before, about = first.manifest.system, reranker.about
    depth, name = reranker.options.depth, Path(reranker.options.checkpoint).name
    system = before.model_copy(
        update={
            "retriever": spec.label,
            "system": f"{before.system}, re-ranked",
            "variant": ", ".join(filter(None, [before.variant, f"top {depth:,} by {name}"])),
            **_NO_ROW,
            "reranked": Reranking(
                checkpoint=reranker.options.checkpoint,
                checkpoint_hash=reranker.checkpoint_hash,
                depth=depth,
                length=about.length,
                outputs=about.outputs,
                titles=reranker.options.titles,
                precision=reranker.precision,
                first_stage=first.folder.name,
                first_run_hash=first.manifest.files[records.RUN],
            ),
        }
    )
    return derived(first.manifest, command, job, system).model_copy(
        update={
            "config": config.model_dump(mode="json"),
            "packages": first.manifest.packages | manifest.packages(reranker.packages),
        }
    )


# a record that is made from others fills no row of the paper's tables, whatever they fill
_NO_ROW: dict[str, Any] = {"stage": None, "paper_rows": (), "trained": {}, "model": {}}


def derived(first: Manifest, command: Sequence[str], job: Conductor, system: records.System) -> Manifest:
    """The manifest of a run that was made from finished ones, of which `first` is one: its collection, another system.

    `cost` is of the making alone; what the others took is in their records.
    """
    return first.model_copy(
        update={
            "created": manifest.now(),
            "command": list(command),
            "system": system,
            "cost": manifest.cost(job, 1, None),
            "git_commit": manifest.git_commit(),
            "warnings": list(job.warnings),
            "files": {},
        }
    )


def of_made(
    config: RunConfig, command: Sequence[str], job: Conductor, dataset: Dataset, run: Run, system: records.System
) -> Manifest:
    """The manifest of a run that was not searched here: `system` says what it was made from."""
    return Manifest(
        schema_version=records.SCHEMA_VERSION,
        created=manifest.now(),
        command=list(command),
        config=config.model_dump(mode="json"),
        system=system,
        data=manifest.data(dataset, run.silent),
        top_k=config.top_k,
        top_k_searched=min(config.top_k, dataset.count),
        cost=manifest.cost(job, 1, None),
        packages=manifest.packages(()),
        git_commit=manifest.git_commit(),
        warnings=list(job.warnings),
        parts=[],
        files={},
    )


def given_system(label: str, file: RunFile) -> records.System:
    """What is known of a system whose run was given: the name it goes by."""
    variant = f"from {Path(file.location).name}" if file.sha256 else file.location
    return _system(label, f"{label}, as given", variant, {}, file=file)


def fused_system(label: str, variant: str, options: dict[str, Any], parts: Sequence[FusedPart]) -> records.System:
    """The system that several runs make together."""
    system = f"fusion of {', '.join(part.name for part in parts)}"
    return _system(label, system, variant, options, fused=tuple(parts))


def _system(label: str, system: str, variant: str, options: dict[str, Any], **origin: Any) -> records.System:
    nothing = ("checkpoint", "checkpoint_hash", "seed", "bytes_per_document", "bytes_per_document_paper")
    return records.System(
        retriever=label, system=system, variant=variant, options=options, **dict.fromkeys(nothing), **_NO_ROW, **origin
    )
