"""The halves of a hybrid checkpoint on one collection, from one encoding."""

from collections.abc import Mapping, Sequence

import numpy as np

from harness.datasets.dataset import Dataset
from harness.metrics.measure import Metric
from harness.metrics.scoring import score
from harness.reports.dissection import BOTH, DENSE, LEXICAL, Dissection, Scored
from harness.retrievers.encoding.vectors import bytes_per_document
from harness.retrievers.neural import halves
from harness.retrievers.neural.retriever import Neural
from harness.retrievers.neural.views import View
from harness.retrievers.types import Run
from harness.runtime.job import HarnessJob

_NARROWEST = 8


def dissect(
    retriever: Neural,
    dataset: Dataset,
    widths: Sequence[int] | None,
    metrics: Sequence[Metric],
    top_k: int,
    job: HarnessJob,
) -> Dissection:
    """Search the store of `retriever` on `dataset` by each half alone and both, and with K' terms for each of `widths`.

    Without `widths` these are K, K/2, K/4, … down to 8. The store is that of `harness run`; passages are encoded only
    where it is not there. Scores are by the collection's rules. Raises InputError for wrong input.
    """
    dataset.open(job)
    for message in dataset.warnings:
        job.warn(message)
    loaded = retriever.encoder.loaded
    spec = loaded.spec
    dense, lexical = int(spec.dense or 0), spec.lexical
    chosen = sorted({*(_halved(lexical) if widths is None else widths), lexical} - {0})
    views = {
        View(True, lexical): (BOTH, lexical),
        View(True, 0): (DENSE, 0),
        View(False, lexical): (LEXICAL, lexical),
        **{View(with_dense, k): (BOTH if with_dense else LEXICAL, k) for with_dense in (True, False) for k in chosen},
    }
    drop = dataset.rules.drop_self
    kept = min(top_k, dataset.count)
    asked = min(kept + drop, dataset.count)
    runs = halves.search(retriever, dataset, dataset.queries, list(views), asked, job)
    if drop:
        runs = {view: run.without_self(kept) for view, run in runs.items()}
    scored, query_ids = [], tuple(sorted(dataset.qrels))
    with job.phase("score", len(runs) * len(query_ids), "queries") as meter:
        for view, (word, terms) in views.items():
            scores = score(runs[view], dataset.qrels, metrics, dataset.rules.levels)
            ours, paper = bytes_per_document(dense if view.dense else 0, terms, loaded.vocabulary)
            scored.append(Scored(word, terms, ours, paper, {m: v.tolist() for m, v in scores.values.items()}))
            meter.advance(len(query_ids))
    whole = {BOTH: View(True, lexical), DENSE: View(True, 0), LEXICAL: View(False, lexical)}
    return Dissection(
        dataset=dataset.name,
        system=retriever.entry.system,
        dense=dense,
        lexical=lexical,
        top_k=kept,
        query_ids=query_ids,
        scored=tuple(scored),
        ranks={
            word: first_ranks(runs[view], dataset.qrels, query_ids, dataset.rules.binary_level)
            for word, view in whole.items()
        },
    )


def _halved(lexical: int) -> list[int]:
    found = [lexical]
    while found[-1] // 2 >= _NARROWEST:
        found.append(found[-1] // 2)
    return found


def first_ranks(
    run: Run, qrels: Mapping[str, Mapping[str, int]], query_ids: Sequence[str], binary_level: int
) -> list[int]:
    """The rank of each query's first relevant document [Q], from 1 up; 0 where the run holds none."""
    place = {query_id: number for number, query_id in enumerate(run.query_ids)}
    ranks = []
    for query_id in query_ids:
        relevant = [doc_id.encode() for doc_id, grade in qrels[query_id].items() if grade >= binary_level]
        ids = run.rows(place[query_id])[0] if query_id in place else np.empty(0, "S1")
        hits = np.flatnonzero(np.isin(ids, np.array(relevant, dtype=np.bytes_)))
        ranks.append(int(hits[0]) + 1 if len(hits) else 0)
    return ranks
