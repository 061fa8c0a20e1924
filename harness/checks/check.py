"""Measured against expected scores: what changed, which queries made it, and whether a drop is significant."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.checks import measure
from harness.checks.baseline import Entry, Expected, Rows, top_hash
from harness.checks.baseline_file import Baseline
from harness.checks.measure import Collection, Measured
from harness.models.errors import CheckpointError
from harness.reports.checks import Checked, Finding, Flip, Status
from harness.reports.errors import RecordError
from harness.reports.statistics.format import p_value
from harness.reports.statistics.paired import against_baseline
from harness.reports.statistics.randomisation import SAME
from harness.retrievers.errors import InputError
from harness.runs.external import Given

MENDABLE = (InputError, RecordError, CheckpointError, OSError)  # the last of disks
_LEVEL = 0.05
_FLIPS, _SEED = 10_000, 42


def check(
    baseline: Baseline,
    entries: Sequence[Entry],
    results: Path | None = None,
    threads: int | None = None,
    run: Given | None = None,
) -> Iterator[Checked]:
    """Check each of `entries`, or a `run` that was given as what one of them gives now.

    An entry that cannot be checked says so and keeps none of the others from it.
    """
    for name, problem in baseline.problems.items():
        yield Checked(name, (Finding(name, "baseline", Status.UNCHECKED, detail=problem),))
    for entry in entries:
        began = time.perf_counter()
        try:
            findings, flips, notes = _one(entry, baseline.rows.get(entry.name), results, threads, run)
        except MENDABLE as error:
            findings, flips, notes = [Finding(entry.name, "baseline", Status.UNCHECKED, detail=str(error))], [], []
        yield Checked(entry.name, tuple(findings), tuple(flips), tuple(notes), time.perf_counter() - began)


Parts = tuple[list[Finding], list[Flip], list[str]]


def _one(entry: Entry, rows: Rows | None, results: Path | None, threads: int | None, run: Given | None) -> Parts:
    if not entry.filled:
        raise InputError("no expected values or inputs yet. `harness check --update` fills them in.")
    measure.run_config(entry, Path(), threads)  # names and options, before a collection is read
    collection = measure.open_collection(entry, threads)
    findings = _inputs(entry, collection, rows)
    if any(finding.status is not Status.OK for finding in findings):
        return findings, [], []
    if run is None:
        measured = measure.measure(entry, collection, results, threads)
    else:
        measured = measure.measure_given(entry, collection, run, threads)
    scores = [_score(entry, name, expected, measured, rows) for name, expected in entry.metrics.items()]
    findings += scores
    if entry.check_top_10 and entry.top_10 is not None:
        findings.append(_top_10(entry, measured, rows))
    notes = []
    if measured.checkpoint_hash and measured.checkpoint_hash != entry.checkpoint_hash:
        was = (entry.checkpoint_hash or "none")[:10]
        notes.append(
            f"{entry.name}: another checkpoint than the baseline's: {measured.checkpoint_hash[:10]} (was {was})."
        )
    if all(finding.status is Status.OK for finding in findings):
        return findings, [], notes
    if rows is None:
        notes.append(
            f"{entry.name}: the queries that flipped cannot be named, since the CSV beside the baseline is missing or "
            "not the one that was written with it."
        )
    now = measure.packages_of(entry) if run is None else entry.packages
    if other := [f"{name} {now.get(name)} (was {was})" for name, was in entry.packages.items() if now.get(name) != was]:
        notes.append(f"{entry.name}: other packages than the baseline's: {', '.join(other)}.")
    failed = [finding.check for finding in scores if finding.status is not Status.OK]
    return findings, _flips(entry, measured, rows or {}, failed or list(entry.metrics)), notes


def _inputs(entry: Entry, collection: Collection, rows: Rows | None) -> list[Finding]:
    if entry.inputs is None:
        raise AssertionError("an entry that is filled has inputs")
    findings = []
    for name in ("corpus", "queries", "judgments"):
        expected, found = str(getattr(entry.inputs, name)), str(getattr(collection.inputs, name))
        status = Status.OK if expected == found else Status.OTHER_INPUTS
        detail = "" if status is Status.OK else _what_differs(name, collection, rows)
        findings.append(Finding(entry.name, name, status, expected[:10], found[:10], detail=detail))
    return findings


def _what_differs(name: str, collection: Collection, rows: Rows | None) -> str:
    """Which queries have another text or other judgments, as far as the CSV tells."""
    closing = "not the baseline's, so nothing was run; restore it, or --update if it is meant"
    if rows is None or name == "corpus":
        return closing
    part = "text" if name == "queries" else name
    now = {query_id: getattr(topic, part) for query_id, topic in collection.topics.items()}
    then = {query_id: getattr(row, part) for query_id, row in rows.items()}
    said = (
        ("other", [q for q in now if q in then and now[q] != then[q]]),
        ("new", [q for q in now if q not in then]),
        ("gone", [q for q in then if q not in now]),
    )
    named = "; ".join(f"{word}: {_some(ids)}" for word, ids in said if ids)
    return f"{named}; {closing}" if named else closing


def _some(ids: list[str]) -> str:
    return ", ".join(ids[:10]) + (f" and {len(ids) - 10:,} more" if len(ids) > 10 else "")


def _score(entry: Entry, name: str, expected: Expected, measured: Measured, rows: Rows | None) -> Finding:
    value, tolerance = expected.value or 0.0, expected.tolerance
    before, allowed = f"{value:.6f}", f"{tolerance:g}"
    if measured.refused:
        return Finding(entry.name, name, Status.CHANGED, before, "none", allowed, measured.refused)
    now = measured.means[name]
    # what rounding to the six decimals of the file takes away is no change
    inside = abs(now - value) <= tolerance + 5e-7
    status = Status.OK if inside else Status.CHANGED
    return Finding(
        entry.name, name, status, before, f"{now:.6f}", allowed, "" if inside else _told(name, value, measured, rows)
    )


def _told(name: str, value: float, measured: Measured, rows: Rows | None) -> str:
    """Whether the change is significant; nothing of it where the rows beside the file are not those of its score."""
    if rows and abs(sum(row.scores[name] for row in rows.values()) / len(rows) - value) > 1e-6:
        return "the rows of the CSV have another mean than this score: restore both, or --update"
    return _significance(name, measured, rows)


def _significance(name: str, measured: Measured, rows: Rows | None) -> str:
    if rows is None or rows.keys() != measured.scores.keys() or len(rows) < 2:
        return ""
    before = {query_id: row.scores[name] for query_id, row in rows.items()}
    after = {query_id: of_one[name] for query_id, of_one in measured.scores.items()}
    [found] = against_baseline("expected", {"expected": before, "measured": after}, _FLIPS, _SEED).systems
    verdict = "significant" if found.p_random < _LEVEL else "not significant"
    word = "drop" if found.difference < 0 else "rise"
    t_test = p_value(found.p_t) or "none, since all differ alike"
    return (
        f"{word} of {abs(found.difference):.4f} is {verdict} at {_LEVEL} (paired randomisation p "
        f"{p_value(found.p_random)}, t-test p {t_test}); {found.wins} wins, {found.ties} ties, {found.losses} losses"
    )


def _top_10(entry: Entry, measured: Measured, rows: Rows | None) -> Finding:
    expected, found = entry.top_10 or "", top_hash(measured.top)
    if expected == found:
        return Finding(entry.name, "top 10", Status.OK, expected[:10], found[:10])
    detail = "another order or other documents"
    if rows is not None:
        pairs = [(row.top, measured.top.get(query_id, ())) for query_id, row in rows.items()]
        flipped = [(then, now) for then, now in pairs if then != now]
        order = sum(set(then) == set(now) for then, now in flipped)
        detail = f"{len(flipped):,} of {len(pairs):,} queries flipped, {order:,} of them in order only"
    return Finding(entry.name, "top 10", Status.CHANGED, expected[:10], found[:10], detail=detail)


def _flips(entry: Entry, measured: Measured, rows: Rows, metrics: list[str]) -> list[Flip]:
    flips = []
    for query_id, row in rows.items():
        now = measured.scores.get(query_id, {})
        scores = {name: (row.scores[name], now[name]) for name in metrics if name in now}
        flip = Flip(entry.name, query_id, row.top, measured.top.get(query_id, ()), scores)
        if flip.size > SAME or flip.expected != flip.measured:
            flips.append(flip)
    return sorted(flips, key=lambda flip: (-flip.size, flip.query_id))
