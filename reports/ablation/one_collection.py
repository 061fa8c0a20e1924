"""Table 3 rebuilt on one collection: measured beside printed, each row against the whole, and which orders hold."""

from collections.abc import Sequence

from harness.reports.ablation.pools import HEADLINE, LEVEL, PRINTED_ON, Claim, Pool, Test
from harness.reports.ablation.results import Ablation
from harness.reports.ablation.rows import METRICS, REFERENCE, ROWS, label
from harness.reports.markdown import table
from harness.reports.paper.published import published
from harness.reports.statistics.format import p_value

SHOWN = (*METRICS, "NDCG@10")  # the paper prints no NDCG@10 here
CLAIM_COLUMNS = ("order in the paper", "published", "measured", "p", "p, max-T", "wins", "ties", "losses", "holds")
ABOUT_P = (
    "p is of a paired t-test over the queries, not corrected; p, max-T of a randomisation test corrected for the "
    "number of lines that are tested."
)


def one_collection(ablation: Ablation) -> str:
    """Table 3 as measured on one collection, all metrics, and the paper's orders."""
    pool = Pool(ablation.name, [ablation])
    facts = about(ablation)
    if ablation.comparable:
        facts += f" Titles: {ablation.first.data.rules.titles}; the paper's systems searched passages with theirs."
    else:
        facts += (
            f"\n\nNot comparable with what is published, which is of {PRINTED_ON} with H = 768: what can be compared "
            "is the order of the rows."
        )
    columns = [
        *("row", "pre-training", "representation"),
        *(f"{metric}, measured" for metric in SHOWN),
        *(f"{HEADLINE} against {REFERENCE}", "p", "p, max-T"),
        *(f"{metric}, published" for metric in METRICS),
    ]
    tests = pool.against_whole(HEADLINE)
    lines = [
        [
            *names(ablation, system),
            *(value(measured.mean(metric), measured.sd(metric)) for metric in SHOWN),
            *tested(tests.get(system)),
            *(printed(system, metric) for metric in METRICS),
        ]
        for system, measured in ablation.systems.items()
    ]
    seeds = " With several seeds a query's value is its mean over them." * (len(ablation.seeds) > 1)
    return f"## {ablation.name}\n\n{facts}\n\n{table(columns, lines)}\n{ABOUT_P}{seeds}\n\n{orders(pool)}"


def about(ablation: Ablation) -> str:
    """How much was searched, by what, and what training saw of it."""
    counts, several = ablation.first.data.counts, len(ablation.seeds) > 1
    seeds = f"seed{'s' * several} {', '.join(map(str, ablation.seeds))}"
    facts = f"{counts['queries']:,} queries, {counts['documents']:,} documents, H = {ablation.hidden}, {seeds}."
    if several:
        facts += " Mean ± sample standard deviation (n - 1) over the seeds."
    kind, note = ablation.exposure.kind, ablation.exposure.note
    return facts + (f" {kind[0].upper()}{kind[1:]}: {note}." if kind else "")


def names(ablation: Ablation, system: str) -> list[str]:
    """A line's first three cells: row, pre-training, representation; the others have the first alone."""
    row = next((row for row in ROWS if row.name == system), None)
    return [system, row.pretraining if row else "", label(*ablation.rows[system].halves) if row else ""]


def printed(system: str, metric: str) -> str:
    """What the paper's Table 3 prints; blank for what it does not."""
    there = metric in METRICS and any(row.name == system for row in ROWS)
    return published(3).printed(system, f"{PRINTED_ON} {metric}") if there else ""


def tested(test: Test | None) -> list[str]:
    """Difference and both p, pooled."""
    if test is None:
        return ["", "", ""]
    return [f"{test.pooled.difference:+.4f}", test.pooled.p_shown, p_value(test.p_max_t)]


def value(mean: float, sd: float | None) -> str:
    """Four decimals, and the standard deviation where there is one."""
    return f"{mean:.4f}" if sd is None else f"{mean:.4f} ± {sd:.4f}"


def orders(pool: Pool) -> str:
    """The paper's orders on a collection or a pool, and how many hold."""
    several = len(pool.parts) > 1
    claims, other = pool.claims(), pool.claims("NDCG@10")
    columns = [
        *CLAIM_COLUMNS,
        *(["collections alike", "p, max-T"] if several else []),
        *("NDCG@10", "p, max-T"),
    ]
    lines = [
        [
            *_claim(claim),
            *([f"{claim.test.alike:+.4f}", p_value(claim.test.alike_p_max_t)] if several else []),
            *(f"{again.test.pooled.difference:+.4f}", p_value(again.test.p_max_t)),
        ]
        for claim, again in zip(claims, other, strict=True)
    ]
    return f"{table(columns, lines)}\n{holding(claims)} By NDCG@10: {_count(other)}.\n"


def holding(claims: Sequence[Claim]) -> str:
    """How many orders hold."""
    return f"{_count(claims)} of the paper's {len(claims)} orders by {HEADLINE} hold here{_sure(claims)}."


def _count(claims: Sequence[Claim]) -> int:
    return sum(claim.holds for claim in claims)


def _sure(claims: Sequence[Claim]) -> str:
    hold = sum(claim.holds and claim.significant for claim in claims)
    against = sum(not claim.holds and claim.significant for claim in claims)
    return f", {hold} of them with p, max-T < {LEVEL}; {against} of the others go the other way with p, max-T < {LEVEL}"


def _claim(claim: Claim) -> list[str]:
    pooled = claim.test.pooled
    counts = (str(n) for n in (pooled.wins, pooled.ties, pooled.losses))
    word = ("yes" if claim.holds else "no") + ("" if claim.significant else ", not significantly")
    measured, p, corrected = tested(claim.test)
    return [claim.order, f"{claim.published:+}", measured, p, corrected, *counts, word]
