"""Sequences per second of the pre-training collator against a plain one that loops over tokens and rows.

    python benchmarks/collate.py [--batch 64] [--length 150] [--rounds 5]

One thread, in one process, in turn. The plain collator makes the same kind of batch (whole words, the same rates, a
mask of its own for each row) a token at a time, as a first implementation would.
"""

import argparse
import itertools
import random

import torch
from timing import compare

from models.config import PretrainConfig
from models.masking import Collator, Vocabulary

V, CLS, SEP, PAD, MASK = 30_522, 101, 102, 0, 103


def plain(texts, continues, config, draw):
    """A batch by loops: encoder ids and labels, and the visible matrix of each text."""
    batch = []
    for text in texts:
        groups = []
        for place, token in enumerate(text, 1):
            if groups and continues[token]:
                groups[-1].append(place)
            else:
                groups.append([place])

        def some(rate, groups=groups):
            return {place for group in groups if draw.random() < rate for place in group}

        ids = [CLS, *text, SEP]
        masked = some(config.encoder_mask_rate)
        encoder = [MASK if place in masked else token for place, token in enumerate(ids)]
        labels = [token if place in masked else -100 for place, token in enumerate(ids)]
        rows = []
        for row in range(len(ids)):
            hidden = some(config.decoder_mask_rate)
            rows.append([int(column not in hidden and column != row) for column in range(len(ids))])
        batch.append((torch.tensor(encoder), torch.tensor(labels), torch.tensor(rows)))
    return batch


def main() -> None:
    """Time both in turn and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--length", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    continues = torch.rand(V) < 0.25  # about the share of word pieces in English text
    vocabulary = Vocabulary(V, CLS, SEP, PAD, MASK, continues)
    config = PretrainConfig.paper("DupMAE")
    texts = [torch.randint(1000, V, (args.length - 2,)).tolist() for _ in range(args.batch)]
    ours, flags, draw = Collator(vocabulary, config, args.length), continues.tolist(), random.Random(0)
    steps = itertools.count()
    ours(texts, next(steps))

    def twenty() -> None:
        for _ in range(20):
            ours(texts, next(steps))

    amounts = (20 * args.batch, args.batch)
    compare(twenty, lambda: plain(texts, flags, config, draw), "plain", amounts, "sequences", args.rounds)


if __name__ == "__main__":
    main()
