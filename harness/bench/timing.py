"""Two ways to do one thing, timed in turn in one process: a ratio survives a machine whose speed drifts."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Say = Callable[[str], object]


@dataclass(frozen=True)
class Comparison:
    """Units per second of ours and of its peer, round by round."""

    peer: str
    unit: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def ratio(self) -> tuple[float, ...]:
        """Ours over theirs in each round; above 1 ours is the faster."""
        return tuple(a / b for a, b in zip(self.ours, self.theirs, strict=True))

    def entry(self, **more: Any) -> dict[str, Any]:
        """What `--json` keeps: `ours` and `theirs` in `unit`, their `ratio`, and whatever else was measured."""
        return {
            "peer": self.peer,
            "unit": f"{self.unit}/s",
            "rounds": len(self.ours),
            "ours": spread(self.ours),
            "theirs": spread(self.theirs),
            "ratio": spread(self.ratio),
            **more,
        }

    def lines(self) -> list[str]:
        """A table: min, median and max of ours, of the peer and of the ratio."""
        rows = [("ours", self.ours, 1), (self.peer, self.theirs, 1), ("ratio ours/peer", self.ratio, 3)]
        head = f"{self.unit + '/s':<24}" + "".join(f"{name:>13}" for name in ("min", "median", "max"))
        return [
            head,
            *(f"{name:<24}" + "".join(f"{v:13,.{n}f}" for v in spread(values).values()) for name, values, n in rows),
        ]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Least, middle and greatest of some values."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def compare(
    ours: Callable[[], object],
    peer: Callable[[], object],
    name: str,
    amounts: tuple[int, int],
    unit: str,
    rounds: int,
    say: Say = print,
    clock: Callable[[], float] = time.perf_counter,
) -> Comparison:
    """Time `ours` and its peer, called `name`, in turn, say what came out and return it.

    `amounts` is how many units one call of each deals with. Which of them goes first alternates from round to round.
    Call both once before: there is no warm-up here.
    """
    calls = [(ours, amounts[0]), (peer, amounts[1])]
    speeds: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            call, amount = calls[which]
            began = clock()
            call()
            speeds[which].append(amount / (clock() - began))
    found = Comparison(name, unit, tuple(speeds[0]), tuple(speeds[1]))
    for line in found.lines():
        say(line)
    return found
