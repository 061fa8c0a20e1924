"""Passages per second of our encoding against sentence-transformers: same model, lengths, precision, threads and texts.

    python benchmarks/encode.py MODEL_FOLDER COLLECTION [--passages 512] [--rounds 5] [--threads 2] [--max-length 256]

MODEL_FOLDER is a sentence-transformers folder with mean pooling and normalisation (such as all-MiniLM-L6-v2),
COLLECTION a folder in BEIR layout or a dataset name. Both encode the same passages in turn, round by round, in one
process; the ratio ours/theirs of each round is printed as min, median, max. Needs `pip install sentence-transformers`.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
import torch
from timing import compare

from harness.datasets import resolve
from models import checkpoint
from models.hybrid import HybridSpec
from retrievers.encoding import TextEncoder


def main() -> None:
    """Parse, check that both give the same vectors, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("collection")
    parser.add_argument("--passages", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--max-length", type=int, default=256)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    from sentence_transformers import SentenceTransformer

    docs = list(itertools.islice(resolve(args.collection)[0].source.documents(), args.passages))
    spec = HybridSpec(pooling="mean", similarity="cosine", query_length=args.max_length, passage_length=args.max_length)
    ours = TextEncoder(checkpoint.load(args.model, spec), torch.device("cpu"))
    theirs = SentenceTransformer(str(args.model), device="cpu")
    theirs.max_seq_length = args.max_length
    texts = [doc.joined for doc in docs]

    def one():
        return ours.documents(docs, lambda _: None).dense

    def other():
        return theirs.encode(texts, batch_size=32, convert_to_numpy=True, normalize_embeddings=True)

    apart = np.abs(one().astype(np.float32) - other()).max()
    print(f"{len(docs)} passages, {args.threads} threads, {args.max_length} tokens; at most {apart:.1e} apart (fp16)")
    compare(one, other, "sentence-transformers", (len(docs), len(docs)), "passages", args.rounds)


if __name__ == "__main__":
    main()
