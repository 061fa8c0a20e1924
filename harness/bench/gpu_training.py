"""Parts of `harness bench gpu`: a step of pre-training, and one of fine-tuning."""

import itertools
import statistics
from typing import Any

import numpy as np
import torch

from harness.bench.gpu_common import KINDS, Clock, Sizes, Table, bert, encoder, excused, paces, texts

# --- pre-training


def pretraining(
    sizes: Sizes, kind: str, device: torch.device, table: Table, clock: Clock, compiled: bool = False
) -> None:
    """Steps of DupMAE with AdamW: ours and a plain implementation."""
    from harness.bench.pretrain_step import Naive
    from harness.models.pretraining.config import PretrainConfig
    from harness.models.pretraining.mae import DupMAE, PretrainBatch
    from harness.models.pretraining.masking import Collator, Vocabulary

    config, draw = PretrainConfig.paper("DupMAE"), np.random.default_rng(0)
    words = Vocabulary(sizes.vocabulary, 1, 2, 0, 3, torch.from_numpy(draw.random(sizes.vocabulary) < 0.2))
    collate = Collator(words, config, sizes.length)
    made = [texts(draw, sizes, sizes.batch, sizes.length - 2) for _ in range(4)]
    batches = [PretrainBatch(*(part.to(device) for part in collate(some, n))) for n, some in enumerate(made)]

    def measure(of: type[DupMAE], end: float) -> list[float]:
        model = of(bert(sizes), config).to(device).train()
        optimizer, turn = torch.optim.AdamW(model.parameters(), lr=1e-5), itertools.cycle(batches)
        forward: Any = torch.compile(model) if compiled else model

        def step() -> None:
            with torch.autocast("cuda", dtype=KINDS[kind], enabled=kind != "fp32"):
                found = forward(next(turn))
            (found if of is Naive else found.total).backward()
            optimizer.step()
            optimizer.zero_grad()

        return paces(step, sizes.steps, end)

    plain = "pre-training, plain: all logits [B,L,V]"
    for name, of in ((plain, Naive), ("pre-training, ours", DupMAE)):
        what = name + ", torch.compile" * compiled
        with excused(table, what, "tokens/s"):
            seconds = measure(of, clock.share(0.2 if compiled else 0.06))
            speed = sizes.batch * sizes.length / statistics.median(seconds)
            against = table.value_of(plain) if what != plain else None
            table.add(what, speed, "tokens/s", steps=len(seconds), against=against)


# --- fine-tuning


def finetuning(sizes: Sizes, kind: str, _device: torch.device, table: Table, clock: Clock) -> None:
    """Steps on the hybrid score with hard negatives, by gradient caching, as the recipe has them."""
    from accelerate import Accelerator

    from harness.models.finetuning.biencoder import BiEncoder
    from harness.models.finetuning.examples import Examples, FinetuneConfig
    from harness.models.finetuning.task import FinetuneTask
    from harness.models.training.tokens import Ragged

    draw = np.random.default_rng(1)
    many = 4 * sizes.asked
    passages = texts(draw, sizes, many * sizes.group, sizes.passage_length - 2)
    rows = np.arange(len(passages)).reshape(many, sizes.group)
    examples = Examples(
        Ragged.of(texts(draw, sizes, many, sizes.query_length - 2)),
        Ragged.of(passages),
        Ragged.of(rows[:, :1]),
        Ragged.of(rows[:, 1:]),
    )
    config = FinetuneConfig(sizes.asked, negatives=sizes.group - 1, chunk=sizes.chunk)

    def measure(lexical: int, end: float) -> list[float]:
        accelerator = Accelerator(mixed_precision="no" if kind == "fp32" else kind)
        task = FinetuneTask(BiEncoder(encoder(bert(sizes), sizes, lexical)), examples, config, (1, 2, 0))
        model, optimizer = accelerator.prepare(task.module, torch.optim.AdamW(task.module.parameters(), lr=1e-5))
        model.train()
        turn = itertools.cycle([task.prepare(step) for step in range(2)])

        def step() -> None:
            task.backward(model, next(turn), accelerator)
            optimizer.step()
            optimizer.zero_grad()

        try:
            return paces(step, sizes.steps, end)
        finally:
            accelerator.free_memory()

    for name, lexical in (("dense alone", 0), ("hybrid", sizes.half)):
        what = f"fine-tuning, {name}"
        with excused(table, what, "pairs/s"):
            seconds = measure(lexical, clock.share(0.08))
            pairs = sizes.asked * sizes.group / statistics.median(seconds)
            table.add(what, pairs, "pairs/s", steps=len(seconds), against=table.value_of("fine-tuning, dense alone"))
