"""The stages that leave an encoder: pre-training and fine-tuning, each from the checkpoint before it."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.models import hybrid
from harness.models.checkpoints import checkpoint
from harness.models.checkpoints.checkpoint import Loaded
from harness.models.finetuning.biencoder import BiEncoder
from harness.models.finetuning.examples import AUTO, FinetuneConfig
from harness.models.finetuning.task import FinetuneTask
from harness.models.hybrid import HybridSpec
from harness.models.layers import attention
from harness.models.pretraining.mae import DupMAE, RetroMAE
from harness.models.pretraining.masking import Collator, Vocabulary
from harness.models.pretraining.task import PretrainTask, spread
from harness.models.training import tokens
from harness.models.training.seeds import mixed
from harness.models.training.tokens import Ragged
from harness.retrievers.errors import InputError
from harness.training.base_model import load_masked_lm
from harness.training.context import SCORES, Context, Facts, fit_stage, mined, sound, token_pairs, vocabulary_hash
from harness.training.data import corpora
from harness.training.data.collections import examples
from harness.training.recipe import Finetune, Pretrain
from harness.training.stage_folder import digest
from harness.training.student import load_student, special_ids
from harness.training.validation import Validator

_SPREAD_TEXTS = 256


def pretrain(context: Context, name: str, stage: Pretrain, folder: Path) -> Facts:
    """Pre-train the masked-LM so far. Raises InputError for a corpus, a length or a batch that cannot be."""
    model, tokenizer = load_masked_lm(context.encoder)
    texts = _tokens(context, stage, tokenizer)
    config = stage.objective.config()
    torch.manual_seed(mixed(context.recipe.seed, 1))
    module = (DupMAE if config.kind == "DupMAE" else RetroMAE)(model, config)
    module.decoder.written_out = _attention(context, model, stage.length)
    collator = Collator(Vocabulary.of(tokenizer), config, stage.length, context.recipe.seed)
    task = sound(name, lambda: PretrainTask(module, texts, collator, stage.batch, stage.micro_batch, **context.share))
    settings = stage.loop(len(texts), context.recipe.seed)
    settings = dataclasses.replace(settings, validate_every=max(1, settings.steps // 20))
    probe = collator([texts[i] for i in range(max(0, len(texts) - _SPREAD_TEXTS), len(texts))], 0)
    fit_stage(context, name, task, settings, folder, lambda: spread(module, probe, context.accelerator))
    if context.main:
        # runs as its CLS vector; --lexical adds the other half, which nothing has weighed against it yet
        spec = HybridSpec(query_length=min(32, stage.length), passage_length=stage.length)
        trained = context.trained(name, hybrid.read(context.encoder) or HybridSpec())
        checkpoint.save(folder, model, tokenizer, spec.replace(trained=trained))
    return {"steps": settings.steps, "texts": len(texts)}


def _attention(context: Context, model: Any, length: int) -> bool:
    """Have the model compute attention in the way that pays for such texts; whether it is written out."""
    accelerator = context.accelerator
    pays = attention.written_out_pays(accelerator.device.type, accelerator.mixed_precision, length)
    if pays:
        attention.choose(model, pays)
    return pays


def _tokens(context: Context, stage: Pretrain, tokenizer: Any) -> tokens.Tokens:
    """The tokenised corpora, cached; what is too short to learn from is left out and said."""
    parts = stage.corpora or context.recipe.data.corpora
    label = [vocabulary_hash(tokenizer), stage.length, stage.long_texts]
    key = digest([label, context.stamp(parts)])
    with context.accelerator.main_process_first(), context.job.phase("tokenise", None, "texts") as meter:
        found = tokens.write(
            context.job.cache / "tokens" / key,
            tokenizer,
            (text for part in parts for text in corpora.texts(part, context.root)),
            stage.length - 2,
            shortest=2,
            split=stage.long_texts == "split",
            done=meter.advance,
        )
    names = ", ".join(part.name for part in parts)
    if found.left_out and context.main:
        context.job.warn(f"{names}: {found.left_out:,} texts of fewer than two tokens left out")
    if not len(found.tokens):
        raise InputError(f"the corpora {names} hold no text of two tokens or more: nothing can be learned from them.")
    return found.tokens


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
    _attention(context, student.model, max(stage.query_length, stage.passage_length))
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
