"""Paired tests over queries by sign flips, corrected for several systems, and the size of a difference.

Under the null hypothesis the two systems of a pair could change places at any query, so the sign of a query's
difference could be either. A randomisation test compares the measured mean with the means under other signs (Smucker,
Allan and Carterette 2007, "A comparison of statistical significance tests for information retrieval evaluation").
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.reports.errors import RecordError

Values = npt.NDArray[np.float64]
SAME = 1e-12  # differences up to this are ties: what the order of a sum leaves, of metrics between 0 and 1
_SLACK = 1e-9  # of the statistic, which is of the size of a standard normal variable: equal sums stay equal
_CELLS = 1 << 22  # signs held at once: 32 MiB


@dataclass(frozen=True)
class Randomised:
    """The outcome of a randomisation test of S systems against one baseline."""

    p: tuple[float, ...]  # of each system on its own, two-sided
    max_t: tuple[float, ...]  # adjusted for all S together
    flips: int  # how many assignments of signs were looked at
    exact: bool  # whether these were all there are


def randomisation_test(
    differences: Sequence[Sequence[float]] | Values, permutations: int = 100_000, seed: int = 42
) -> Randomised:
    """Test differences [S,n] of S systems from one baseline over the same n queries by flipping the queries' signs.

    One assignment of signs is applied to all systems at once, so what they have in common stays. Where there are no
    more than `permutations` assignments (2^n), all are looked at and p is the share of those that are as extreme as the
    measured one; otherwise `permutations` are drawn by `seed`, and p = (b + 1) / (m + 1) for b of m that are as extreme
    (Phipson and Smyth 2010). The drawn signs depend on n, `permutations` and `seed` alone, so that neither another
    system nor the number of threads changes a system's p.

    `max_t` is the step-down maxT adjustment of Westfall and Young (1993; Ge, Dudoit and Speed 2003, box 2), which
    Boytsov, Belova and Westfall (SIGIR 2013) recommend for retrieval experiments. Its statistic is |t|: since flips
    leave a system's sum of squares alone, |sum| / sqrt(sum of squares) is a growing function of |t|, the same for all
    systems, and is what is compared.

    Raises RecordError for fewer than 2 queries or 1 permutation.
    """
    d = np.asarray(differences, np.float64)  # [S,n]
    if d.ndim != 2 or d.shape[1] < 2:
        raise RecordError(f"a paired test needs 2 queries at least; got {d.shape[1] if d.ndim == 2 else 0:,}.")
    if permutations < 1:
        raise RecordError(f"a randomisation test needs 1 permutation at least; got {permutations:,}.")
    d = np.where(np.abs(d) <= SAME, 0.0, d)
    size = np.sqrt((d * d).sum(axis=1, keepdims=True))  # [S,1]
    scaled = d / np.where(size > 0, size, 1.0)
    measured = np.abs(scaled.sum(axis=1)) - _SLACK  # [S]
    order = np.argsort(-measured, kind="stable")
    exact = d.shape[1] < 63 and 1 << d.shape[1] <= permutations
    alone, together = np.zeros(len(d), np.int64), np.zeros(len(d), np.int64)
    flips = 0
    for signs in _all_signs(d.shape[1]) if exact else _drawn_signs(d.shape[1], permutations, seed):
        z = np.abs(signs @ scaled.T)  # [m,S]
        alone += (z >= measured).sum(axis=0)
        # the greatest of each system and those behind it, best system first
        greatest = np.maximum.accumulate(z[:, order][:, ::-1], axis=1)[:, ::-1]
        together += (greatest >= measured[order]).sum(axis=0)
        flips += len(signs)
    add = 0 if exact else 1  # the measured signs are one of all, but not one of those drawn
    adjusted = np.empty(len(d))
    adjusted[order] = np.maximum.accumulate((together + add) / (flips + add))
    p = (alone + add) / (flips + add)
    return Randomised(tuple(p.tolist()), tuple(adjusted.tolist()), flips, exact)


def _all_signs(queries: int) -> Iterator[Values]:
    at_once = max(1, _CELLS // queries)
    for low in range(0, 1 << queries, at_once):
        codes = np.arange(low, min(low + at_once, 1 << queries), dtype=np.int64)
        yield np.where((codes[:, None] >> np.arange(queries)) & 1, 1.0, -1.0)  # [m,n]


def _drawn_signs(queries: int, count: int, seed: int) -> Iterator[Values]:
    generator = np.random.default_rng(seed)
    at_once = max(1, _CELLS // queries)
    for low in range(0, count, at_once):
        rows = min(at_once, count - low)
        bits = generator.integers(0, 256, (rows, -(-queries // 8)), dtype=np.uint8)
        yield np.where(np.unpackbits(bits, axis=1, count=queries), 1.0, -1.0)  # [m,n]
