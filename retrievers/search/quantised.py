"""Documents and queries in the numbers that `kernels.scan` reads, and how far its scores may lie from the true ones.

The dense half is rounded to bfloat16 where the processor multiplies it (twice as fast as float32), the lexical half to
16-bit integers: a document's weights are multiplied by B and a query's by A, so that no sum of products leaves 32 bits.
Queries are first divided by the greater norm of their two halves, so that scores are of the size of a document's norm,
whatever the model.

The bound of the error has a term for each rounding, and is proven, not measured; q̂, d̂ are the rounded dense halves, b
the rounded B·w, a = A·μ + (at most 0.503, since A·μ < 2¹⁵ is a float32 before it is rounded), and
g = (D + 2)·2⁻²⁴/(1 - (D + 2)·2⁻²⁴) (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1):

====================================  ================================================================================
rounding                              at most
====================================  ================================================================================
dense half of the document            ‖q‖ · ‖d - d̂‖, the second measured
dense half of the query               ‖q - q̂‖ · ‖d̂‖, the first measured
float32 sums; bfloat16 result         (g + 2⁻⁹) ‖q̂‖ ‖d̂‖
lexical weights of the document       ‖μ‖_K · ‖w - b/B‖, measured; ‖μ‖_K the norm of the K greatest |μ|
lexical weights of the query          0.503/A · ‖b/B‖₁, measured
sum in float32, final rounding        8 · 2⁻²⁴ (‖q‖ ‖d‖ + ‖μ‖_K ‖w‖)
====================================  ================================================================================

Each norm of a document is the greatest of the corpus.
"""

from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch

from harness.retrievers.encoding.huge_pages import roomy
from harness.retrievers.encoding.vectors import HybridQueries, HybridVectors, TermIds
from harness.retrievers.search import loops
from harness.retrievers.search.kernels import LANES
from harness.retrievers.search.precision import TINY

Floats = npt.NDArray[np.float64]


@cache
def dense_type() -> torch.dtype:
    """The dense half's: bfloat16 where the processor multiplies it, else float32."""
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


