"""A DupMAE pre-training step, ours against two others: tokens per second and peak memory.

    python -m harness.bench.pretrain_step [--batch 16] [--length 150] [--hidden 768] [--layers 12] [--steps 5]
                                       [--vocabulary 30522] [--bf16]

`once` is ours: the gradient is made along with the logits (`harness.models.layers.fused_vocabulary`). `again` is what
is left for heads that cannot be taken apart: autograd makes each chunk of logits a second time. `naive` is what a first
implementation does: the logits of all positions [B,L,V], kept for the backward pass, and masks drawn a token at a time.
Each way runs in a process of its own, so that the peak is its own: on a GPU the allocator's, on a CPU the process's
resident memory above what it had before the first step. On a GPU all run in bf16 (autocast), on a CPU with `--bf16`.
"""

import argparse
import itertools
import json
import random
import resource
import subprocess
import sys
import time

import torch
from torch import Tensor
from torch.nn import functional

from harness.bench.collate import CLS, CONTINUES, MASK, PAD, SEP, V, plain
from harness.models.layers import fused_vocabulary
from harness.models.layers.families import mlm_head
from harness.models.losses import pretraining as losses
from harness.models.pretraining.config import PretrainConfig
from harness.models.pretraining.mae import DupMAE, PretrainBatch, ordinary
from harness.models.pretraining.masking import Collator, Vocabulary

MODULE = "harness.bench.pretrain_step"
WAYS = ("once", "again", "naive")


class Naive(DupMAE):
    """The same objective with full logits and a dense target."""

    def forward(self, batch: PretrainBatch) -> Tensor:  # type: ignore[override]
        """Return the total loss."""
        head, size = mlm_head(self.lm), self.lm.config.vocab_size
        hidden = self.lm.base_model(
            input_ids=batch.encoder_input_ids, attention_mask=batch.attention_mask
        ).last_hidden_state
        logits = head(hidden)  # [B,L,V]
        texts = len(hidden)
        mlm = functional.cross_entropy(logits.view(-1, size).float(), batch.encoder_labels.view(-1), reduction="sum")
        rebuilt = head(self._decode(hidden[:, :1], batch))  # [B,L,V]
        again = functional.cross_entropy(rebuilt.view(-1, size).float(), batch.decoder_labels.view(-1), reduction="sum")
        words = ordinary(batch.attention_mask.bool())
        keep = words & (batch.encoder_labels == losses.IGNORED)
        pooled = logits.float().masked_fill(~keep.unsqueeze(-1), float("-inf")).amax(1)
        target = torch.zeros_like(pooled).scatter_add_(1, batch.decoder_input_ids, words.float()).clamp(max=1)
        bow = -(target * pooled.log_softmax(1)).sum(1).mean()
        total: Tensor = (mlm + again) / texts + bow
        return total


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Time `args.steps` steps after a first one."""
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    if args.way == "again":
        fused_vocabulary.fits = lambda states: False  # noqa: ARG005
    size, half = args.vocabulary, args.bf16 or torch.cuda.is_available()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape = {"hidden_size": args.hidden, "num_hidden_layers": args.layers, "intermediate_size": 4 * args.hidden}
    bert = BertForMaskedLM(BertConfig(vocab_size=size, num_attention_heads=args.hidden // 64, **shape))
    config = PretrainConfig.paper("DupMAE")
    model = (Naive if args.way == "naive" else DupMAE)(bert, config).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    continues = torch.rand(size) < CONTINUES
    texts = [torch.randint(1000, size, (args.length - 2,)).tolist() for _ in range(args.batch)]
    collator, numbers = (
        Collator(Vocabulary(size, CLS, SEP, PAD, MASK, continues), config, args.length),
        itertools.count(),
    )
    flags, draw = continues.tolist(), random.Random(0)

    def batch() -> PretrainBatch:
        if args.way != "naive":
            return collator(texts, next(numbers))
        encoder, labels, visible = (torch.stack(part) for part in zip(*plain(texts, flags, config, draw), strict=True))
        ids = torch.tensor([[CLS, *text, SEP] for text in texts])
        return PretrainBatch(encoder, torch.ones_like(ids), labels, ids, visible, ids)

    def step() -> None:
        there = PretrainBatch(*(part.to(device) for part in batch()))
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
            found = model(there)
        (found if args.way == "naive" else found.total).backward()
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    step()
    seconds = []
    for _ in range(args.steps):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    on_gpu = device.type == "cuda"
    peak = (
        torch.cuda.max_memory_allocated()
        if on_gpu
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    )
    return {"tokens_per_second": args.batch * args.length / sorted(seconds)[len(seconds) // 2], "peak": peak}


def main() -> None:
    """Run both ways and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("batch", 16), ("length", 150), ("hidden", 768), ("layers", 12), ("steps", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--vocabulary", type=int, default=V)
    parser.add_argument("--bf16", action="store_true", help="autocast on a CPU as well")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        print(json.dumps(measure(args)))
        return
    found = {}
    for way in WAYS:
        words = [sys.executable, "-m", MODULE, *sys.argv[1:], "--way", way]
        found[way] = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        print(f"{way:<8} {found[way]['tokens_per_second']:10,.0f} tokens/s  peak {found[way]['peak'] / 2**30:6.2f} GiB")
    for way in WAYS[1:]:
        speed, peak = (found["once"][name] / found[way][name] for name in ("tokens_per_second", "peak"))
        print(f"once / {way:<6}{speed:8.2f}               {peak:11.2f}")


if __name__ == "__main__":
    main()
