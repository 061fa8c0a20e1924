"""Scores of training pairs by any retriever, or by a weighted sum of several: a teacher that needs no training."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from harness.models.training.tokens import Ragged
from harness.retrievers.errors import InputError
from harness.retrievers.mining import searched
from harness.retrievers.run_files.fusion import fuse
from harness.runs.config import RetrieverSpec, make_retriever
from harness.training.recipe_data import Strict

if TYPE_CHECKING:
    from harness.retrievers.types import Run
    from harness.training.context import Context
    from harness.training.data.collections import Collection


class Teacher(Strict):
    """A retriever whose scores are learned from. Beside others its scores are put between 0 and 1, times `weight`."""

    retriever: str
    options: dict[str, Any] = Field(default_factory=dict)
    weight: float = Field(1.0, gt=0, allow_inf_nan=False)

    @property
    def spec(self) -> RetrieverSpec:
        """As a run configuration has it."""
        return RetrieverSpec(name=self.retriever, options=self.options)


def scored(
    teachers: Sequence[Teacher], collection: "Collection", kept: Ragged, depth: int, context: "Context"
) -> tuple[npt.NDArray[np.float32], int] | None:
    """The scores of each query's positives, then of its `kept` documents, one after another; and how many are bounds.

    Every teacher searches the collection for the `depth` best of each query. A document beyond them has the least score
    that the query's list holds, which bounds its own from above. None on every process but rank 0: the others only help
    to search, where a teacher shares that out. Raises InputError for a teacher that returns other queries, or documents
    that the collection does not have.
    """
    found_by = [_run(teacher, collection, depth, context) for teacher in teachers]
    runs = [run for run in found_by if run is not None]
    if not context.main:
        return None
    run = runs[0] if len(runs) == 1 else fuse(runs, "weighted", weights=[teacher.weight for teacher in teachers])
    found, bounds = [], 0
    for number in range(len(collection.positives)):
        ids, scores = run.rows(number)
        rows = collection.rows.of(ids)
        if (rows < 0).any():
            lost = ids[int(np.flatnonzero(rows < 0)[0])].decode()
            raise InputError(
                f"{', '.join(teacher.retriever for teacher in teachers)} returned the document {lost!r}, which "
                f"{collection.dataset.name} does not have."
            )
        wanted = np.concatenate((collection.positives[number], kept[number]))
        order = np.argsort(rows)
        place = np.searchsorted(rows[order], wanted).clip(max=max(0, len(rows) - 1))
        there = rows[order][place] == wanted if len(rows) else np.zeros(len(wanted), dtype=np.bool_)
        least = float(scores.min()) if len(scores) else 0.0
        own = np.full(len(wanted), least, dtype=np.float32)
        own[there] = scores[order[place[there]]]
        bounds += int((~there).sum())
        found.append(own)
    return np.concatenate(found), bounds


def _run(teacher: Teacher, collection: "Collection", depth: int, context: "Context") -> "Run | None":
    retriever, dataset = make_retriever(teacher.spec), collection.dataset
    if not (context.main or retriever.distributed):
        return None
    retriever.check()
    context.job.tell(retriever.notice)
    with context.job.lent(retriever.distributed):
        return searched(retriever, dataset, dataset.queries, depth, context.job)


def best_scale(scores: Ragged, positives: Ragged) -> float:
    """What scores are to be multiplied by so that their softmax tells positives best: least -log softmax, mean.

    A retriever's scores have a scale of their own (cosines lie within 1, BM25's around 20), and the softmax of equation
    15 takes them as logits. Of 33 scales, half a power of 2 apart, around one over their spread. A row is a query's
    positives, then its negatives; other positives are left out when a positive is compared with the negatives.
    """
    rows = [(scores[n][: len(positives[n])], scores[n][len(positives[n]) :]) for n in range(len(scores))]
    rows = [(own, others) for own, others in rows if len(others)]
    spreads = [float(np.concatenate(pair).std()) for pair in rows]
    usual = float(np.mean([value for value in spreads if value > 0] or [1.0]))
    scales = [2 ** (n / 2) / usual for n in range(-16, 17)]

    def loss(scale: float) -> float:
        parts = []
        for own, others in rows:
            logits = scale * others.astype(np.float64)
            for value in scale * own.astype(np.float64):
                parts.append(np.logaddexp.reduce(np.append(logits, value)) - value)
        return float(np.mean(parts)) if parts else 0.0

    return min(scales, key=lambda scale: (loss(scale), scale))
