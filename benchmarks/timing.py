"""Two ways to do one thing, timed in turn in one process: a ratio survives a machine whose speed drifts."""

import statistics
import time
from collections.abc import Callable


def compare(
    ours: Callable[[], object], peer: Callable[[], object], name: str, amounts: tuple[int, int], unit: str, rounds: int
) -> None:
    """Print units per second of `ours` and of its peer, and their ratio round by round, each as min, median, max.

    `amounts` is how many units one call of each deals with. Which goes first alternates.
    """
    speeds: dict[str, list[float]] = {"ours": [], name: []}
    calls = [("ours", ours, amounts[0]), (name, peer, amounts[1])]
    for number in range(rounds):
        for label, call, amount in calls if number % 2 == 0 else calls[::-1]:
            began = time.perf_counter()
            call()
            speeds[label].append(amount / (time.perf_counter() - began))
    for label, values in speeds.items():
        print(f"{label:<22} {_spread(values)}  {unit}/s")
    print(f"{'ratio':<22} {_spread([a / b for a, b in zip(*speeds.values(), strict=True)], 3)}")


def _spread(values: list[float], digits: int = 1) -> str:
    return " ".join(f"{v:10,.{digits}f}" for v in (min(values), statistics.median(values), max(values)))
