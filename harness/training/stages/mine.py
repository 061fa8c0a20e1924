"""The stages around hard negatives: mining them, teaching a cross-encoder on them, letting it score them."""

from pathlib import Path

import numpy as np

from harness.models.checkpoints import hub
from harness.models.cross_encoder import teacher as cross_encoder
from harness.models.finetuning.examples import FinetuneConfig
from harness.models.training.seeds import mixed
from harness.models.training.tokens import Ragged
from harness.retrievers import mining
from harness.runs.config import RetrieverSpec, make_retriever
from harness.training.context import (
    NEGATIVES,
    SCORES,
    Context,
    Facts,
    fit_stage,
    mined,
    read_rows,
    sound,
    token_pairs,
)
from harness.training.data.collections import examples
from harness.training.recipe import Mine, Score, Teacher
from harness.training.student import searched_as, special_ids


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


def teacher(context: Context, name: str, stage: Teacher, folder: Path) -> Facts:
    """Train a cross-encoder on the mined negatives."""
    source = _start(context, stage.start_from)
    module = cross_encoder.load(source, mixed(context.recipe.seed, 3))
    tokenizer = cross_encoder.tokenizer(source)
    texts = token_pairs(context, context.training, tokenizer, stage.length // 2, stage.length)
    data = examples(context.training, texts, mined(context))
    config = FinetuneConfig(stage.batch, stage.negatives, chunk=stage.chunk, seed=context.recipe.seed)
    joiner = cross_encoder.Joiner(special_ids(tokenizer), stage.length)
    task = sound(name, lambda: cross_encoder.CrossTask(module, data, config, joiner, **context.share))
    settings = stage.loop(len(data.queries), context.recipe.seed)
    fit_stage(context, name, task, settings, folder)
    if context.main:
        cross_encoder.save(folder, module, tokenizer, stage.length)
    return {"steps": settings.steps, "queries": len(data.queries)}


def score(context: Context, name: str, stage: Score, folder: Path) -> Facts:
    """Let the teacher score positives and some mined negatives of each query; each process scores its share."""
    source, accelerator = context.latest["teacher"], context.accelerator
    module, tokenizer = cross_encoder.load(source), cross_encoder.tokenizer(source)
    length = cross_encoder.trained_length(source)
    queries, passages = token_pairs(context, context.training, tokenizer, length // 2, length)
    kept = _sample(mined(context), stage.candidates, context.recipe.seed)
    positives = context.training.positives
    rows = Ragged.of(np.concatenate((positives[i], kept[i])) for i in range(len(positives)))
    rank, processes = accelerator.process_index, accelerator.num_processes
    mine = [i for i in range(len(rows)) if i % processes == rank]
    part = Ragged.of(rows[i] for i in mine)
    own = Ragged.of((queries[i] for i in mine), np.uint32)
    joiner = cross_encoder.Joiner(special_ids(tokenizer), length)
    with context.job.phase(name, len(part.flat), "pairs") as meter:
        found = cross_encoder.score(module, own, passages, part, joiner, accelerator.device, meter.advance)
    np.savez(folder / f"part-{rank}.npz", scores=found.flat)
    accelerator.wait_for_everyone()
    if context.main:
        scores = np.empty(len(rows.flat), dtype=np.float32)
        for other in range(processes):
            places = [np.arange(rows.offsets[i], rows.offsets[i + 1]) for i in range(other, len(rows), processes)]
            scores[np.concatenate(places)] = np.load(folder / f"part-{other}.npz")["scores"]
            (folder / f"part-{other}.npz").unlink()
        np.savez(folder / SCORES, rows=kept.flat, offsets=kept.offsets, scores=scores, score_offsets=rows.offsets)
    return {"pairs": len(rows.flat)}


def _sample(mined: Ragged, count: int, seed: int) -> Ragged:
    """`count` of each query's negatives, or all where it has fewer; a pure function of the seed."""
    rows = []
    for number in range(len(mined)):
        row = mined[number]
        draw = np.random.default_rng([seed, number])
        rows.append(row if len(row) <= count else row[np.sort(draw.choice(len(row), count, replace=False))])
    return Ragged.of(rows)


def _start(context: Context, name: str) -> Path:
    return context.place(name) if name == "base" or name in context.recipe.stages else hub.locate(name)
