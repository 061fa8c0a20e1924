"""Time and memory of searching a store on disk, from 100,000 documents up to 2 million.

    python -m harness.bench.scale FOLDER [--docs 2000000] [--queries 256] [--k 1000] [--threads 2] [--plot FILE.png]

Writes a synthetic store of hybrid vectors (384 + 384, terms uniform over 30,522) into FOLDER, 2.3 KB a document, unless
it is there, and searches its first documents in a new process for each size. Prints seconds of the search (median of
three) and of opening the store (every byte is read and hashed), and peak resident memory, mapped pages included.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from harness.bench.vectors import full_queries, uniform
from harness.retrievers.encoding import store
from harness.retrievers.encoding.vectors import HybridVectors
from harness.retrievers.search import exact
from harness.retrievers.search.compiled import Compiled
from harness.retrievers.search.final import Part

MODULE = "harness.bench.scale"
HALF, SHARD, ROUNDS = 384, 16_384, 3
SHARES = (0.05, 0.125, 0.25, 0.5, 1.0)


def header_of(docs: int) -> store.Header:
    """What the synthetic store says of itself."""
    spec = {"dense": HALF, "lexical": HALF, "synthetic": "uniform"}
    return store.Header("0" * 64, "0" * 64, spec, "fp16", {}, "synthetic", docs, SHARD)


def write(folder: Path, docs: int) -> None:
    """Write the shards that are missing."""
    header = header_of(docs)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(header.shards):
        low, high = header.span(number)
        if not store.path_of(folder, number).exists():
            ids = [f"{row:010}" for row in range(low, high)]
            store.write(folder, header, number, uniform(high - low, HALF, HALF, seed=number), ids)


def one(folder: Path, docs: int, used: int, queries: int, k: int, threads: int) -> dict[str, float]:
    """Open and search the first `used` documents, whole shards; in a process of its own."""
    header = header_of(docs)
    began = time.perf_counter()
    numbers = (n for n in range(header.shards) if header.span(n)[0] < used)
    firsts = {header.span(n)[0]: store.read(folder, header, n, HybridVectors) for n in numbers}
    opened = time.perf_counter() - began
    parts, names = [Part(first, shard.vectors) for first, shard in firsts.items()], store.Ids(firsts)
    asked = full_queries(queries, HALF, HALF)
    exact.search(asked, parts[:1], k, Compiled(parts[:1], threads), names, threads)  # compiles
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        found = exact.search(asked, parts, k, Compiled(parts, threads), names, threads)
        times.append(time.perf_counter() - began)
        assert all(len(rows) == k for rows, _ in found)
    seconds = statistics.median(times)
    peak = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert peak is not None
    documents = sum(len(part.vectors) for part in parts)
    return {"documents": documents, "seconds": seconds, "open_seconds": opened, "peak_bytes": int(peak[1]) * 1024}


def plot(rows: list[dict[str, float]], queries: int, file: Path) -> None:
    """Seconds against documents, and the line that fits them best."""
    import matplotlib.pyplot as plt

    docs, seconds = (np.array([row[name] for row in rows]) for name in ("documents", "seconds"))
    slope, start = np.polyfit(docs, seconds, 1)
    figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
    axes.plot(docs / 1e6, seconds, "o", color="black", label="measured")
    line = [start, start + slope * docs.max()]
    label = f"{start:.2f} s and {slope * 1e6:.2f} s a million"
    axes.plot([0, docs.max() / 1e6], line, color="0.6", label=label)
    axes.set(xlabel="million documents", ylabel=f"seconds for {queries} queries", xlim=0, ylim=0)
    axes.legend(frameon=False)
    figure.savefig(file, dpi=150)


def main() -> None:
    """Write the store, measure each size, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    for name, value in (("docs", 2_000_000), ("queries", 256), ("k", 1_000), ("threads", os.cpu_count() or 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--used", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.used:
        print(json.dumps(one(args.folder, args.docs, args.used, args.queries, args.k, args.threads)))
        return
    write(args.folder, args.docs)
    rows = []
    for share in SHARES:
        words = [sys.executable, "-m", MODULE, *sys.argv[1:], "--used", str(int(share * args.docs))]
        rows.append(json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout))
        row = rows[-1]
        print(
            f"{row['documents']:>12,} documents: search {row['seconds']:7.2f} s, "
            f"{row['seconds'] / row['documents'] * 1e6:.2f} s a million; "
            f"opening {row['open_seconds']:6.1f} s; peak {row['peak_bytes'] / 2**30:.2f} GiB",
            flush=True,
        )
    if args.plot:
        plot(rows, args.queries, args.plot)


if __name__ == "__main__":
    main()
