"""Systems compared over a suite: a paired test on each collection, and one over the collections' means."""

from collections.abc import Sequence

from harness.analysis.comparison import check_metric
from harness.metrics.names import parse_metrics
from harness.reports.records.labels import unique
from harness.reports.statistics import corrections, paired
from harness.reports.statistics.randomisation import randomisation_test
from harness.reports.suite_table import Difference, OverSuite, Row
from harness.retrievers.errors import InputError
from harness.runs.lookup import check_collections, check_depths, measured, values_of
from harness.runs.suites import SuiteMean


def compare_means(
    found: Sequence[SuiteMean], metric: str, permutations: int = 100_000, seed: int = 42, allow_shallow: bool = False
) -> OverSuite:
    """Compare every system with the first, on each collection that all have, and over these collections.

    On a collection a paired randomisation test flips the signs of queries; its p is corrected by Holm for all such
    tests here. Over the collections it flips the signs of the differences between means, each collection counting
    alike, and max-T corrects for several systems. Raises InputError for fewer than two means, one that is given twice,
    those of different suites, fewer than two collections in common, and as
    `harness.analysis.comparison.compare_records` for the records of a collection.
    """
    if len(found) < 2 or len({mean.path for mean in found}) < len(found):
        raise InputError("a comparison needs a baseline and another; one is given twice, or alone.")
    if len({mean.suite for mean in found}) > 1:
        raise InputError(f"the means are of different suites: {', '.join(sorted({mean.suite for mean in found}))}.")
    [name] = [str(parsed) for parsed in parse_metrics([metric])]
    shared = [one for one in found[0].members if all(one in mean.members for mean in found)]
    if len(shared) < 2:
        raise InputError(f"the means of {found[0].suite} share {len(shared)} of its collections; a test needs 2.")
    labels = unique([mean.first for mean in found])
    rows = []
    for collection in shared:
        records = [mean.members[collection] for mean in found]
        check_collections(records)
        check_metric(records, name)
        check_depths(records, name, allow_shallow)
        values = {label: values_of(record, name) for label, record in zip(labels, records, strict=True)}
        tested = paired.against_baseline(labels[0], values, permutations, seed)
        rows.append((collection, tested, [measured(record)[name] for record in records]))
    every_p = [system.p_random for _, tested, _ in rows for system in tested.systems]
    holm = iter(corrections.holm(every_p))
    lines = tuple(
        Row(
            collection,
            tested.queries,
            tuple(means),
            tuple(
                Difference(mean - means[0], system.p_random, next(holm))
                for mean, system in zip(means[1:], tested.systems, strict=True)
            ),
        )
        for collection, tested, means in rows
    )
    between = [[row.differences[number].value for row in lines] for number in range(len(found) - 1)]
    over = randomisation_test(between, permutations, seed)
    averages = tuple(sum(row.means[number] for row in lines) / len(lines) for number in range(len(found)))
    whole = Row(
        "mean",
        sum(row.queries for row in lines),
        averages,
        tuple(
            Difference(average - averages[0], p, adjusted)
            for average, p, adjusted in zip(averages[1:], over.p, over.max_t, strict=True)
        ),
    )
    return OverSuite(found[0].suite, name, tuple(labels), lines, whole, max(mean.of for mean in found))
