"""Table 3 rebuilt from records: measured beside printed, each row against the whole, and which orders hold."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING

from reports.ablation import CLAIMS, METRICS, REFERENCE, ROWS, Row, label, rows_of
from reports.compare import Comparison, paired_t_test
from reports.errors import RecordError
from reports.paper import published
from reports.records import Record

if TYPE_CHECKING:
    import pandas as pd

SHOWN = (*METRICS, "NDCG@10")  # the paper prints no NDCG@10 here
HEADLINE = "MRR@10"  # section 4.2 argues by it
_PRINTED_ON = "MS MARCO Dev"
_COMPARABLE = ("msmarco-passage/dev/small", 768)
_LEVEL = 0.05
_CLAIM_COLUMNS = ("order in the paper", "published", "measured", "p", "wins", "ties", "losses", "holds")


@dataclass(frozen=True)
class Measured:
    """A row of Table 3 on one collection: its records, one a training seed."""

    records: tuple[Record, ...]

    @property
    def halves(self) -> tuple[int, int]:
        """(D, K) as run."""
        options = self.records[0].manifest.system.options
        return int(options["dense"]), int(options["lexical"])

    def mean(self, metric: str) -> float:
        """Mean over the seeds."""
        return statistics.fmean(record.metrics[metric] for record in self.records)

    def sd(self, metric: str) -> float | None:
        """Sample standard deviation over the seeds (n - 1 in the denominator); None for one seed."""
        values = [record.metrics[metric] for record in self.records]
        return statistics.stdev(values) if len(values) > 1 else None

    @cached_property
    def _tables(self) -> list[dict[str, dict[str, float]]]:
        return [record.per_query() for record in self.records]

    def per_query(self, metric: str) -> dict[str, float]:
        """{query: the metric's mean over the seeds}."""
        return {q: statistics.fmean(table[q][metric] for table in self._tables) for q in self._tables[0]}


class Ablation:
    """What was measured on one collection, {row of Table 3: `Measured`}."""

    def __init__(self, rows: Mapping[str, Measured]) -> None:
        self.rows = dict(rows)
        self.first = next(iter(self.rows.values())).records[0].manifest
        self.hidden = int(self.first.system.options["hidden"])
        self.seeds = seeds_of(next(iter(self.rows.values())).records)

    @property
    def comparable(self) -> bool:
        """Whether the printed numbers are of this collection and of a model so wide."""
        return (self.first.data.dataset_id, self.hidden) == _COMPARABLE

    def compare(self, a: str, b: str, metric: str) -> Comparison:
        """Row `b` against row `a`, by a paired t-test over the queries' means over the seeds."""
        return paired_t_test(self.rows[a].per_query(metric), self.rows[b].per_query(metric))

    def against_whole(self, row: str, metric: str) -> Comparison | None:
        """A row against "CLS and OT decoding"; None for that itself, which stands in the table twice."""
        same = self.rows[row].records == self.rows[REFERENCE].records
        return None if same else self.compare(REFERENCE, row, metric)

    def claims(self) -> list["Claim"]:
        """Each order of rows that section 4.2 states."""
        return [Claim(better, worse, self.compare(worse, better, HEADLINE)) for better, worse in CLAIMS]


@dataclass(frozen=True)
class Claim:
    """`better` is above `worse` by MRR@10, says the paper; `test` is of the former against the latter."""

    better: str
    worse: str
    test: Comparison

    @property
    def published(self) -> Decimal:
        """The difference as printed."""
        column = f"{_PRINTED_ON} {HEADLINE}"
        high, low = (published(3).cell(row, column) for row in (self.better, self.worse))
        assert high is not None
        assert low is not None
        return high - low

    @property
    def holds(self) -> bool:
        """Whether the order is the paper's."""
        return self.test.difference > 0

    @property
    def significant(self) -> bool:
        """Whether the difference, whichever way it goes, has p < 0.05."""
        return self.test.p < _LEVEL


def seeds_of(records: Iterable[Record]) -> tuple[int, ...]:
    """The training seeds of checkpoints, as these say."""
    return tuple(int(record.manifest.system.options["trained"]["seed"]) for record in records)


def gather(records: Sequence[Record]) -> list[Ablation]:
    """Sort records by collection, row and seed, by their manifests alone.

    Raises RecordError for a record that is no row of Table 3, a row that is missing, two records for one seed, or rows
    whose seeds differ.
    """
    found: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        names = rows_of(record)
        if not names:
            raise RecordError(f"{record.folder}: its manifest makes it no row of Table 3 (stage 2 of an ablation).")
        for name in names:
            found.setdefault(record.manifest.data.name, {}).setdefault(name, []).append(record)
    for dataset, rows in found.items():
        if missing := [row.name for row in ROWS if row.name not in rows]:
            raise RecordError(f"{dataset}: no record for {', '.join(missing)}. Run the ablation to its end.")
        wanted = sorted(set(seeds_of(rows[REFERENCE])))
        if odd := [name for name, those in rows.items() if sorted(seeds_of(those)) != wanted]:
            raise RecordError(f"{dataset}: {', '.join(odd)} want one record for each of the seeds {wanted}.")
    return [
        Ablation({row.name: Measured(tuple(sorted(rows[row.name], key=lambda r: seeds_of([r])))) for row in ROWS})
        for rows in found.values()
    ]


def frame(found: Sequence[Ablation]) -> "pd.DataFrame":
    """Every cell on a line of its own: collection, row, metric, measured, sd, published, test against the whole.

    `difference` is the row minus "CLS and OT decoding" and `p` that of a paired t-test, not corrected for the number of
    rows; both are blank for the whole itself.
    """
    import pandas as pd

    lines = []
    for ablation in found:
        data = ablation.first.data
        for row in ROWS:
            measured = ablation.rows[row.name]
            for metric in SHOWN:
                test = ablation.against_whole(row.name, metric)
                lines.append(
                    {
                        "dataset": data.name,
                        "queries": data.counts["queries"],
                        "row": row.name,
                        "pretraining": row.pretraining,
                        "representation": label(*measured.halves),
                        "hidden": ablation.hidden,
                        "metric": metric,
                        "seeds": " ".join(map(str, ablation.seeds)),
                        "measured": measured.mean(metric),
                        "sd": measured.sd(metric),
                        "published": _printed(row.name, metric),
                        "published_on": f"{_PRINTED_ON}, H = 768" if metric in METRICS else "",
                        "comparable": ablation.comparable,
                        "difference": test and test.difference,
                        "p": test and test.p,
                    }
                )
    return pd.DataFrame(lines)


def _printed(row: str, metric: str) -> str:
    return published(3).printed(row, f"{_PRINTED_ON} {metric}") if metric in METRICS else ""


def claims_frame(found: Sequence[Ablation]) -> "pd.DataFrame":
    """A line for each order of rows that section 4.2 states, as printed and as measured, by MRR@10."""
    import pandas as pd

    lines = [
        {
            "dataset": ablation.first.data.name,
            "better": claim.better,
            "worse": claim.worse,
            "metric": HEADLINE,
            "published": f"{claim.published:+}",
            "measured": claim.test.difference,
            "p": claim.test.p,
            "wins": claim.test.wins,
            "ties": claim.test.ties,
            "losses": claim.test.losses,
            "holds": claim.holds,
            "significant": claim.significant,
        }
        for ablation in found
        for claim in ablation.claims()
    ]
    return pd.DataFrame(lines)


def as_markdown(found: Sequence[Ablation]) -> str:
    """Table 3 for each collection, and which orders of its rows hold."""
    return "\n".join(_one(ablation) for ablation in found)


def _one(ablation: Ablation) -> str:
    data, several = ablation.first.data, len(ablation.seeds) > 1
    seeds = f"seed{'s' * several} {', '.join(map(str, ablation.seeds))}"
    facts = (
        f"{data.counts['queries']:,} queries, {data.counts['documents']:,} documents, H = {ablation.hidden}, {seeds}."
    )
    if several:
        facts += " Mean ± sample standard deviation (n - 1) over the seeds."
    if not ablation.comparable:
        facts += (
            f"\n\nNot comparable with what is published, which is of {_PRINTED_ON} with H = 768: what can be compared "
            "is the order of the rows."
        )
    columns = [
        *("row", "pre-training", "representation"),
        *(f"{metric}, measured" for metric in SHOWN),
        *(f"{HEADLINE} against {REFERENCE}", "p"),
        *(f"{metric}, published" for metric in METRICS),
    ]
    claims = ablation.claims()
    hold, sure = (sum(wanted) for wanted in zip(*((c.holds, c.holds and c.significant) for c in claims), strict=True))
    return (
        f"## {data.name}\n\n{facts}\n\n"
        f"{_markdown(columns, [_cells(ablation, row) for row in ROWS])}\n"
        f"p is of a paired t-test over the queries{' (each the mean of its seeds)' * several}, not corrected for the "
        "number of comparisons.\n\n"
        f"{_markdown(_CLAIM_COLUMNS, map(_claim, claims))}\n"
        f"{hold} of the paper's {len(claims)} orders by {HEADLINE} hold here, {sure} of them with p < {_LEVEL}.\n"
    )


def _cells(ablation: Ablation, row: Row) -> list[str]:
    measured, test = ablation.rows[row.name], ablation.against_whole(row.name, HEADLINE)
    return [
        *(row.name, row.pretraining, label(*measured.halves)),
        *(_value(measured.mean(metric), measured.sd(metric)) for metric in SHOWN),
        *((f"{test.difference:+.4f}", f"{test.p:.2g}") if test else ("", "")),
        *(_printed(row.name, metric) for metric in METRICS),
    ]


def _claim(claim: Claim) -> list[str]:
    test = claim.test
    counts = (str(n) for n in (test.wins, test.ties, test.losses))
    word = ("yes" if claim.holds else "no") + ("" if claim.significant else ", not significantly")
    names = f"{claim.better} > {claim.worse}"
    return [names, f"{claim.published:+}", f"{test.difference:+.4f}", f"{test.p:.2g}", *counts, word]


def _value(mean: float, sd: float | None) -> str:
    return f"{mean:.4f}" if sd is None else f"{mean:.4f} ± {sd:.4f}"


def _markdown(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "".join("| " + " | ".join(line) + " |\n" for line in (columns, ["---"] * len(columns), *lines))
