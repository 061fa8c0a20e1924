"""Attention of a short text's training step on a CPU in bf16: torch's fused function against written out.

    python -m harness.bench.attention [--batch 16] [--heads 6] [--width 32] [--rounds 9]

Forward and backward of one layer's attention over padded texts, both ways in turns in one process; the median of the
rounds, in CPU milliseconds, and the ratio.
"""

import argparse
import statistics
import time

import torch

from harness.models.layers.attention import attend


def once(batch: int, heads: int, length: int, width: int, written_out: bool) -> float:
    """CPU seconds of one forward and backward pass."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(batch, heads, length, width, dtype=torch.bfloat16).requires_grad_() for _ in range(3))
    added = torch.zeros(batch, 1, length, length, dtype=torch.bfloat16)
    added[:, :, :, length * 3 // 4 :] = torch.finfo(torch.bfloat16).min
    began = time.process_time()
    attend(q, k, v, added, 0.0, written_out).sum().backward()  # type: ignore[no-untyped-call]
    return time.process_time() - began


def main() -> None:
    """Print a line for each length."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("batch", 16), ("heads", 6), ("width", 32), ("rounds", 9)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    print("length  fused ms  written out ms  ratio")
    for length in (32, 64, 112, 144, 256, 512):
        found: dict[bool, list[float]] = {False: [], True: []}
        for number in range(args.rounds + 1):
            for way, times in found.items():
                seconds = once(args.batch, args.heads, length, args.width, way)
                if number:  # the first one warms up
                    times.append(seconds)
        fused, written = (statistics.median(found[way]) * 1e3 for way in (False, True))
        print(f"{length:6d}  {fused:8.1f}  {written:14.1f}  {fused / written:5.2f}")


if __name__ == "__main__":
    main()
