"""Several runs of one collection become one.

`rrf`: reciprocal rank fusion (Cormack, Clarke and Büttcher 2009, https://doi.org/10.1145/1571941.1572114): a document's
score is the sum over the runs that hold it of 1 / (k + rank), ranks from 1. k = 60 is the paper's, fixed in a pilot and
not altered after.

`weighted`: the sum of weight x score. Scores of different systems have different scales, so each query's are first put
between 0 (its least in that run) and 1 (its greatest), `norm="min-max"`; where a run's scores of a query are all alike,
as those of a single result, each becomes 0. A document that a run lacks counts 0 there.

The sums are those of ranx to the last bit (a test compares them). Its own functions are not called because numba
compiles its types anew in every process, which takes 5 s and, for ids of a new length, 12 s more.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.retrievers.errors import InputError
from harness.retrievers.run_files.exchange import aligned
from harness.retrievers.types import Run

Method = Literal["rrf", "weighted"]
Norm = Literal["min-max", "none"]
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
    top_k: int | None = None,
) -> Run:
    """Fuse runs of the same queries; the result has the first run's queries, and `top_k` documents of each at most.

    `k` is of `rrf`; `weights`, one a run (equal ones where there are none), and `norm` are of `weighted`. Raises
    InputError for fewer than two runs, weights of another number, negative, not finite or all 0, or scores below 0 that
    are to be added as they are.
    """
    chosen = checked_weights(weights, len(runs))
    check_k(k)
    if method == "weighted" and norm == "none":
        for number, run in enumerate(runs, 1):
            if len(run.scores) and float(run.scores.min()) < 0:
                raise InputError(
                    f"run {number} has scores below 0. Without a norm a document that a run lacks counts 0, which is "
                    "above those. Use norm min-max."
                )
    query_ids = runs[0].query_ids
    same = [aligned(run, query_ids) for run in runs]
    blocks = []
    for low in range(0, len(query_ids), _QUERIES_AT_ONCE):
        block = query_ids[low : low + _QUERIES_AT_ONCE]
        parts = [aligned(run, block) for run in same]
        if method == "rrf":
            values = [1 / (k + _ranks(run)) for run in parts]
        else:
            scores = [_min_max(run) if norm == "min-max" else run.scores.astype(np.float64) for run in parts]
            values = [weight * of_run for weight, of_run in zip(chosen, scores, strict=True)]
        ranked = _summed(block, parts, values)
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


def _min_max(run: Run) -> npt.NDArray[np.float64]:
    """The scores with each query's greatest at 1 and its least at 0, [R]; rows descend, so these are first and last."""
    scores, rows_query = run.scores.astype(np.float64), _rows_query(run)
    greatest, least = scores[run.offsets[rows_query]], scores[run.offsets[rows_query + 1] - 1]
    return (scores - least) / np.maximum(greatest - least, _LEAST_SPREAD)


def _summed(query_ids: Sequence[str], runs: Sequence[Run], values: Sequence[npt.NDArray[np.float64]]) -> Run:
    """The run of the sums of what each of `runs` gives a query's document, added in their order."""
    names, document = np.unique(np.concatenate([run.doc_ids for run in runs]), return_inverse=True)
    rows_query = np.concatenate([_rows_query(run) for run in runs])
    pairs, place = np.unique(rows_query * len(names) + document, return_inverse=True)
    sums = np.bincount(place, np.concatenate(values), len(pairs)).astype(np.float64)
    count = max(1, len(names))
    return Run.from_rows(query_ids, pairs // count, names[pairs % count], sums)


def digest(run: Run) -> str:
    """Hex SHA-256 of a run's queries, documents and scores, whatever file it stood in."""
    import hashlib

    found = hashlib.sha256(repr(run.query_ids).encode(errors="surrogatepass"))
    for array in (run.offsets, np.ascontiguousarray(run.doc_ids), run.scores):
        found.update(array.tobytes())
    return found.hexdigest()
