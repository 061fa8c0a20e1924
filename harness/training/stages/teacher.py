"""The stage `teacher`: a cross-encoder, trained on the mined negatives."""

from pathlib import Path

from harness.models.checkpoints import hub
from harness.models.cross_encoder import teacher as cross_encoder
from harness.models.finetuning.examples import FinetuneConfig
from harness.models.training.seeds import mixed
from harness.training.context import (
    Context,
    Facts,
    fit_stage,
    mined,
    sound,
    token_pairs,
)
from harness.training.data.collections import examples
from harness.training.recipe import Teacher
from harness.training.student import special_ids


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


def _start(context: Context, name: str) -> Path:
    return context.place(name) if name == "base" or name in context.recipe.stages else hub.locate(name)
