"""A comparison as Markdown, CSV or JSON."""

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness.reports.markdown import table
from harness.reports.statistics.format import p_value
from harness.reports.statistics.paired import Against, Change, Judged, Significance

CORRECTIONS = ("all", "holm", "max-t", "none")
_HOLM, _MAX_T = ("all", "holm"), ("all", "max-t")


def as_markdown(
    found: Significance,
    metric: str,
    correction: str,
    judged: Mapping[str, Judged],
    changes: Mapping[str, Sequence[Change]],
    texts: Mapping[str, str],
) -> str:
    """Two tables: the systems against the baseline, and the queries that changed most.

    A p that is corrected for a single system is the p itself, so the columns of a correction stand only beside two
    systems or more.
    """
    wanted = correction if len(found.systems) > 1 else "none"
    rows = [_row(found, None, wanted, metric, judged)]
    rows += [_row(found, system, wanted, metric, judged) for system in found.systems]
    columns = list(rows[0])
    text = table(columns, [[row[column] for column in columns] for row in rows], columns[1:])
    moved = [
        [name, c.query_id, f"{c.baseline:.4f}", f"{c.value:.4f}", f"{c.difference:+.4f}", texts.get(c.query_id, "")]
        for name, of_one in changes.items()
        for c in of_one
    ]
    if moved:
        heads = ["system", "query", found.baseline, "system's", "difference", "text"]
        text += "\n" + table(heads, moved, heads[2:5])
    return text


def _row(
    found: Significance, system: Against | None, correction: str, metric: str, judged: Mapping[str, Judged]
) -> dict[str, str]:
    name, value = (found.baseline, found.value) if system is None else (system.name, system.value)
    row = {"system": name, metric: f"{value:.4f}"}
    cells = _tested(system, correction) if system is not None else {}
    row |= cells or dict.fromkeys(_tested(found.systems[0], correction), "")
    if judged:
        of_one = judged[name]
        row[f"Judged@{of_one.cutoff}"] = "" if of_one.share is None else f"{of_one.share:.4f}"
        row["unjudged"] = f"{of_one.unjudged:,} of {of_one.shown:,}"
    return row


def _tested(system: Against, correction: str) -> dict[str, str]:
    row = {
        "difference": f"{system.difference:+.4f}",
        "95 % interval": "" if system.low is None else f"{system.low:+.4f} to {system.high:+.4f}",
        "d_z": "" if system.d_z is None else f"{system.d_z:+.3f}",
        "detectable": "" if system.detectable is None else f"{system.detectable:.4f}",
        "wins/ties/losses": f"{system.wins}/{system.ties}/{system.losses}",
        "p (t-test)": p_value(system.p_t),
    }
    if correction in _HOLM:
        row["p (t-test, Holm)"] = p_value(system.p_t_holm)
    row["p (randomisation)"] = p_value(system.p_random)
    if correction in _HOLM:
        row["p (randomisation, Holm)"] = p_value(system.p_random_holm)
    if correction in _MAX_T:
        row["p (randomisation, max-T)"] = p_value(system.p_max_t)
    return row


def _plain(
    found: Significance, correction: str, judged: Mapping[str, Judged], records: Mapping[str, str]
) -> list[dict[str, Any]]:
    left_out = {
        name
        for name, choices in (("p_t_holm", _HOLM), ("p_random_holm", _HOLM), ("p_max_t", _MAX_T))
        if correction not in choices
    }
    rows = []
    systems = {found.baseline: None, **{system.name: system for system in found.systems}}
    for name, system in systems.items():
        tested: dict[str, Any] = {field.name: None for field in dataclasses.fields(Against)}
        tested |= dataclasses.asdict(system) if system else {"name": name, "value": found.value}
        row = {key: value for key, value in tested.items() if key not in left_out}
        of_one = judged.get(name)
        row |= {
            "queries": found.queries,
            "judged_share": of_one.share if of_one else None,
            "shown": of_one.shown if of_one else None,
            "unjudged": of_one.unjudged if of_one else None,
            "record": records[name],
        }
        rows.append(row)
    return rows


def as_csv(
    found: Significance, metric: str, correction: str, judged: Mapping[str, Judged], records: Mapping[str, str]
) -> str:
    """The systems with all digits, the baseline first; cells that do not apply are empty."""
    rows = [{"metric": metric} | row for row in _plain(found, correction, judged, records)]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def as_json(
    found: Significance,
    metric: str,
    correction: str,
    judged: Mapping[str, Judged],
    records: Mapping[str, str],
    changes: Mapping[str, Sequence[Change]],
    texts: Mapping[str, str],
    **more: object,
) -> str:
    """Everything with all digits; `more` are further keys, such as the seed."""
    moved = {
        name: [
            dataclasses.asdict(c) | {"difference": c.difference, "text": texts.get(c.query_id) or None} for c in of_one
        ]
        for name, of_one in changes.items()
    }
    whole = {
        "metric": metric,
        "baseline": found.baseline,
        "queries": found.queries,
        "flips": found.flips,
        "exact": found.exact,
        "correction": correction,
        **more,
        "systems": _plain(found, correction, judged, records),
        "changes": moved,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"
