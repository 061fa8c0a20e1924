"""Several runs of one collection become one.

`rrf`: reciprocal rank fusion (Cormack, Clarke and Büttcher 2009, https://doi.org/10.1145/1571941.1572114): a document's
score is the sum over the runs that hold it of 1 / (k + rank), ranks from 1. k = 60 is the paper's, fixed in a pilot and
not altered after.

`weighted`: the sum of weight x score. Scores of different systems have different scales, so each query's are first
brought to one (`norm`), n results with scores s (Montague and Aslam 2001, https://doi.org/10.1145/502585.502657; the
last: Renda and Straccia 2003, https://doi.org/10.1145/952532.952698):

========  ==============================================  ========================  ===================
norm      a result's score becomes                        where all s are alike     absent, unless said
========  ==============================================  ========================  ===================
min-max   (s - min) / (max - min)                         1                         0
z-score   (s - mean) / standard deviation (of n)          0                         the run's least
sum       (s - min) / Σ (s - min)                         1 / n                     0
rank      1 - (rank - 1) / n                              (ranks differ)            0
none      s, which must not be below 0                    s                         0
========  ==============================================  ========================  ===================

A run that found one document alone, or gives all the same score, says that it found them, so that they count more there
than what it did not find: under min-max 1, as in Anserini's fusion (ranx makes them 0). `absent` is what a document
counts that a run lacks: `zero`, or `least`, the least of that run's scores for the query after the norm. A run without
any result of a query adds nothing to it.

All else is ranx's to the last bit (a test compares the sums). Its own functions are not called because numba
compiles its types anew in every process, which takes 5 s and, for ids of a new length, 12 s more.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from harness.retrievers.errors import InputError
from harness.retrievers.run_files.exchange import aligned
from harness.retrievers.types import Run

Method = Literal["rrf", "weighted"]
Norm = Literal["min-max", "z-score", "sum", "rank", "none"]
Absent = Literal["zero", "least"]
NORMS: tuple[Norm, ...] = get_args(Norm)
ABSENT: tuple[Absent, ...] = get_args(Absent)
FORMULA = 2  # of the norms, in what a fusion is known by
Values = npt.NDArray[np.float64]  # of a run's rows: [R]
RRF_K = 60  # Cormack et al. 2009
_GREATEST_K = 1_000_000  # more than any rank
_LEAST_SPREAD = 1e-9  # ranx's: scores that lie closer together are not spread to fill 0 to 1
_QUERIES_AT_ONCE = 256  # bounds the memory of the sort that finds equal documents


def fuse(
    runs: Sequence[Run],
    method: Method = "rrf",
    *,
    k: int = RRF_K,
    weights: Sequence[float] | None = None,
    norm: Norm = "min-max",
    absent: Absent | None = None,
    top_k: int | None = None,
) -> Run:
    """Fuse runs of the same queries; the result has the first run's queries, and `top_k` documents of each at most.

    `k` is of `rrf`; `weights`, one a run (equal ones where there are none), `norm` and `absent` (as the table says
    where it is None) are of `weighted`. Raises
    InputError for fewer than two runs, weights of another number, negative, not finite or all 0, or scores below 0 that
    are to be added as they are.
    """
    chosen = checked_weights(weights, len(runs))
    check_k(k)
    missing = absent or usual_absent(norm)
    if method == "weighted" and norm == "none" and missing == "zero":
        for number, run in enumerate(runs, 1):
            if len(run.scores) and float(run.scores.min()) < 0:
                raise InputError(
                    f"run {number} has scores below 0. Without a norm a document that a run lacks counts 0, which is "
                    "above those. Use norm min-max, or absent least."
                )
    query_ids = runs[0].query_ids
    same = [aligned(run, query_ids) for run in runs]
    blocks = []
    for low in range(0, len(query_ids), _QUERIES_AT_ONCE):
        block = query_ids[low : low + _QUERIES_AT_ONCE]
        parts = [aligned(run, block) for run in same]
        if method == "rrf":
            ranked = _summed(block, parts, [1 / (k + _ranks(run)) for run in parts])
        else:
            scores = [_NORMS[norm](run) for run in parts]
            values = [weight * of_run for weight, of_run in zip(chosen, scores, strict=True)]
            ranked = _summed(block, parts, values, least=missing == "least")
        ranked = ranked if top_k is None else ranked.first(top_k)
        blocks.append((low + _rows_query(ranked), ranked.doc_ids, ranked.scores))
    return Run.from_blocks(query_ids, blocks)


def check_k(k: int) -> None:
    """Raise InputError for a k that no fusion by reciprocal rank takes."""
    if not isinstance(k, int) or not 0 <= k <= _GREATEST_K:
        raise InputError(f"k is {k}; want a whole number from 0 to {_GREATEST_K:,} ({RRF_K} is usual).")


def checked_weights(weights: Sequence[float] | None, runs: int) -> list[float]:
    """One weight for each of the runs. Raises InputError as `fuse`."""
    if runs < 2:
        raise InputError(f"{runs} run{'s' * (runs != 1)} given; a fusion is of two or more.")
    try:
        chosen = [1.0] * runs if weights is None else [float(weight) for weight in weights]
    except (TypeError, ValueError) as error:
        raise InputError(f"the weights are {weights!r:.60}; want numbers, one for each run.") from error
    if len(chosen) != runs:
        raise InputError(f"{len(chosen)} weights for {runs} runs; give one for each, in their order.")
    if not all(math.isfinite(weight) and weight >= 0 for weight in chosen) or not any(chosen):
        raise InputError(f"the weights are {', '.join(map(str, chosen))}; want numbers from 0 up, not all of them 0.")
    return chosen


def _rows_query(run: Run) -> npt.NDArray[np.int64]:
    """The number of each row's query, [R]."""
    return np.repeat(np.arange(len(run)), np.diff(run.offsets))


