"""Queries per second of scoring a large run against pytrec_eval on its dict of dicts, and the memory each takes.

Both are timed from what they take as input: ours from a `Run`, arrays for ranx included, pytrec_eval from the
dictionaries, whose making is told apart. Neither includes the cross-check of the one by the other that `harness run`
makes; here it is made once, before anything is timed.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from harness.bench import memory
from harness.bench.options import ROUNDS, BenchOptions
from harness.bench.peers import peer
from harness.bench.timing import Say, compare
from harness.metrics import measure, names, ranx, scoring, trec_eval
from harness.retrievers.types import Run

QUERIES, K = 6_980, 1_000  # MS MARCO's dev set, and the results that its users keep
DOCUMENTS = 8_841_823  # of MS MARCO
SECOND_JUDGED = 0.06  # so 1.06 relevant documents a query, as on MS MARCO
FOUND = 0.9  # the share of relevant documents that the run holds
Qrels = dict[str, dict[str, int]]
_METRICS = names.parse_metrics(names.DEFAULT_METRICS)
_GIB = 2**30


def score(options: BenchOptions, say: Say) -> dict[str, Any]:
    """Compare the two on a synthetic run of `queries` by `k`, with the default metrics, on `threads` (all cores).

    Raises RuntimeError where they disagree, InputError where pytrec_eval is missing.
    """
    pytrec_eval = peer("pytrec_eval", "pytrec-eval-terrier")
    queries, k = options.queries or QUERIES, options.k or K
    before = numba.get_num_threads()  # the most that numba was started with
    threads = min(options.cores, before)
    run, qrels = synthetic(queries, k)
    query_ids = tuple(sorted(qrels))
    say(f"score/ranx: {queries:,} queries by {k:,} results, threads {threads}; {', '.join(map(str, _METRICS))}")
    began = time.perf_counter()
    results = trec_eval.trec_results(run, qrels, range(len(run)))
    input_seconds = time.perf_counter() - began
    evaluator = pytrec_eval.RelevanceEvaluator(qrels, {trec_eval.trec_name(metric) for metric in _METRICS})

    def one() -> dict[str, measure.Values]:
        return ranx.by_ranx(run, qrels, query_ids, _METRICS, measure.PLAIN)

    def other() -> Any:
        return evaluator.evaluate(results)

    numba.set_num_threads(threads)
    try:
        # compiles ours, and is the warm-up of both
        scoring.check(query_ids, one(), trec_eval.trec_values(other(), query_ids, _METRICS))
        found = compare(one, other, "pytrec_eval", (queries, queries), "queries", options.rounds or ROUNDS, say)
    finally:
        numba.set_num_threads(before)
    results.clear()  # their gigabyte is not needed by what follows
    speeds_of = {"ours": found.ours, "theirs": found.theirs}
    seconds = {name: queries / statistics.median(speeds) for name, speeds in speeds_of.items()}
    say(f"median seconds: ours {seconds['ours']:.3f}, pytrec_eval {seconds['theirs']:.3f}")
    say(f"pytrec_eval's dictionaries took {input_seconds:.1f} s more to make, which is not in its time")
    above = {
        way: memory.apart(f"{__name__}:prepare", queries=queries, k=k, way=way).above
        for way in ("ours", "theirs", "checked")
    }
    size = run.doc_ids.nbytes + run.scores.nbytes + run.offsets.nbytes
    say(
        f"peak memory above the run ({size / _GIB:.2f} GiB): ours {above['ours'] / _GIB:.2f}, with the cross-check "
        f"{above['checked'] / _GIB:.2f}, pytrec_eval with its dictionaries {above['theirs'] / _GIB:.2f} GiB"
    )
    more = {
        "threads": threads, "queries": queries, "k": k, "metrics": list(map(str, _METRICS)), "seconds": seconds,
        "peer_input_seconds": input_seconds, "run_bytes": size, "peak_bytes_above_run": above,
    }  # fmt: skip
    return {"ranx": found.entry(**more)}


def prepare(queries: int, k: int, way: str) -> Callable[[], object]:
    """Make the run, and return the call whose memory is measured: `way` is ours, theirs or checked (ours by theirs)."""
    run, qrels = synthetic(queries, k)
    query_ids = tuple(sorted(qrels))
    little = synthetic(10, 10)
    scoring.score(*little, _METRICS)  # compiles and imports
    if way == "checked":
        return lambda: scoring.score(run, qrels, _METRICS)
    if way == "ours":
        return lambda: ranx.by_ranx(run, qrels, query_ids, _METRICS, measure.PLAIN)
    evaluator = peer("pytrec_eval", "pytrec-eval-terrier").RelevanceEvaluator(
        qrels, {trec_eval.trec_name(metric) for metric in _METRICS}
    )
    return lambda: evaluator.evaluate(trec_eval.trec_results(run, qrels, range(len(run))))


def synthetic(queries: int, k: int, seed: int = 0) -> tuple[Run, Qrels]:
    """Make a run of `queries` by `k` with judgments like MS MARCO's.

    Document ids are numbers as text, below MS MARCO's count (or 2k, if that is more); a relevant document that was
    found lies at a rank whose logarithm is uniform. The same for the same arguments.
    """
    rng = np.random.default_rng(seed)
    documents = max(DOCUMENTS, 2 * k)
    # the multiples of a step below documents / k are distinct, whatever they start from
    start, step = rng.integers(0, documents, queries), rng.integers(1, documents // k, queries)
    numbers = (start[:, None] + np.arange(k) * step[:, None]) % documents  # [Q,k]
    scores = rng.normal(size=(queries, k)).astype(np.float32)
    query_ids = [str(number) for number in range(queries)]
    ids = numbers.ravel().astype(f"S{len(str(documents))}")
    run = Run.from_rows(query_ids, np.repeat(np.arange(queries), k), ids, scores.ravel())
    qrels: Qrels = {}
    for number, query_id in enumerate(query_ids):
        doc_ids, _ = run.rows(number)
        qrels[query_id] = {}
        for _ in range(1 + int(rng.random() < SECOND_JUDGED)):
            rank = int(k ** rng.random())  # 1 to k
            found = rng.random() < FOUND
            qrels[query_id][doc_ids[rank - 1].decode() if found else f"x{rng.integers(documents)}"] = 1
    return run, qrels
