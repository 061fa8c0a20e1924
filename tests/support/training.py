"""Small training tasks that tests share; another process makes the same by `python -m tests.support.training`."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from transformers import BertForSequenceClassification

from harness.models.cross_encoder.teacher import CrossEncoder, CrossTask, Joiner
from harness.models.finetuning.biencoder import BiEncoder
from harness.models.finetuning.examples import Examples, FinetuneConfig
from harness.models.finetuning.task import FinetuneTask
from harness.models.hybrid import HybridSpec
from harness.models.layers.encoder import Encoder
from harness.models.layers.families import mlm_head
from harness.models.pretraining.config import PretrainConfig
from harness.models.pretraining.mae import DupMAE
from harness.models.pretraining.masking import Collator, Vocabulary
from harness.models.pretraining.task import PretrainTask
from harness.models.training.config import LoopConfig
from harness.models.training.loop import fit
from harness.models.training.tokens import Ragged
from tests.support import tiny

SPECIAL = (2, 3, 0)  # CLS, SEP, padding of tests/support/tiny.py
SIZE = len(dict.fromkeys(tiny.VOCABULARY))


def random_tokens(count, seed, low=2, high=12):
    draw = np.random.default_rng(seed)
    return Ragged.of([draw.integers(5, SIZE, draw.integers(low, high)) for _ in range(count)], np.uint16)


def no_dropout(dropout):
    return {} if dropout else {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def biencoder(dense=16, lexical=12, dropout=False, seed=0, frozen=False, **more):
    lm = tiny.masked_lm(seed, **no_dropout(dropout))
    torch.manual_seed(seed)
    projection = nn.Linear(32, dense, bias=False) if dense not in (0, 32) else None
    spec = HybridSpec(dense=dense, lexical=lexical, **more)
    encoder = Encoder(lm.base_model, mlm_head(lm) if lexical else None, projection, spec, SPECIAL)
    return BiEncoder(encoder, frozen=frozen)


def examples(queries=12, passages=40, negatives=5, seed=0):
    """Query i is answered by passages 2i and 2i+1, but passage 0 also by query 1; the rest may be negatives."""
    draw = np.random.default_rng(seed)
    positives = [[2 * i % passages, (2 * i + 1) % passages] for i in range(queries)]
    positives[1].append(0)
    rest = [[n for n in range(passages) if n not in set(found)] for found in positives]
    mined = [draw.choice(others, negatives, replace=False) for others in rest]
    teacher = [draw.normal(size=len(found) + negatives) for found in positives]
    return Examples(
        random_tokens(queries, seed + 1, 2, 6),
        random_tokens(passages, seed + 2),
        Ragged.of(positives),
        Ragged.of(mined),
        Ragged.of(teacher, np.float32),
    )


def finetune(config, dropout=False, rank=0, processes=1, known=None, **halves):
    return FinetuneTask(biencoder(dropout=dropout, **halves), known or examples(), config, SPECIAL, rank, processes)


def pretrain(dropout=True, rank=0, processes=1, batch=8, micro_batch=2):
    config = PretrainConfig.paper("DupMAE")
    lm = tiny.masked_lm(**no_dropout(dropout))
    torch.manual_seed(1)
    collator = Collator(Vocabulary.of(tiny.tokenizer()), config, 16, seed=5)
    return PretrainTask(DupMAE(lm, config), random_tokens(30, 7, low=6), collator, batch, micro_batch, rank, processes)


def classifier(dropout=False):
    torch.manual_seed(0)
    return CrossEncoder(BertForSequenceClassification(tiny.config(num_labels=1, **no_dropout(dropout))).eval())


def cross(config, rank=0, processes=1, known=None, length=24):
    return CrossTask(classifier(), known or examples(), config, Joiner(SPECIAL, length), rank, processes)


# of tests/models/training/test_distributed.py and tests/models/training/test_loop.py
TASKS = {
    "pretrain": pretrain,
    "contrastive": lambda **at: finetune(FinetuneConfig(6, negatives=2), **at),
    "chunked": lambda **at: finetune(FinetuneConfig(6, negatives=2, chunk=2), **at),
    "dense": lambda **at: finetune(FinetuneConfig(6, chunk=2), lexical=0, **at),
    "lexical": lambda **at: finetune(FinetuneConfig(6, chunk=64), dense=0, **at),
    "distil": lambda **at: finetune(FinetuneConfig(6, negatives=3, distil=True, chunk=5), **at),
    "distil and contrast": lambda **at: finetune(
        FinetuneConfig(6, negatives=3, distil=True, contrastive_weight=0.2, temperature=20.0), **at
    ),
    "cross": lambda dropout=False, **at: cross(FinetuneConfig(6, negatives=2, chunk=1), **at),
}
LOOP = LoopConfig(steps=30, learning_rate=1e-3, weight_decay=0.01, seed=3, log_every=1, save_every=3)


class Watching(Accelerator):
    """Keeps the gradients of the first step."""

    watched = None

    def clip_grad_norm_(self, *args, **kwargs):
        if self.watched is not None and not self.grads:
            self.grads = {n: w.grad.clone() for n, w in self.watched.named_parameters() if w.grad is not None}
        return super().clip_grad_norm_(*args, **kwargs)

    def watch(self, module):
        self.watched, self.grads = module, {}


def course_of(name, folder, steps=3, dropout=False, accelerator=None):
    """Gradients of the first step, the log and the settled numbers of a short run."""
    accelerator = accelerator or Watching(cpu=True)
    task = TASKS[name](dropout=dropout, rank=accelerator.process_index, processes=accelerator.num_processes)
    accelerator.watch(task.module)
    log = []
    config = LoopConfig(steps=steps, learning_rate=1e-4, warmup=0.0)
    fit(task, config, folder, accelerator, report=lambda step, tokens, found: log.append((tokens, found)))
    return {"grads": accelerator.grads, "log": log, "extra": task.extra(), "weights": task.module.state_dict()}


def main(kind, folder, *names):
    folder = Path(folder)
    torch.set_num_threads(1)
    if kind == "fit":  # until killed
        fit(TASKS[names[0]](dropout=True), LOOP, folder, Accelerator(cpu=True))
        return
    rank = int(os.environ["RANK"])
    for name in names:
        place = folder / name
        torch.save(course_of(name, place), folder / f"{name}.{rank}.pt")
        lines = (place / "metrics.jsonl").read_text().splitlines() if rank == 0 else []
        assert all(json.loads(line) for line in lines)
    Accelerator(cpu=True).end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])
