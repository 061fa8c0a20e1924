"""The stage `finetune`: the hybrid score, in-batch, with hard negatives or by distillation."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from harness.models.checkpoints import checkpoint
from harness.models.checkpoints.checkpoint import Loaded
from harness.models.finetuning.biencoder import BiEncoder
from harness.models.finetuning.examples import AUTO, FinetuneConfig
from harness.models.finetuning.task import FinetuneTask
from harness.models.training.seeds import mixed
from harness.models.training.tokens import Ragged
from harness.training.context import SCORES, Context, Facts, choose_attention, fit_stage, mined, sound, token_pairs
from harness.training.data.collections import examples
from harness.training.recipe import Finetune
from harness.training.student import load_student, special_ids
from harness.training.validation import Validator


def finetune(context: Context, name: str, stage: Finetune, folder: Path) -> Facts:
    """Fine-tune the encoder so far on the hybrid score. Raises InputError where the examples lack what it asks for."""
    student = load_student(context.encoder, stage, mixed(context.recipe.seed, 2))
    spec = student.spec
    training = context.opened(context.recipe.trains_on(stage))
    texts = token_pairs(context, training, student.tokenizer, stage.query_length - 2, stage.passage_length - 2)
    negatives, teacher = None, None
    if stage.distil:
        scored = np.load(context.latest["score"] / SCORES)
        negatives = Ragged(scored["rows"], scored["offsets"])
        teacher = Ragged(scored["scores"], scored["score_offsets"])
    elif stage.negatives:
        negatives = mined(context)
    before = spec.trained.get("kind") in (
        "finetune",
        "weigh",
    )  # its temperature and scale stay, unless others are given
    config = FinetuneConfig(
        queries=stage.batch,
        negatives=stage.negatives,
        distil=stage.distil,
        contrastive_weight=stage.contrastive_weight,
        each_half=stage.each_half,
        chunk=stage.chunk,
        temperature=_number(stage.temperature, spec.temperature if before else AUTO),
        lexical_scale=_number(stage.lexical_scale, spec.lexical_scale if before else AUTO),
        seed=context.recipe.seed,
    )
    choose_attention(context, student.model, max(stage.query_length, stage.passage_length))
    module = BiEncoder(student.encoder)
    pairs = examples(training, texts, negatives, teacher)
    special = special_ids(student.tokenizer)
    task = sound(name, lambda: FinetuneTask(module, pairs, config, special, **context.share))
    settings = stage.loop(len(pairs.queries), context.recipe.seed, stage.validate_every)
    validate = None
    data = context.recipe.data
    if data.validate_on and context.main:
        validator = Validator(data.validate_on, data.validation_documents, context.root, context.job)
        validate = lambda: validator.scores(_now(student, task), context.accelerator.device)  # noqa: E731
    fit_stage(context, name, task, settings, folder, validate)
    if context.main:
        final = spec.replace(trained=context.trained(name, spec), **task.extra())
        checkpoint.save(folder, student.model, student.tokenizer, final, student.encoder.projection)
    return {"steps": settings.steps, "queries": len(pairs.queries), **task.extra()}


def _now(student: Loaded, task: FinetuneTask) -> Loaded:
    """The student with temperature and scale as they stand."""
    return dataclasses.replace(student, spec=student.spec.replace(**task.extra()))


def _number(value: Any, automatic: float) -> float:
    return automatic if value == "auto" else float(value)
