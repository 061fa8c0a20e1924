"""What a record says of where it came from: searched, re-ranked, fused, read from a file, or the mean of others."""

import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.datasets.dataset import Dataset
from harness.datasets.rules import canonical, our_rules
from harness.reports.records import records
from harness.reports.records.origin import FusedPart, Reranking, RunFile
from harness.reports.records.records import Manifest, Record
from harness.retrievers.registry import Retriever
from harness.retrievers.rerank import Reranker
from harness.retrievers.types import Run
from harness.runs.config import RetrieverSpec, RunConfig
from harness.runtime.environment import git_commit, hardware, now, packages
from harness.runtime.hashing import joint
from harness.runtime.job import HarnessJob


def of_run(
    config: RunConfig,
    command: Sequence[str],
    job: HarnessJob,
    spec: RetrieverSpec,
    retriever: Retriever,
    dataset: Dataset,
    result: Run,
) -> Manifest:
    """The manifest of one retriever on one dataset; `files` is filled in when it is written."""
    identity = retriever.identity()
    chosen = retriever.options.model_dump(mode="json", exclude_defaults=True, exclude=set(retriever.told))
    return Manifest(
        schema_version=records.SCHEMA_VERSION,
        created=now(),
        command=list(command),
        config=config.model_dump(mode="json"),
        system=records.System(
            **_names(spec),
            options=retriever.resolved(),
            asked=chosen,
            **identity.model_dump(exclude={"paper_rows"}),
            paper_rows=tuple(records.PaperRow(table=row.table, row=row.row) for row in identity.paper_rows),
        ),
        data=data(dataset, result.silent),
        top_k=config.top_k,
        top_k_searched=min(config.top_k, dataset.count),
        cost=cost(job, job.team.count if retriever.distributed else 1, len(result)).model_copy(
            update={"service": retriever.service_cost() or None}
        ),
        packages=packages(retriever.packages),
        git_commit=git_commit(),
        warnings=list(job.warnings),
        parts=[],
        files={},
    )


def _names(spec: RetrieverSpec) -> dict[str, Any]:
    """How a system is named: as it was typed, and the word that it goes by where that is another."""
    return {"retriever": spec.whole, "called": None if spec.label == spec.whole else spec.label}


def data(dataset: Dataset, silent: int) -> records.Data:
    """What was searched; `silent` queries had no results."""
    rules = dataset.rules
    return records.Data(
        name=dataset.name,
        dataset_id=dataset.dataset_id,
        source=dataset.source.kind,
        location=dataset.source.location,
        revision=dataset.revision,
        counts=dataset.counts.model_dump(exclude_none=True) | {"queries_without_results": silent},
        corpus_hash=dataset.content_hash,
        queries_hash=dataset.queries_hash,
        qrels_hash=dataset.qrels_hash,
        formats=dataset.formats,
        rules=records.AppliedRules(
            query_field=dataset.fields.query,
            doc_fields=dataset.fields.docs,
            drop_self=rules.drop_self,
            binary_level=rules.binary_level,
            mrr_level=rules.mrr_level,
            mean_of=rules.mean_of,
            source=rules.source,
            titles=_titles(dataset),
            titles_hash=records.sha256(dataset.titles) if dataset.titles else None,
            queries_with_text=dataset.queries_with_text and dataset.counts.judged_queries_without_text > 0,
        ),
    )


