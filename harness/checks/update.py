"""`harness check --update`: what is measured becomes what is expected, and what changes is shown."""

from collections.abc import Sequence
from pathlib import Path

from harness.checks import measure
from harness.checks.baseline import Entry, Expected, Rows, rows_hash, top_hash
from harness.checks.baseline_file import Baseline, write
from harness.checks.check import MENDABLE
from harness.retrievers.errors import InputError
from harness.runs.config import RetrieverSpec, make_retriever

Change = tuple[str, str, str, str]  # entry, what, before, after


def empty(path: Path) -> Baseline:
    """A baseline that is yet to be written."""
    return Baseline(path, (), {}, {})


def wanted(
    baseline: Baseline, specs: Sequence[RetrieverSpec], datasets: Sequence[str], queries_with_text: bool = False
) -> list[Entry]:
    """The entries of these retrievers on these collections: those of the baseline, and new ones without values.

    Raises InputError for a retriever or an option that is not there.
    """
    chosen: list[Entry] = []
    for dataset in datasets:
        for spec in specs:
            options = make_retriever(spec).options
            like = [
                entry
                for entry in baseline.entries
                if (entry.retriever, entry.dataset) == (spec.name, dataset)
                and (entry.queries_with_text or not queries_with_text)
                and make_retriever(RetrieverSpec(name=spec.name, options=entry.options)).options == options
            ]
            chosen += like or [_new(baseline, [entry.name for entry in chosen], spec, dataset, queries_with_text)]
    return chosen


def _new(
    baseline: Baseline, others: Sequence[str], spec: RetrieverSpec, dataset: str, queries_with_text: bool
) -> Entry:
    """An entry without values. The retriever's whole name is in its own only where the short one is another's."""
    options = " ".join(f"{key}={value}" for key, value in sorted(spec.options.items()))
    taken = {*others, *(entry.name for entry in baseline.entries)}
    names = [f"{dataset} {retriever} {options}".strip() for retriever in (spec.label, spec.name)]
    name = next((name for name in names if name not in taken), names[-1])
    if name in taken:
        raise InputError(f"{baseline.path} has another entry of the name {name!r}. Rename it there.")
    asked = {"name": name, "retriever": spec.name, "options": spec.options, "dataset": dataset}
    return Entry.model_validate(asked | {"queries_with_text": queries_with_text})


def update(
    baseline: Baseline,
    entries: Sequence[Entry],
    results: Path | None = None,
    threads: int | None = None,
    metrics: Sequence[str] | None = None,
    tolerance: float | None = None,
) -> tuple[list[Change], bool]:
    """Measure `entries` and write the baseline with them; the other entries stay as they are.

    `metrics` and `tolerance` take the place of an entry's own. Returns what changes, and whether a file did.

    Raises InputError, and writes nothing, where an entry cannot be read or measured.
    """
    problems = list(baseline.problems.values())
    kept = {entry.name: entry for entry in baseline.entries}
    rows = dict(baseline.rows)
    changes: list[Change] = []
    for entry in entries:
        try:
            asked = _with_metrics(entry, metrics, tolerance)
            filled, rows[entry.name] = _measured(asked, results, threads)
        except MENDABLE as error:
            problems.append(f"{entry.name}: {error}")
            continue
        changes += _changes(kept.get(entry.name), filled, baseline.rows.get(entry.name), rows[entry.name])
        kept[entry.name] = filled
    if problems:
        raise InputError(f"nothing was written to {baseline.path}. {' '.join(problems)}")
    return changes, write(baseline.path, list(kept.values()), rows)


def _with_metrics(entry: Entry, metrics: Sequence[str] | None, tolerance: float | None) -> Entry:
    names = {name: entry.metrics.get(name, Expected()) for name in metrics} if metrics else entry.metrics
    if tolerance is not None:
        names = {name: expected.model_copy(update={"tolerance": tolerance}) for name, expected in names.items()}
    return Entry.model_validate(entry.model_dump() | {"metrics": {k: v.model_dump() for k, v in names.items()}})


def _measured(entry: Entry, results: Path | None, threads: int | None) -> tuple[Entry, Rows]:
    measure.run_config(entry, Path(), threads)
    collection = measure.open_collection(entry, threads)
    measured = measure.measure(entry, collection, results, threads)
    if measured.refused:
        raise InputError(measured.refused)
    rows = measured.rows(collection, list(entry.metrics))
    metrics = {
        name: Expected(value=round(measured.means[name], 6), tolerance=expected.tolerance)
        for name, expected in entry.metrics.items()
    }
    filled = entry.model_copy(
        update={
            "top_k": entry.depth(),
            "metrics": metrics,
            "top_10": top_hash(measured.top),
            "queries": len(rows),
            "inputs": collection.inputs,
            "packages": measure.packages_of(entry),
            "checkpoint_hash": measured.checkpoint_hash,
            "per_query": rows_hash(rows),
        }
    )
    return filled, rows


def _changes(before: Entry | None, after: Entry, old: Rows | None, new: Rows) -> list[Change]:
    was, now = _facts(before), _facts(after)
    changes = [(after.name, key, was.get(key, ""), now.get(key, "")) for key in {**was, **now}]
    changes = [change for change in changes if change[2] != change[3]]
    flipped = [query_id for query_id, row in new.items() if old and query_id in old and old[query_id].top != row.top]
    if flipped:
        some = ", ".join(flipped[:10]) + (f" and {len(flipped) - 10:,} more" if len(flipped) > 10 else "")
        changes.append((after.name, "queries with another top 10", "", some))
    return changes


def _facts(entry: Entry | None) -> dict[str, str]:
    if entry is None:
        return {}
    facts = {
        name: f"{expected.value:.6f} ± {expected.tolerance:g}"
        for name, expected in entry.metrics.items()
        if expected.value is not None
    }
    if entry.top_10:
        facts["top 10"] = entry.top_10[:10]
    if entry.inputs:
        facts |= {name: value[:10] for name, value in entry.inputs.model_dump().items()}
    if entry.checkpoint_hash:
        facts["checkpoint"] = entry.checkpoint_hash[:10]
    return facts | entry.packages | ({"queries in all": f"{entry.queries:,}"} if entry.queries else {})
