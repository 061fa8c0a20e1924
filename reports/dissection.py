"""A hybrid taken apart, as text, tables and a picture: what each half finds, and what fewer terms cost."""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from harness.reports.files import write_whole
from harness.reports.plots import style
from harness.reports.statistics.paired import paired_t_test

BOTH, DENSE, LEXICAL = "both halves", "dense alone", "lexical alone"
ALIKE, NEITHER = "alike", "neither"
_SHARES = (("dense", "the dense half"), ("lexical", "the lexical half"), (ALIKE, "both at one rank"))


@dataclass(frozen=True)
class Scored:
    """One way to search the store: the halves, K' terms of a passage, and what every query scores."""

    halves: str  # BOTH, DENSE or LEXICAL
    terms: int  # K', 0 for DENSE
    bytes_here: float  # of a document, as stored
    bytes_paper: float  # as the paper counts
    values: Mapping[str, Sequence[float]]  # {metric: [Q]}

    def mean(self, metric: str) -> float:
        """The mean over the queries."""
        return math.fsum(self.values[metric]) / len(self.values[metric])


@dataclass(frozen=True)
class Dissection:
    """One checkpoint on one collection. `scored` holds whole halves (K' = K) and any narrower ones.

    `ranks` are {DENSE, LEXICAL or BOTH: [Q]}, the rank of a query's first relevant document, 0 where the `top_k`
    results hold none; K' = K.
    """

    dataset: str
    system: str
    dense: int  # D
    lexical: int  # K
    top_k: int
    query_ids: tuple[str, ...]
    scored: tuple[Scored, ...]
    ranks: Mapping[str, Sequence[int]]

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """In the order in which they were asked for."""
        return tuple(self.scored[0].values)

    def whole(self, halves: str) -> Scored:
        """BOTH, DENSE or LEXICAL with all K terms."""
        return next(s for s in self.scored if s.halves == halves and s.terms in (0, self.lexical))

    def curve(self, halves: str) -> list[Scored]:
        """BOTH or LEXICAL by ascending K'."""
        return sorted((s for s in self.scored if s.halves == halves), key=lambda s: s.terms)

    @cached_property
    def first(self) -> tuple[str, ...]:
        """Of each query [Q], which half alone ranks its first relevant document higher: `dense`, `lexical`, ALIKE.

        NEITHER where no relevant document is among the `top_k` of either; a half that has none is behind one that has.
        """
        return tuple(map(_higher, self.ranks[DENSE], self.ranks[LEXICAL]))


def _higher(dense: int, lexical: int) -> str:
    if not dense and not lexical:
        return NEITHER
    if dense == lexical:
        return ALIKE
    return "dense" if dense and (not lexical or dense < lexical) else "lexical"


def as_markdown(found: Dissection) -> str:
    """What was found, for people."""
    return (
        f"## {found.system} on {found.dataset}\n\n"
        f"CLS:{found.dense}, OT:{found.lexical}; {len(found.query_ids):,} queries. Bytes are of a document, as stored "
        "here and as the paper counts.\n\n"
        f"{_scores(found)}\n{_tests(found)}\n{_firsts(found)}"
    )


def as_facts(found: Dissection) -> dict[str, Any]:
    """What was found, for JSON: means with all digits, and how often each half ranks first what is relevant."""
    return {
        "system": found.system,
        "dataset": found.dataset,
        "dense": found.dense,
        "lexical": found.lexical,
        "queries": len(found.query_ids),
        "scores": [
            {
                "searched": scored.halves,
                "terms": scored.terms,
                "bytes": scored.bytes_here,
                "bytes_paper": scored.bytes_paper,
                "metrics": {metric: scored.mean(metric) for metric in found.metrics},
            }
            for scored in found.scored
        ],
        "first_by": {which: found.first.count(which) for which, _ in (*_SHARES, (NEITHER, ""))},
    }


def _scores(found: Dissection) -> str:
    lines = [["searched", "K'", "bytes", "bytes (paper)", *found.metrics]]
    lines.append(["---"] * len(lines[0]))
    whole = [found.whole(halves) for halves in (BOTH, DENSE, LEXICAL)]
    for scored in [*whole, *(s for halves in (BOTH, LEXICAL) for s in reversed(found.curve(halves)) if s not in whole)]:
        sizes = [str(scored.terms or "-"), f"{scored.bytes_here:,.0f}", f"{scored.bytes_paper:,.0f}"]
        lines.append([scored.halves, *sizes, *(f"{scored.mean(metric):.4f}" for metric in found.metrics)])
    return _table(lines)


