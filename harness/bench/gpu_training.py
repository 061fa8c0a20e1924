"""Parts of `harness bench gpu`: a step of pre-training, and one of fine-tuning."""

import itertools
import statistics
from typing import Any

import numpy as np
import torch

from harness.bench.gpu_common import KINDS, Clock, Sizes, Table, bert, encoder, excused, free, paces, texts

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
    rows = [texts(draw, sizes, sizes.batch, sizes.length - 2) for _ in range(4)]
    batches = [PretrainBatch(*(part.to(device) for part in collate(some, n))) for n, some in enumerate(rows)]

    def made(of: type[DupMAE]) -> DupMAE:
        model = bert(sizes)
        torch.manual_seed(1)
        return of(model, config).to(device)

    def autocast() -> Any:
        return torch.autocast("cuda", dtype=KINDS[kind], enabled=kind != "fp32")

    def measure(of: type[DupMAE], end: float) -> tuple[list[float], float]:
        if compiled:
            torch._dynamo.reset()
        model = made(of).train()
        optimizer, turn = torch.optim.AdamW(model.parameters(), lr=1e-5), itertools.cycle(batches)
        forward: Any = torch.compile(model) if compiled else model
        losses = []

        def step() -> None:
            with autocast():
                found = forward(next(turn))
            loss = found if of is Naive else found.total
            loss.backward()
            losses.append(loss.detach())
            optimizer.step()
            optimizer.zero_grad()

        seconds = paces(step, sizes.steps, end, warm=len(batches) + 1 if compiled else 1)
        return seconds, float(losses[-1])

    if not compiled:
        table.tell("pre-training, loss of one batch, plain and ours", _alike(made, batches[0], autocast))
        for length in (64, sizes.length):
            found = _padded(made(DupMAE), collate, draw, sizes, length, autocast, device)
            table.tell(f"pre-training, gradients of a padded batch of {length}", found)
        free()
    plain = "pre-training, plain: all logits [B,L,V]"
    for name, of in ((plain, Naive), ("pre-training, ours", DupMAE)):
        what = name + ", torch.compile" * compiled
        with excused(table, what, "tokens/s"):
            seconds, loss = measure(of, clock.share(0.2 if compiled else 0.06))
            speed = sizes.batch * sizes.length / statistics.median(seconds)
            against = table.value_of(plain) if what != plain else None
            breaks = sum(torch._dynamo.utils.counters["graph_break"].values()) if compiled else 0
            table.add(what, speed, "tokens/s", steps=len(seconds), loss=loss, graph_breaks=breaks, against=against)


def _alike(made: Any, batch: Any, autocast: Any) -> str:
    """The two implementations have one objective: their losses without dropout."""
    from harness.bench.pretrain_step import Naive
    from harness.models.pretraining.mae import DupMAE

    with torch.no_grad(), autocast():
        plain, ours = float(made(Naive).eval()(batch)), float(made(DupMAE).eval()(batch).total)
    return f"{plain:.4f} and {ours:.4f}{'' if abs(plain - ours) <= 0.01 * abs(plain) else ': THEY DIFFER'}"


def _padded(
    model: Any, collate: Any, draw: np.random.Generator, sizes: Sizes, length: int, autocast: Any, device: torch.device
) -> str:
    """Whether all gradients are finite where most of a batch is padding, which full rows never meet."""
    from harness.models.pretraining.mae import PretrainBatch

    longest = min(length, sizes.length) - 2
    rows = [draw.integers(5, sizes.vocabulary, n) for n in (longest, *draw.integers(2, max(3, longest // 2), 15))]
    batch = PretrainBatch(*(part.to(device) for part in collate(rows, 0)))
    with autocast():
        loss = model.train()(batch).total
    loss.backward()
    grads = [weight.grad for weight in model.parameters() if weight.grad is not None]
    good = all(bool(torch.isfinite(grad).all()) for grad in grads)
    return "finite" if good and bool(torch.isfinite(loss)) else "NOT FINITE"


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

    for name, lexical in ((f"dense {sizes.hidden}", 0), (f"hybrid {sizes.half} + {sizes.half}", sizes.half)):
        what = f"fine-tuning, {name}"
        with excused(table, what, "passages/s"):
            seconds = measure(lexical, clock.share(0.08))
            passages_each = sizes.asked * sizes.group / statistics.median(seconds)
            table.add(
                what,
                passages_each,
                "passages/s",
                steps=len(seconds),
                against=table.value_of(f"fine-tuning, dense {sizes.hidden}"),
            )
