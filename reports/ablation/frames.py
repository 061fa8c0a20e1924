"""An ablation as tables for other programs: cells, orders, pooled queries."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.reports.ablation.one_collection import SHOWN, names, printed
from harness.reports.ablation.pools import HEADLINE, PRINTED_ON, TESTED, Pool, Test, pools
from harness.reports.ablation.results import Ablation
from harness.reports.ablation.rows import METRICS, ROWS

if TYPE_CHECKING:
    import pandas as pd


def cells(found: Sequence[Ablation]) -> "pd.DataFrame":
    """Every cell on a line of its own: collection, system, metric, measured, sd, published, test against the whole.

    `kind` is what training saw of the collection, `by_seed` the value of each seed. `difference` is the row minus "CLS
    and OT decoding", `p` that of a paired t-test, not corrected for the number of rows, `p_max_t` corrected; all three
    are blank for the whole itself, and `p_max_t` for metrics other than MRR@10 and NDCG@10.
    """
    import pandas as pd

    lines = []
    for one in found:
        data, pool = one.first.data, Pool(one.name, [one])
        tests = {metric: pool.t_tests(metric) for metric in SHOWN}
        corrected = {metric: pool.against_whole(metric) for metric in TESTED}
        for system, measured in one.systems.items():
            row = any(row.name == system for row in ROWS)
            _, pretraining, representation = names(one, system)
            for metric in SHOWN:
                test, more = tests[metric].get(system), corrected.get(metric, {}).get(system)
                lines.append(
                    {
                        "dataset": one.name,
                        "kind": one.exposure.kind,
                        "queries": data.counts["queries"],
                        "row": system,
                        "pretraining": pretraining,
                        "representation": representation,
                        "hidden": one.hidden if row else None,
                        "metric": metric,
                        "seeds": " ".join(map(str, one.seeds if row else ())),
                        "measured": measured.mean(metric),
                        "sd": measured.sd(metric),
                        "by_seed": " ".join(map(repr, measured.by_seed(metric))),
                        "published": printed(system, metric),
                        "published_on": f"{PRINTED_ON}, H = 768" if row and metric in METRICS else "",
                        "comparable": one.comparable and row,
                        "difference": test and test.difference,
                        "p": test and test.p,
                        "p_max_t": more and more.p_max_t,
                    }
                )
    return pd.DataFrame(lines).astype({"hidden": "Int64"})


def claims(found: Sequence[Ablation]) -> "pd.DataFrame":
    """A line for each order of rows that section 4.2 states, by MRR@10 as there and by NDCG@10.

    `dataset` is a collection, or the kind whose collections' queries are pooled; `collections` says how many they are.
    """
    import pandas as pd

    scopes = [*(Pool(one.name, [one]) for one in found), *pools(found)]
    return pd.DataFrame(
        {
            "dataset": pool.name,
            "collections": len(pool.parts),
            "queries": pool.queries,
            "better": claim.better,
            "worse": claim.worse,
            "metric": metric,
            "published": f"{claim.published:+}" if metric == HEADLINE else "",
            **_test(claim.test),
            "holds": claim.holds,
            "significant": claim.significant,
        }
        for pool in scopes
        for metric in TESTED
        for claim in pool.claims(metric)
    )


def pooled(found: Sequence[Ablation]) -> "pd.DataFrame":
    """A line for each kind of collections, system and metric: means over queries and over collections, and tests."""
    import pandas as pd

    lines = []
    for pool in pools(found):
        for metric in TESTED:
            tests = pool.against_whole(metric)
            for system in pool.systems:
                test = tests.get(system)
                mean, sd = pool.pooled(system, metric)
                alike, alike_sd = pool.alike(system, metric)
                line = {
                    "kind": pool.name,
                    "collections": " ".join(pool.counts),
                    "queries": pool.queries,
                    "row": system,
                    "metric": metric,
                    "mean_over_queries": mean,
                    "mean_over_queries_sd": sd,
                    "mean_over_collections": alike,
                    "mean_over_collections_sd": alike_sd,
                }
                lines.append(line | (_test(test) if test else {}))
    return pd.DataFrame(lines)


def _test(test: Test) -> dict[str, object]:
    return {
        "measured": test.pooled.difference,
        "p": test.pooled.p,
        "p_max_t": test.p_max_t,
        "collections_alike": test.alike,
        "collections_alike_p_max_t": test.alike_p_max_t,
        "wins": test.pooled.wins,
        "ties": test.pooled.ties,
        "losses": test.pooled.losses,
    }
