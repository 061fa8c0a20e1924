"""The outcome of checks against stored scores: as tables, and as JUnit XML for CI systems."""

import dataclasses
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.reports.markdown import table


class Status(StrEnum):
    """What became of one check."""

    OK = "ok"
    CHANGED = "changed"  # a regression, or a gain that nobody has reviewed: exit 1
    OTHER_INPUTS = "other inputs"  # no regression: what is measured is not what the baseline is of: exit 2
    UNCHECKED = "cannot be checked"  # exit 2


@dataclass(frozen=True)
class Finding:
    """One check of one entry: what was expected, what was measured, and what that means."""

    entry: str
    check: str
    status: Status
    expected: str = ""
    measured: str = ""
    tolerance: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Flip:
    """A query whose top 10 or score is another: the first documents as expected and as measured, and the scores."""

    entry: str
    query_id: str
    expected: tuple[str, ...]
    measured: tuple[str, ...]
    scores: dict[str, tuple[float, float]]  # metric → expected, measured

    @property
    def size(self) -> float:
        """The greatest change of a score."""
        return max((abs(after - before) for before, after in self.scores.values()), default=0.0)

    def documents(self) -> str:
        """Which documents entered and left, with their ranks, or which changed places."""
        if self.expected == self.measured:
            return "as before"
        entered = [f"{doc} (rank {n})" for n, doc in enumerate(self.measured, 1) if doc not in self.expected]
        left = [f"{doc} (was {n})" for n, doc in enumerate(self.expected, 1) if doc not in self.measured]
        if entered or left:
            said = (("entered", entered), ("left", left))
            return "; ".join(f"{word} {', '.join(docs)}" for word, docs in said if docs)
        apart = [n for n, pair in enumerate(zip(self.expected, self.measured, strict=True)) if pair[0] != pair[1]]
        span = slice(apart[0], apart[-1] + 1)
        return f"order from rank {apart[0] + 1}: {' '.join(self.measured[span])} (was {' '.join(self.expected[span])})"

    def score_changes(self) -> str:
        """Each score that is another, as it was and is."""
        other = {name: pair for name, pair in self.scores.items() if pair[0] != pair[1]}
        return ", ".join(f"{name} {before:.4f} → {after:.4f}" for name, (before, after) in other.items())


@dataclass(frozen=True)
class Checked:
    """All that was checked of one entry."""

    entry: str
    findings: tuple[Finding, ...]
    flips: tuple[Flip, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


def as_json(results: Sequence[Checked]) -> str:
    """All that was checked, flipped and noted, entry by entry, and the exit status."""
    whole = {"status": exit_status(results), "entries": [dataclasses.asdict(result) for result in results]}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def exit_status(results: Sequence[Checked]) -> int:
    """0 where all is as expected, 1 where anything changed, else 2."""
    found = {finding.status for result in results for finding in result.findings}
    return 1 if Status.CHANGED in found else 2 if found - {Status.OK} else 0


def as_markdown(results: Sequence[Checked], show: int = 20) -> str:
    """A table of every check, and one of the queries that flipped, `show` of each entry, the greatest changes first."""
    columns = ["entry", "check", "expected", "measured", "tolerance", "status", "detail"]
    text = table(
        columns,
        [
            [f.entry, f.check, f.expected, f.measured, f.tolerance, f.status.value, f.detail]
            for result in results
            for f in result.findings
        ],
        columns[2:5],
    )
    flips = [
        [flip.entry, flip.query_id, flip.documents(), flip.score_changes()]
        for result in results
        for flip in result.flips[:show]
    ]
    return text + ("\n" + table(["entry", "query", "top 10", "scores"], flips) if flips else "")


def as_junit(results: Sequence[Checked]) -> str:
    """JUnit XML: a suite of each entry, a case of each check.

    What changed is a failure, with the queries that flipped; what could not be checked is an error.
    """
    root = ET.Element("testsuites", name="harness check")
    totals = {"tests": 0, "failures": 0, "errors": 0}
    for result in results:
        suite = ET.SubElement(root, "testsuite", name=_legal(result.entry), time=f"{result.seconds:.3f}")
        counts = {"tests": 0, "failures": 0, "errors": 0}
        for finding in result.findings:
            case = ET.SubElement(suite, "testcase", classname=_legal(finding.entry), name=_legal(finding.check))
            counts["tests"] += 1
            if finding.status is Status.OK:
                continue
            kind = "failure" if finding.status is Status.CHANGED else "error"
            counts[f"{kind}s"] += 1
            problem = ET.SubElement(case, kind, type=finding.status.value, message=_legal(_sentence(finding)))
            if kind == "failure":
                problem.text = _legal(
                    "\n".join(f"{f.query_id}: {f.documents()}; {f.score_changes()}".rstrip("; ") for f in result.flips)
                )
        suite.attrib |= {name: str(count) for name, count in counts.items()}
        totals = {name: totals[name] + counts[name] for name in totals}
    root.attrib |= {name: str(count) for name, count in totals.items()}
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _sentence(finding: Finding) -> str:
    parts = []
    if finding.expected or finding.measured:
        parts.append(f"expected {finding.expected}, measured {finding.measured}")
    if finding.tolerance:
        parts.append(f"tolerance {finding.tolerance}")
    return "; ".join([*parts, finding.detail] if finding.detail else parts)


def _legal(text: str) -> str:
    """Without the characters that XML 1.0 cannot hold (its section 2.2)."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)
