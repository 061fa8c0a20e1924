"""Table 3 rebuilt: measured beside printed, each row against the whole, and which of the paper's orders hold."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from reports.ablation import METRICS, REFERENCE, ROWS, Row, label
from reports.ablation_results import HEADLINE, LEVEL, PRINTED_ON, Ablation, Claim
from reports.paper import published

if TYPE_CHECKING:
    import pandas as pd

SHOWN = (*METRICS, "NDCG@10")  # the paper prints no NDCG@10 here
_CLAIM_COLUMNS = ("order in the paper", "published", "measured", "p", "wins", "ties", "losses", "holds")


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
                        "published_on": f"{PRINTED_ON}, H = 768" if metric in METRICS else "",
                        "comparable": ablation.comparable,
                        "difference": test and test.difference,
                        "p": test and test.p,
                    }
                )
    return pd.DataFrame(lines)


def _printed(row: str, metric: str) -> str:
    return published(3).printed(row, f"{PRINTED_ON} {metric}") if metric in METRICS else ""


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
    if ablation.comparable:
        facts += f" Titles: {data.rules.titles}; the paper's systems searched passages with theirs."
    else:
        facts += (
            f"\n\nNot comparable with what is published, which is of {PRINTED_ON} with H = 768: what can be compared "
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
        f"{hold} of the paper's {len(claims)} orders by {HEADLINE} hold here, {sure} of them with p < {LEVEL}.\n"
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