@dataclass(frozen=True)
class Extent:
    """What of some documents bounds the error of their scores: greatest values, D, K and the least V."""

    dense: float = 0.0  # ‖d‖
    rounded: float = 0.0  # ‖d - d̂‖
    lexical: float = 0.0  # ‖w‖
    residual: float = 0.0  # ‖w - b/B‖
    absolute: float = 0.0  # ‖b/B‖₁
    width: int = 0
    kept: int = 0
    vocabulary: int = 0  # one more than the greatest term id

    def __or__(self, other: "Extent") -> "Extent":
        return Extent(*(max(a, b) for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass(frozen=True)
class Block:
    """Consecutive documents in the kernel's numbers; as large as in the store."""

    first: int
    dense: torch.Tensor  # [n,D]
    term_ids: TermIds  # each document's terms behind the last one's, an even number
    weights: npt.NDArray[np.int16]
    offsets: npt.NDArray[np.int64]  # [n+1]
    inverses: npt.NDArray[np.float32]  # [n] 1/B
    extent: Extent

    def __len__(self) -> int:
        return len(self.inverses)


def block(first: int, vectors: HybridVectors) -> Block:
    """Round documents. Raises ValueError for term ids that do not ascend: the bound wants them distinct."""
    n, kept = vectors.term_ids.shape
    dense = torch.from_numpy(np.array(vectors.dense)).float()
    small = dense.to(dense_type())
    norm, off = (_greatest_norm(part) for part in (dense, small.float() - dense))
    even = kept + kept % 2
    ids, weights = np.zeros(n * even, vectors.term_ids.dtype), np.zeros(n * even, np.int16)
    offsets, inverses = np.zeros(n + 1, np.int64), np.ones(n, np.float32)
    bits = np.ascontiguousarray(vectors.term_weights).view(np.uint16)
    greatest = loops.round_weights(np.ascontiguousarray(vectors.term_ids), bits, ids, weights, offsets, inverses)
    if greatest[4]:
        raise ValueError(f"document {first + int(greatest[4]) - 1}: its term ids do not ascend, or one is there twice")
    lexical, residual, absolute = (float(value) * (1 + 1e-9) for value in greatest[:3])
    extent = Extent(norm, off, lexical, residual, absolute, vectors.dense.shape[1], kept, int(greatest[3]))
    return Block(first, small, ids[: offsets[-1]], weights[: offsets[-1]], offsets, inverses, extent)


def _greatest_norm(values: torch.Tensor) -> float:
    return float(values.square().sum(dim=1).max().sqrt()) * (1 + 1e-4) if values.numel() else 0.0


@dataclass(frozen=True)
class Queries:
    """Q queries in groups of 64 lanes, P = G·64 lanes in all, the last ones filled up with zeros."""

    dense: torch.Tensor  # [D,P]
    rows: npt.NDArray[np.int16]  # [G,V,64]
    scales: npt.NDArray[np.float32]  # [G,64] 1/A
    lost: Floats  # [P] ‖q - q̂‖
    norms: Floats  # [P] ‖q‖
    tops: Floats  # [P] at least ‖μ‖_K
    steps: Floats  # [P] 1/A
    hard: npt.NDArray[np.bool_]  # [P] too small for float32 sums: to be scored exactly throughout

    def slack(self, extent: Extent) -> Floats:
        """Per lane [P], how far the kernel's score may lie from the true one over the query's size: see the module."""
        unit, result = 2.0**-24, 2.0**-9 if self.dense.dtype == torch.bfloat16 else 0.0
        gamma = (extent.width + 2) * unit / (1 - (extent.width + 2) * unit)
        document, query = extent.dense + extent.rounded, self.norms + self.lost
        dense = self.norms * extent.rounded + self.lost * document + (gamma + result * 1.01) * query * document
        lexical = self.tops * extent.residual + 0.503 * self.steps * extent.absolute
        sums = 8 * unit * (query * document + self.tops * extent.lexical * 1.01)
        return (dense + lexical + sums) * (1 + 1e-6) + 1e-30


def queries(found: HybridQueries, kept: int, pool: Executor) -> Queries:
    """Round queries that will meet documents of at most `kept` terms."""
    count, vocabulary = found.lexical.shape
    groups, lexical = -(-count // LANES), bool(kept and vocabulary)
    lanes = groups * LANES
    spans = [slice(start, min(start + LANES, count)) for start in range(0, count, LANES)]
    norms, tops, greatest = np.zeros(lanes), np.zeros(lanes), np.zeros(lanes)
    norms[:count] = np.linalg.norm(found.dense.astype(np.float64), axis=1)
    if lexical:
        list(pool.map(lambda span: loops.tops(found.lexical[span], kept, tops[span], greatest[span]), spans))
    sizes = np.maximum(norms, tops)
    hard = (sizes > 0) & (sizes < TINY)
    sizes[(sizes == 0) | hard] = 1.0
    steps = np.maximum(np.maximum(greatest / 32_767, tops / loops.ROOM) * (1 + 2e-6) / sizes, 1e-30)
    scales = steps.astype(np.float32)
    steps = scales.astype(np.float64)  # as the kernel multiplies by it
    dense = np.zeros((lanes, found.dense.shape[1]))
    dense[:count] = found.dense / sizes[:count, None]
    rounded = torch.from_numpy(dense).to(dense_type())
    lost = np.linalg.norm(dense - rounded.to(torch.float64).numpy(), axis=1)
    rows = roomy((groups, vocabulary if lexical else 1, LANES), np.int16)
    if lexical:
        factors = (1 / (steps * sizes)).astype(np.float32)
        list(pool.map(lambda span, table: loops.fill(found.lexical[span], factors[span], table), spans, rows))
    return Queries(
        rounded.T.contiguous(), rows, scales.reshape(groups, LANES), lost, norms / sizes, tops / sizes, steps, hard
    )
