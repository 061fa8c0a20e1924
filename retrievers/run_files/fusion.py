"""Several runs of one collection become one, through ranx.

`rrf`: reciprocal rank fusion (Cormack, Clarke and Büttcher 2009, https://doi.org/10.1145/1571941.1572114): a document's
score is the sum over the runs that hold it of 1 / (k + rank), ranks from 1. k = 60 is the paper's, fixed in a pilot and
not altered after.

`weighted`: the sum of weight x score. Scores of different systems have different scales, so each query's are first put
between 0 (its least in that run) and 1 (its greatest), `norm="min-max"`; where a run's scores of a query are all alike,
as those of a single result, ranx makes each 0. A document that a run lacks counts 0 there.

ranx gives the scores. What it is handed are ranks by our own tie rule, and its result is put into order by that rule
again (`harness.retrievers.types.Run`): ranx's own order among equal scores is not stable.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from harness.retrievers.errors import InputError
from harness.retrievers.run_files.exchange import aligned, to_dict
from harness.retrievers.types import Run

Method = Literal["rrf", "weighted"]
Norm = Literal["min-max", "none"]
RRF_K = 60  # Cormack et al. 2009
_QUERIES_AT_ONCE = 256  # held as ranx's dictionaries, which take many times a run's bytes
_NOBODY = "\0"  # a query of every block: ranx cannot hold a run without any result
_WIDTH = 32  # numba compiles anew for each width of the longest document id, so all have a multiple of this


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
    if k < 0:
        raise InputError(f"k is {k}; want a whole number from 0 up ({RRF_K} is usual).")
    if method == "weighted" and norm == "none":
        for number, run in enumerate(runs, 1):
            if len(run.scores) and float(run.scores.min()) < 0:
                raise InputError(
                    f"run {number} has scores below 0. Without a norm a document that a run lacks counts 0, which is "
                    "above those. Use norm min-max."
                )
    query_ids = runs[0].query_ids
    same = [aligned(run, query_ids) for run in runs]
    longest = -(-max(run.doc_ids.itemsize for run in same) // _WIDTH) * _WIDTH
    blocks = []
    for low in range(0, len(query_ids), _QUERIES_AT_ONCE):
        block = query_ids[low : low + _QUERIES_AT_ONCE]
        parts = [_ranx_run(aligned(run, block), method == "rrf", longest) for run in same]
        found = _fused(parts, method, k, chosen, norm)
        ranked = Run.of({query_id: found.get(query_id, {}) for query_id in block})
        ranked = ranked if top_k is None else ranked.first(top_k)
        rows_query = np.repeat(np.arange(low, low + len(block)), np.diff(ranked.offsets))
        blocks.append((rows_query, ranked.doc_ids, ranked.scores))
    return Run.from_blocks(query_ids, blocks)


def checked_weights(weights: Sequence[float] | None, runs: int) -> list[float]:
    """One weight for each of the runs. Raises InputError as `fuse`."""
    if runs < 2:
        raise InputError(f"{runs} run{'s' * (runs != 1)} given; a fusion is of two or more.")
    chosen = [1.0] * runs if weights is None else [float(weight) for weight in weights]
    if len(chosen) != runs:
        raise InputError(f"{len(chosen)} weights for {runs} runs; give one for each, in their order.")
    if not all(math.isfinite(weight) and weight >= 0 for weight in chosen) or not any(chosen):
        raise InputError(f"the weights are {', '.join(map(str, chosen))}; want numbers from 0 up, not all of them 0.")
    return chosen


def _ranx_run(run: Run, by_rank: bool, longest: int) -> Any:
    """ranx's run of a block; `by_rank` with scores that only say the ranks, so that ranx has no ties to order.

    Its longest document id is `longest` letters, and that of a query which nobody asked.
    """
    import ranx

    found = to_dict(run)
    if by_rank:
        found = {query_id: {doc: -float(rank) for rank, doc in enumerate(rows)} for query_id, rows in found.items()}
    return ranx.Run({_NOBODY: {"-" * longest: 1.0}, **found})


def _fused(parts: list[Any], method: Method, k: int, weights: list[float], norm: Norm) -> dict[str, dict[str, float]]:
    import numba
    import ranx

    threads = numba.get_num_threads()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", numba.core.errors.NumbaWarning)  # of ranx's code, while it is compiled
            if method == "rrf":
                fused = ranx.fuse(parts, norm=None, method="rrf", params={"k": k})
            else:
                asked = None if norm == "none" else norm
                fused = ranx.fuse(parts, norm=asked, method="wsum", params={"weights": weights})
    finally:
        numba.set_num_threads(threads)
    return {query_id: dict(rows) for query_id, rows in fused.run.items() if query_id != _NOBODY}


def digest(run: Run) -> str:
    """Hex SHA-256 of a run's queries, documents and scores, whatever file it stood in."""
    import hashlib

    found = hashlib.sha256(repr(run.query_ids).encode(errors="surrogatepass"))
    for array in (run.offsets, np.ascontiguousarray(run.doc_ids), run.scores):
        found.update(array.tobytes())
    return found.hexdigest()
