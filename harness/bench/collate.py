"""Sequences per second of the pre-training collator against a plain one that loops over tokens and rows.

The plain collator makes the same kind of batch (whole words, the same rates, a mask of its own for each row) a token at
a time, as a first implementation would.
"""

import itertools
import random
from collections.abc import Sequence
from typing import Any

import torch

from harness.bench.options import ROUNDS, BenchOptions
from harness.bench.timing import Say, compare
from harness.models.pretraining.config import PretrainConfig
from harness.models.pretraining.masking import Collator, Vocabulary

V, CLS, SEP, PAD, MASK = 30_522, 101, 102, 0, 103
CONTINUES = 0.25  # about the share of word pieces in English text
_CALLS = 20  # of ours in one round, so that both take about as long


def collate(options: BenchOptions, say: Say) -> dict[str, Any]:
    """Compare the two on `batch` (64) texts of `length` (150) tokens, on one thread unless `threads` says more."""
    batch, length, threads = options.batch or 64, options.length or 150, options.threads or 1
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    continues = torch.rand(V) < CONTINUES
    config = PretrainConfig.paper("DupMAE")
    texts = [torch.randint(1000, V, (length - 2,)).tolist() for _ in range(batch)]
    ours, flags, draw = (
        Collator(Vocabulary(V, CLS, SEP, PAD, MASK, continues), config, length),
        continues.tolist(),
        random.Random(0),
    )
    steps = itertools.count()

    def many() -> None:
        for _ in range(_CALLS):
            ours(texts, next(steps))

    def other() -> None:
        plain(texts, flags, config, draw)

    ours(texts, next(steps))
    say(f"collate/pretrain: {batch} texts of {length} tokens, threads {threads}")
    found = compare(many, other, "plain", (_CALLS * batch, batch), "sequences", options.rounds or ROUNDS, say)
    return {"pretrain": found.entry(threads=threads, batch=batch, length=length)}


def plain(
    texts: Sequence[Sequence[int]], continues: Sequence[bool], config: PretrainConfig, draw: random.Random
) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Make a batch by loops: encoder ids [L] and labels [L], and the visible matrix [L,L], of each text.

    `continues[token]` says whether the token goes on with the word before it.
    """
    batch = []
    for text in texts:
        groups: list[list[int]] = []
        for place, token in enumerate(text, 1):
            if groups and continues[token]:
                groups[-1].append(place)
            else:
                groups.append([place])
        ids = [CLS, *text, SEP]
        masked = _some(groups, config.encoder_mask_rate, draw)
        encoder = [MASK if place in masked else token for place, token in enumerate(ids)]
        labels = [token if place in masked else -100 for place, token in enumerate(ids)]
        rows = []
        for row in range(len(ids)):
            hidden = _some(groups, config.decoder_mask_rate, draw)
            rows.append([int(column not in hidden and column != row) for column in range(len(ids))])
        batch.append((torch.tensor(encoder), torch.tensor(labels), torch.tensor(rows)))
    return batch


def _some(groups: Sequence[Sequence[int]], rate: float, draw: random.Random) -> set[int]:
    return {place for group in groups if draw.random() < rate for place in group}
