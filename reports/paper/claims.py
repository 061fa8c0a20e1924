"""What the paper says of its tables that its own numbers can confirm, and averages that they do not give."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from harness.reports.paper.published import AVERAGE, PublishedTable

# (system, test) -> its value, None where there is none; a test is a collection and a metric
Values = Callable[[str, str], float | Decimal | None]


@dataclass(frozen=True)
class Claim:
    """Each of `above` has the greater value than each of `below`, on `wins` of the `of` triples with a test."""

    words: str
    above: tuple[str, ...]
    below: tuple[str, ...]
    wins: int
    of: int
    only: tuple[str, ...] = ()  # tests; all where empty


@dataclass(frozen=True)
class Gain:
    """The average of `above` exceeds that of `below` by `points` hundredths."""

    above: str
    below: str
    points: str


_DEV = ("MS MARCO Dev MRR@10", "MS MARCO Dev R@50", "MS MARCO Dev R@1000")
_ONE = ("MS MARCO Dev MRR@10",)
_STAGE_3 = ("DupMAE (stage 3)",)
_BASELINES = (
    *("ANCE", "SEED", "ADORE", "Condenser", "coCondenser", "TAS-B", "RocketQAv2", "AR2", "AR2+SimANS", "SPLADEv2"),
    *("ColBERTv2", "ERNIE-Search", "SimLM", "RetroMAE"),
)
_TASKS = ("CLS decoding only", "OT decoding only")
_BOTH, _ALONE = ("CLS and OT decoding",), ("CLS:768", "OT:768")
CLAIMS: dict[int, tuple[Claim, ...]] = {
    1: (
        Claim("DupMAE (stage 3) outperforms all baselines on MS MARCO", _STAGE_3, _BASELINES, 34, 34, _DEV),
    ),
    2: (
        Claim("DupMAE outperforms RetroMAE on 13 out of 18 datasets", ("DupMAE",), ("RetroMAE",), 13, 18),
        Claim("DupMAE outperforms BM25 on 15 out of 18 datasets", ("DupMAE",), ("BM25",), 15, 18),
        Claim("GTR-XXL loses to BM25 on 8 out of 18 datasets", ("BM25",), ("GTR-XXL",), 8, 18),
    ),
    3: (
        Claim("both decoding tasks are above CLS only and OT only in MRR@10", _BOTH, _TASKS, 2, 2, _ONE),
        Claim("RetroMAE is inferior to the other three in MRR@10", (*_TASKS, *_BOTH), ("RetroMAE",), 3, 3, _ONE),
        Claim("OT:768 is better than CLS:768 in MRR@10", ("OT:768",), ("CLS:768",), 1, 1, _ONE),
        Claim("CLS:384, OT:384 outperforms CLS:768 and OT:768 in MRR@10", ("CLS:384, OT:384",), _ALONE, 2, 2, _ONE),
        Claim("CLS:384, OT:260 outperforms the previous two in MRR@10", ("CLS:384, OT:260",), _ALONE, 2, 2, _ONE),
    ),
}  # fmt: skip
GAINS = (Gain("DupMAE", "RetroMAE", "2.3"), Gain("DupMAE", "BM25", "5.2"))  # Table 2, "in total average"


def tests(table: PublishedTable) -> tuple[str, ...]:
    """What the table's systems are tested on: columns, in Table 2 rows without the average."""
    return tuple(row for row in table.rows if row != AVERAGE) if table.number == 2 else table.columns


def count(claim: Claim, names: Sequence[str], values: Values) -> tuple[int, int]:
    """On how many (above, below, test) the first has the strictly greater value, of those where both have one."""
    pairs = [
        (values(above, test), values(below, test))
        for test in claim.only or names
        for above in claim.above
        for below in claim.below
    ]
    both = [(ours, theirs) for ours, theirs in pairs if ours is not None and theirs is not None]
    return sum(ours > theirs for ours, theirs in both), len(both)


def printed_text(table: PublishedTable, system: str, test: str) -> str:
    """A published number as it is printed, by system and test."""
    return table.printed(test, system) if table.number == 2 else table.printed(system, test)


def verdicts(table: PublishedTable, measured: Values) -> list[str]:
    """A line for each claim: whether the printed numbers confirm it, and what the measured ones say where they can."""

    def printed(system: str, test: str) -> Decimal | None:
        text = printed_text(table, system, test)
        return Decimal(text) if text else None

    lines = []
    for claim in CLAIMS[table.number]:
        won, both = count(claim, tests(table), printed)
        holds = (won, both) == (claim.wins, claim.of)
        said = f"{'confirmed' if holds else 'NOT confirmed'} by the printed numbers ({won} of {both})"
        won, both = count(claim, tests(table), measured)
        lines.append(f"{claim.words}: {said}; measured: {f'{won} of {both}' if both else 'nothing to compare yet'}")
    return lines


def recomputed(table: PublishedTable, system: str) -> Decimal:
    """The mean of a system's printed cells of Table 2."""
    cells = [Decimal(table.printed(row, system)) for row in tests(table)]
    return sum(cells, Decimal(0)) / len(cells)


def wrong_average(table: PublishedTable, system: str) -> bool:
    """Whether rounding cannot explain the printed average.

    Each printed number stands for any within half a unit of its last digit: so the mean of the true cells is within
    half a unit of the mean of the printed ones, and the printed average within another half of that.
    """
    printed = Decimal(table.printed(AVERAGE, system))
    unit = Decimal(1).scaleb(int(printed.as_tuple().exponent))
    return abs(recomputed(table, system) - printed) > unit


def flags(table: PublishedTable) -> list[str]:
    """A line for each printed average that its own cells do not give, and for each gain that rests on one."""
    if AVERAGE not in table.rows:
        return []
    wrong = [system for system in table.systems if wrong_average(table, system)]
    lines = [
        f"the printed average of {system} is {table.printed(AVERAGE, system)}, but its own {len(tests(table))} cells "
        f"average {recomputed(table, system):.4f}"
        for system in wrong
    ]
    for gain in GAINS:
        points = 100 * (recomputed(table, gain.above) - recomputed(table, gain.below))
        if {gain.above, gain.below} & set(wrong) and f"{points:.1f}" != gain.points:
            lines.append(
                f"the text's +{gain.points} points of {gain.above} over {gain.below} on average are the printed "
                f"averages' difference; the cells give +{points:.1f}"
            )
    return lines
