"""The stage `mine`: hard negatives by our own search or another retriever."""

from pathlib import Path

import numpy as np

from harness.retrievers import mining
from harness.runs.config import RetrieverSpec, make_retriever
from harness.training.context import (
    NEGATIVES,
    Context,
    Facts,
    read_rows,
)
from harness.training.recipe import Mine
from harness.training.student import searched_as


def mine(context: Context, _name: str, stage: Mine, folder: Path) -> Facts:
    """Rank the training queries by our own search, or another retriever, and keep what is no positive."""
    own = stage.retriever == "model"
    spec = searched_as(context.recipe.system, context.encoder) if own else RetrieverSpec(name=stage.retriever)
    retriever = make_retriever(spec)
    if context.main or retriever.distributed:
        retriever.check()
        context.job.tell(retriever.notice)
        with context.job.lent(retriever.distributed):
            parts = [
                mining.mine(retriever, c.dataset, c.dataset.queries, c.positives, c.rows, stage.depth, context.job)
                for c in context.training.collections
            ]
    if context.main:
        parts = [
            mining.filled(part, c.positives, stage.least, c.dataset.count, context.recipe.seed)
            for part, c in zip(parts, context.training.collections, strict=True)
        ]
        found = context.training.joined(parts)
        np.savez(folder / NEGATIVES, rows=found.flat.astype(np.int32), offsets=found.offsets)
    context.accelerator.wait_for_everyone()
    lengths = read_rows(folder / NEGATIVES).lengths
    return {"queries": len(lengths), "fewest": int(lengths.min()), "most": int(lengths.max())}