def of_mean(config: RunConfig, command: Sequence[str], name: str, members: Sequence[Record]) -> Manifest:
    """The manifest of a composite: its first member's system, everybody's sums."""
    first = members[0].manifest
    counts = {key: sum(m.manifest.data.counts[key] for m in members) for key in first.data.counts}
    phases = sorted({phase for m in members for phase in m.manifest.cost.seconds})
    seconds = {phase: round(sum(m.manifest.cost.seconds.get(phase, 0.0) for m in members), 3) for phase in phases}
    rules = our_rules(canonical(name))
    return first.model_copy(
        update={
            "created": now(),
            "command": list(command),
            "config": config.model_dump(mode="json"),
            "data": first.data.model_copy(
                update={
                    "name": name,
                    "dataset_id": canonical(name),
                    "counts": counts,
                    "corpus_hash": joint(m.manifest.data.corpus_hash for m in members),
                    "queries_hash": joint(m.manifest.data.queries_hash for m in members),
                    "qrels_hash": joint(m.manifest.data.qrels_hash for m in members),
                    "rules": first.data.rules.model_copy(update={"mean_of": rules.mean_of, "source": rules.source}),
                }
            ),
            "cost": first.cost.model_copy(
                update={
                    "seconds": seconds,
                    "peak_memory_bytes": max(m.manifest.cost.peak_memory_bytes for m in members),
                    "queries_per_second": counts["queries"] / seconds["search"] if seconds.get("search") else None,
                    "service": None,  # a median of medians is none; each part has its own
                }
            ),
            "warnings": [warning for m in members for warning in m.manifest.warnings],
            "parts": [m.manifest.data.name for m in members],
            "files": {},
        }
    )


def cost(job: HarnessJob, processes: int, queries: int | None) -> records.Cost:
    """What a record took; `queries` are those that were searched."""
    searched = job.seconds.get("search")
    return records.Cost(
        hardware=hardware(job.threads) | {"processes": processes},
        seconds={name: round(seconds, 3) for name, seconds in job.seconds.items()},
        peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        queries_per_second=round(queries / searched, 2) if queries and searched else None,
    )


def _titles(dataset: Dataset) -> str:
    if dataset.titles is not None:
        return f"joined from {dataset.titles.name}"
    counts = dataset.counts
    if counts.documents is None or counts.documents_without_title is None:
        return "not looked at"
    if counts.documents_without_title < counts.documents:
        return "in the corpus"
    return "none, though the paper's systems had them" if dataset.rules.titles_wanted else "none"


def of_reranked(
    config: RunConfig, command: Sequence[str], job: HarnessJob, spec: RetrieverSpec, reranker: Reranker, first: Record
) -> Manifest:
    """The manifest of a run that was made from another record's: its system, and what re-ranked it."""
    before, about = first.manifest.system, reranker.about
    depth, name = reranker.options.depth, Path(reranker.options.checkpoint).name
    system = before.model_copy(
        update={
            **_names(spec),
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
            "packages": first.manifest.packages | packages(reranker.packages),
        }
    )


# a record that is made from others fills no row of the paper's tables, whatever they fill
_NO_ROW: dict[str, Any] = {"stage": None, "paper_rows": (), "trained": {}, "model": {}}


def derived(first: Manifest, command: Sequence[str], job: HarnessJob, system: records.System) -> Manifest:
    """The manifest of a run that was made from finished ones, of which `first` is one: its collection, another system.

    `cost` is of the making alone; what the others took is in their records.
    """
    return first.model_copy(
        update={
            "created": now(),
            "command": list(command),
            "system": system,
            "cost": cost(job, 1, None),
            "git_commit": git_commit(),
            "warnings": list(job.warnings),
            "files": {},
        }
    )


def of_made(
    config: RunConfig, command: Sequence[str], job: HarnessJob, dataset: Dataset, run: Run, system: records.System
) -> Manifest:
    """The manifest of a run that was not searched here: `system` says what it was made from."""
    return Manifest(
        schema_version=records.SCHEMA_VERSION,
        created=now(),
        command=list(command),
        config=config.model_dump(mode="json"),
        system=system,
        data=data(dataset, run.silent),
        top_k=config.top_k,
        top_k_searched=min(config.top_k, dataset.count) if dataset.surveyed else config.top_k,
        cost=cost(job, 1, None),
        packages=packages(()),
        git_commit=git_commit(),
        warnings=list(job.warnings),
        parts=[],
        files={},
    )


def given_system(label: str, file: RunFile) -> records.System:
    """What is known of a system whose run was given: the name it goes by."""
    piped = file.location.startswith(("/dev/", "/proc/"))
    variant = ("from a pipe" if piped else f"from {Path(file.location).name}") if file.sha256 else file.location
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