def _tests(found: Dissection) -> str:
    """Both halves against each alone, by a paired t-test over the queries."""
    lines = [["both halves against", "metric", "difference", "p", "wins", "ties", "losses"]]
    lines.append(["---"] * len(lines[0]))
    if len(found.query_ids) < 2:
        return ""
    for halves in (DENSE, LEXICAL):
        for metric in found.metrics:
            one, all_ = (dict(zip(found.query_ids, s.values[metric], strict=True))
                         for s in (found.whole(halves), found.whole(BOTH)))  # fmt: skip
            test = paired_t_test(one, all_)
            counts = map(str, (test.wins, test.ties, test.losses))
            lines.append([halves, metric, f"{test.difference:+.4f}", test.p_shown, *counts])
    return _table(lines) + "\np is of a paired t-test over the queries, not corrected for the number of tests.\n"


def _firsts(found: Dissection) -> str:
    lines = [["first relevant document ranked higher by", "queries", "share"], ["---"] * 3]
    total = len(found.query_ids)
    for which, words in (*_SHARES, (NEITHER, f"neither has one among its first {found.top_k:,}")):
        count = found.first.count(which)
        lines.append([words, f"{count:,}", f"{100 * count / total:.1f} %"])
    return _table(lines)


def _table(lines: Sequence[Sequence[str]]) -> str:
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def write(found: Dissection, folder: Path) -> list[Path]:
    """Write `scores.csv`, `queries.csv` and `quality.png` and `.svg` into `folder`; each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    scores, queries = folder / "scores.csv", folder / "queries.csv"
    with _whole(scores) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["searched", "terms", "bytes", "bytes_paper", *found.metrics])
        for s in found.scored:
            means = [repr(s.mean(metric)) for metric in found.metrics]
            table.writerow([s.halves, s.terms, s.bytes_here, s.bytes_paper, *means])
    whole = [(word, found.whole(halves)) for word, halves in (("dense", DENSE), ("lexical", LEXICAL), ("both", BOTH))]
    with _whole(queries) as file:
        table = csv.writer(file, lineterminator="\n")
        columns = [f"{metric} {word}" for metric in found.metrics for word, _ in whole]
        table.writerow(["query_id", "dense_rank", "lexical_rank", "both_rank", "higher", *columns])
        for n, query_id in enumerate(found.query_ids):
            ranks = [found.ranks[halves][n] or "" for halves in (DENSE, LEXICAL, BOTH)]
            values = [repr(s.values[metric][n]) for metric in found.metrics for _, s in whole]
            table.writerow([query_id, *ranks, found.first[n], *values])
    pictures = [folder / "quality.png", folder / "quality.svg"]
    with style.styled():
        made = quality(found)
        for picture in pictures:
            style.save(made, picture)
    return [scores, queries, *pictures]


@contextmanager
def _whole(path: Path) -> Iterator[IO[str]]:
    file = io.StringIO(newline="")
    yield file
    write_whole(path, file.getvalue())


def quality(found: Dissection) -> Any:
    """Quality against K': a panel for each metric; both halves, the lexical alone, and the dense alone as a level."""
    made = style.figure(max(5.2, 3.6 * len(found.metrics)), 3.7)
    looks = style.looks((BOTH, LEXICAL, DENSE))
    labels = {
        BOTH: f"{BOTH} (CLS:{found.dense}, OT:K')",
        LEXICAL: f"{LEXICAL} (OT:K')",
        DENSE: f"{DENSE} (CLS:{found.dense})",
    }
    grid = made.subplots(1, len(found.metrics), squeeze=False)[0]
    widths = [s.terms for s in found.curve(BOTH)]
    for metric, axes in zip(found.metrics, grid, strict=True):
        for halves in (BOTH, LEXICAL):
            curve, look = found.curve(halves), looks[halves]
            axes.plot(
                [s.terms for s in curve], [s.mean(metric) for s in curve],
                color=look.colour, marker=look.marker, linestyle=look.line,
            )  # fmt: skip
        axes.axhline(found.whole(DENSE).mean(metric), color=looks[DENSE].colour, linestyle=looks[DENSE].line)
        axes.set_xscale("log", base=2)
        axes.set_xticks(widths, [f"{k:,}" for k in widths], rotation=45 if len(widths) > 6 else 0)
        axes.minorticks_off()
        axes.set(xlabel="K' terms kept of a passage", ylabel=metric)
        greatest = max(s.mean(metric) for s in found.scored)
        axes.set_ylim(0, 1.08 * greatest or 1.0)
    lines = [
        axes.plot([], [], color=looks[h].colour, linestyle=looks[h].line, label=labels[h],
                  marker=None if h == DENSE else looks[h].marker)[0]
        for h in (BOTH, LEXICAL, DENSE)
    ]  # fmt: skip
    style.title_above(made, f"{found.system} on {found.dataset}")
    style.legend_below(made, lines, 3)
    return made