def _ranks(run: Run) -> npt.NDArray[np.int64]:
    """The rank of each row, from 1, [R]."""
    return np.arange(1, len(run.scores) + 1) - run.offsets[_rows_query(run)]


def usual_absent(norm: Norm) -> Absent:
    """What a document counts that a run lacks where nobody says: 0 is the middle of z-scores, the least elsewhere."""
    return "least" if norm == "z-score" else "zero"


def _min_max(run: Run) -> Values:
    """The scores with each query's greatest at 1 and its least at 0, [R]; rows descend, so these are first and last."""
    scores, rows_query = run.scores.astype(np.float64), _rows_query(run)
    greatest, least = scores[run.offsets[rows_query]], scores[run.offsets[rows_query + 1] - 1]
    spread = greatest - least
    return np.where(spread < _LEAST_SPREAD, 1.0, (scores - least) / np.maximum(spread, _LEAST_SPREAD))


def _z_score(run: Run) -> Values:
    """The scores with each query's mean at 0 and its standard deviation at 1, [R]."""
    scores, rows_query, counts = run.scores.astype(np.float64), _rows_query(run), np.diff(run.offsets)
    n = np.maximum(counts, 1)
    from_mean = scores - (np.bincount(rows_query, scores, len(run)) / n)[rows_query]
    deviation = np.sqrt(np.bincount(rows_query, from_mean**2, len(run)) / n)[rows_query]
    found: Values = np.where(deviation < _LEAST_SPREAD, 0.0, from_mean / np.maximum(deviation, _LEAST_SPREAD))
    return found


def _share(run: Run) -> Values:
    """The scores above each query's least as shares of their sum, [R]."""
    scores, rows_query, counts = run.scores.astype(np.float64), _rows_query(run), np.diff(run.offsets)
    above = scores - scores[run.offsets[rows_query + 1] - 1]
    total = np.bincount(rows_query, above, len(run))[rows_query]
    return np.where(total < _LEAST_SPREAD, 1 / counts[rows_query], above / np.maximum(total, _LEAST_SPREAD))


def _by_rank(run: Run) -> Values:
    """1 for each query's first result, and less by 1 / n for each further one, [R]."""
    found: Values = 1 - (_ranks(run) - 1) / np.diff(run.offsets)[_rows_query(run)]
    return found


_NORMS: dict[str, Callable[[Run], Values]] = {
    "min-max": _min_max,
    "z-score": _z_score,
    "sum": _share,
    "rank": _by_rank,
    "none": lambda run: run.scores.astype(np.float64),
}


def _summed(query_ids: Sequence[str], runs: Sequence[Run], values: Sequence[Values], least: bool = False) -> Run:
    """The run of the sums of what each of `runs` gives a query's document, added in their order.

    With `least` a document that a run lacks gets that run's least for the query. It is taken off from all of them
    first, and the sum of all runs' leasts is added in the end, which is the same.
    """
    base = np.zeros(len(query_ids))
    if least:
        lowest = []
        for run, own in zip(runs, values, strict=True):
            counts = np.diff(run.offsets)
            low = np.where(counts > 0, np.append(own, 0.0)[np.where(counts > 0, run.offsets[1:] - 1, len(own))], 0.0)
            lowest.append(low)
            base += low
        values = [own - low[_rows_query(run)] for own, low, run in zip(values, lowest, runs, strict=True)]
    names, document = np.unique(np.concatenate([run.doc_ids for run in runs]), return_inverse=True)
    rows_query = np.concatenate([_rows_query(run) for run in runs])
    pairs, place = np.unique(rows_query * len(names) + document, return_inverse=True)
    sums = np.bincount(place, np.concatenate(values), len(pairs)).astype(np.float64)
    count = max(1, len(names))
    return Run.from_rows(query_ids, pairs // count, names[pairs % count], sums + base[pairs // count])


def digest(run: Run) -> str:
    """Hex SHA-256 of a run's queries, documents and scores, whatever file it stood in."""
    import hashlib

    found = hashlib.sha256(repr(run.query_ids).encode(errors="surrogatepass"))
    for array in (run.offsets, np.ascontiguousarray(run.doc_ids), run.scores):
        found.update(array.tobytes())
    return found.hexdigest()
