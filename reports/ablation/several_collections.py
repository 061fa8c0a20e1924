"""Table 3 on several collections: one wide table for a metric, and the tests on the pooled queries of each kind."""

from collections.abc import Sequence

from harness.reports.ablation.one_collection import (
    ABOUT_P,
    about,
    names,
    one_collection,
    orders,
    printed,
    tested,
    value,
)
from harness.reports.ablation.pools import HEADLINE, LEVEL, PRINTED_ON, TESTED, Pool, pools
from harness.reports.ablation.results import Ablation
from harness.reports.ablation.rows import METRICS, REFERENCE
from harness.reports.markdown import table
from harness.reports.records.exposure import KINDS
from harness.reports.statistics.format import p_value


def as_markdown(found: Sequence[Ablation], whole: bool = False) -> str:
    """Several collections side by side, or the one with all its metrics; `whole` adds each of several like that."""
    if len(found) == 1:
        return one_collection(found[0])
    together = pools(found)
    first = found[0]
    sections = [
        f"# Table 3 on {len(found)} collections\n",
        _collections(found),
        *(_wide(found, together, metric) for metric in TESTED),
        *(_pool(pool) for pool in together),
        _matrix(found, together),
        *((one_collection(one) for one in found) if whole else ()),
    ]
    if not any(one.comparable for one in found):
        sections[1] += (
            f"\nNot comparable with what is published, which is of {PRINTED_ON} with H = 768 (here {first.hidden}): "
            "what can be compared is the order of the rows.\n"
        )
    return "\n".join(sections)


def _collections(found: Sequence[Ablation]) -> str:
    return "".join(f"- {one.name}: {about(one)}\n" for one in found)


def _wide(found: Sequence[Ablation], together: Sequence[Pool], metric: str) -> str:
    """Rows and what stands beside them; a column for each collection, kind by kind, each with its mean."""
    by_kind = {pool.name: pool for pool in together}
    columns: list[str] = []
    for kind in (*KINDS, ""):
        columns += [one.name for one in found if one.exposure.kind == kind]
        columns += [f"{kind}, mean"] * (kind in by_kind)
    at = {one.name: one for one in found}
    lines = []
    for system in found[0].systems:
        cells = []
        for column in columns:
            if column in at:
                measured = at[column].systems[system]
                cells.append(value(measured.mean(metric), measured.sd(metric)))
            else:
                cells.append(value(*by_kind[column.removesuffix(", mean")].alike(system, metric)))
        lines.append([*names(found[0], system), *cells, *([printed(system, metric)] if metric in METRICS else [])])
    heads = ["row", "pre-training", "representation", *columns]
    heads += [f"{PRINTED_ON}, published"] if metric in METRICS else []
    text = f"## {metric}\n\n{table(heads, lines)}"
    return text + ("\nA mean is over the collections of its kind, each counting alike.\n" if together else "")


def _pool(pool: Pool) -> str:
    shares = ", ".join(f"{name} {n:,}" for name, n in pool.counts.items())
    tests = {metric: pool.against_whole(metric) for metric in TESTED}
    columns, lines = ["row"], {system: [system] for system in pool.systems}
    for metric in TESTED:
        columns += [metric, f"{metric} against {REFERENCE}", "p", "p, max-T", "collections alike", "p, max-T"]
        for system in pool.systems:
            test = tests[metric].get(system)
            alike = [f"{test.alike:+.4f}", p_value(test.alike_p_max_t)] if test else ["", ""]
            lines[system] += [value(*pool.pooled(system, metric)), *tested(test), *alike]
    return (
        f"## {pool.name[0].upper()}{pool.name[1:]}: {pool.queries:,} pooled queries of {len(pool.parts)} collections\n"
        f"\nEach query counts alike, so that a collection counts by its queries: {shares}. Under `collections alike` "
        "stands the mean of the collections' differences, in which each collection counts alike whatever its size.\n\n"
        f"{table(columns, list(lines.values()))}\n{ABOUT_P}\n\n{orders(pool)}"
    )


def _matrix(found: Sequence[Ablation], together: Sequence[Pool]) -> str:
    """The paper's orders in lines, collections and pools in columns."""
    scopes = [*(Pool(one.name, [one]) for one in found), *together]
    claims = [pool.claims() for pool in scopes]
    heads = ["order in the paper", *(pool.name + ", pooled" * (len(pool.parts) > 1) for pool in scopes), "published"]
    lines = []
    for of_one in zip(*claims, strict=True):
        cells = [f"{claim.test.pooled.difference:+.4f}{'*' * claim.significant}" for claim in of_one]
        lines.append([of_one[0].order, *cells, f"{of_one[0].published:+}"])
    lines.append(["hold", *(str(sum(claim.holds for claim in of_one)) for of_one in claims), str(len(lines))])
    return (
        f"## The paper's orders, collection by collection\n\n{table(heads, lines)}\nDifferences in {HEADLINE}; "
        f"* where p, max-T < {LEVEL}, corrected for the {len(lines) - 1} orders of a column.\n"
    )
