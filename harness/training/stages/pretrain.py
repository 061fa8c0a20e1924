"""The stage `pretrain`: RetroMAE or DupMAE from the masked-LM so far."""

import dataclasses
from pathlib import Path
from typing import Any

import torch

from harness.models import hybrid
from harness.models.checkpoints import checkpoint
from harness.models.hybrid import HybridSpec
from harness.models.pretraining.mae import DupMAE, RetroMAE
from harness.models.pretraining.masking import Collator, Vocabulary
from harness.models.pretraining.task import PretrainTask, spread
from harness.models.training import tokens
from harness.models.training.seeds import mixed
from harness.retrievers.errors import InputError
from harness.runtime.hashing import digest
from harness.training.base_model import load_masked_lm
from harness.training.context import Context, Facts, choose_attention, fit_stage, sound, vocabulary_hash
from harness.training.data import corpora
from harness.training.recipe import Pretrain

_SPREAD_TEXTS = 256


def pretrain(context: Context, name: str, stage: Pretrain, folder: Path) -> Facts:
    """Pre-train the masked-LM so far. Raises InputError for a corpus, a length or a batch that cannot be."""
    model, tokenizer = load_masked_lm(context.encoder)
    texts = _tokens(context, stage, tokenizer)
    config = stage.objective.config()
    torch.manual_seed(mixed(context.recipe.seed, 1))
    module = (DupMAE if config.kind == "DupMAE" else RetroMAE)(model, config)
    module.decoder.written_out = choose_attention(context, model, stage.length)
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
