"""What a record says of where it came from."""

import datetime
import hashlib
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness.datasets.dataset import Dataset
from harness.datasets.rules import canonical, rules_for
from harness.reports.records import records
from harness.reports.records.records import Manifest, Record
from harness.retrievers.registry import Retriever
from harness.retrievers.types import Run
from harness.runs.config import RetrieverSpec, RunConfig
from harness.runtime.job import Conductor
from harness.version import __version__

_PACKAGES = ("ir_datasets", "numpy", "pytrec-eval-terrier", "ranx")


def of_run(
    config: RunConfig,
    command: Sequence[str],
    job: Conductor,
    spec: RetrieverSpec,
    retriever: Retriever,
    dataset: Dataset,
    result: Run,
) -> Manifest:
    """The manifest of one retriever on one dataset; `files` is filled in when it is written."""
    identity = retriever.identity()
    return Manifest(
        schema_version=records.SCHEMA_VERSION,
        created=now(),
        command=list(command),
        config=config.model_dump(mode="json"),
        system=records.System(
            retriever=spec.name,
            options=retriever.resolved(),
            **identity.model_dump(exclude={"paper_rows"}),
            paper_rows=tuple(records.PaperRow(table=row.table, row=row.row) for row in identity.paper_rows),
        ),
        data=data(dataset, result.silent),
        top_k=config.top_k,
        top_k_searched=min(config.top_k, dataset.count),
        cost=cost(job, job.team.count if retriever.distributed else 1, len(result)),
        packages=packages(retriever.packages),
        git_commit=git_commit(),
        warnings=list(job.warnings),
        parts=[],
        files={},
    )


def data(dataset: Dataset, silent: int) -> records.Data:
    """What was searched; `silent` queries had no results."""
    rules = dataset.rules
    return records.Data(
        name=dataset.name,
        dataset_id=dataset.dataset_id,
        source=dataset.source.kind,
        location=dataset.source.location,
        counts=dataset.counts.model_dump() | {"queries_without_results": silent},
        corpus_hash=dataset.content_hash,
        queries_hash=dataset.queries_hash,
        qrels_hash=dataset.qrels_hash,
        rules=records.AppliedRules(
            drop_self=rules.drop_self,
            binary_level=rules.binary_level,
            mean_of=rules.mean_of,
            source=rules.source,
            titles=_titles(dataset),
            titles_hash=records.sha256(dataset.titles) if dataset.titles else None,
        ),
    )


def of_mean(config: RunConfig, command: Sequence[str], name: str, members: Sequence[Record]) -> Manifest:
    """The manifest of a composite: its first member's system, everybody's sums."""
    first = members[0].manifest
    counts = {key: sum(m.manifest.data.counts[key] for m in members) for key in first.data.counts}
    phases = sorted({phase for m in members for phase in m.manifest.cost.seconds})
    seconds = {phase: round(sum(m.manifest.cost.seconds.get(phase, 0.0) for m in members), 3) for phase in phases}
    rules = rules_for(canonical(name))
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
                }
            ),
            "warnings": [warning for m in members for warning in m.manifest.warnings],
            "parts": [m.manifest.data.name for m in members],
            "files": {},
        }
    )


def joint(hashes: Iterable[str]) -> str:
    """The hash of a composite, from those of its parts in their order."""
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def now() -> str:
    """The time, UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def cost(job: Conductor, processes: int, queries: int | None) -> records.Cost:
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
    if dataset.counts.documents_without_title < dataset.counts.documents:
        return "in the corpus"
    return "none, though the paper's systems had them" if dataset.rules.titles_wanted else "none"


def hardware(threads: int) -> dict[str, str | int]:
    """What a run ran on."""
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "threads": threads,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def packages(names: Sequence[str]) -> dict[str, str]:
    """Versions of the named packages and of those that every record names."""
    found = {"python": sys.version.split()[0], "dupmae-harness": __version__}
    for name in sorted({*_PACKAGES, *names}):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


@lru_cache(maxsize=1)
def git_commit() -> str | None:
    """The commit of the harness's own checkout, `-dirty` where it was changed; None for an installed package.

    Call it once before a Java virtual machine starts: it forks.
    """
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()
