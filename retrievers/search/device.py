"""Candidates by torch on any device, and by Faiss: float32 scores, a list that is widened until its bound is sure.

On a GPU the documents stay on the device in 16 bits where they fit, and are sent block by block where they do not; the
k best are kept on the device.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from harness.retrievers.devices import refuse_forced_tf32
from harness.retrievers.encoding.vectors import HybridQueries, HybridVectors
from harness.retrievers.search.final import Part, Q, Rows, Scores, most_terms, pair_bytes
from harness.retrievers.search.precision import TINY, ieee_products

# the n best approximate scores of each query [Q,n] and their rows [Q,n], descending
Candidates = Callable[[HybridQueries, int], tuple[Scores, Rows]]
_UNIT = 2.0**-24  # half a unit in the last place of float32
_MARGIN = 64  # candidates kept beyond k, before the bound is asked
_MOST = 65_536  # candidates of a query; one that needs more is scored exactly throughout
_AT_ONCE = 4_096
_SPARE = 0.8  # of the device's free memory, for documents


@dataclass(frozen=True)
class Norms:
    """What of a corpus bounds the error of a float32 score: greatest row norms, and D and K."""

    dense: float
    lexical: float
    width: int
    kept: int


def norms(parts: Sequence[Part]) -> Norms:
    """One pass over the vectors."""
    dense = lexical = 0.0
    for part in parts:
        for start in range(0, len(part.vectors), _AT_ONCE):
            block = part.vectors.take(slice(start, start + _AT_ONCE))
            dense = max(dense, _greatest_norm(block.dense))
            lexical = max(lexical, _greatest_norm(block.term_weights))
        part.forget()
    return Norms(dense, lexical, parts[0].vectors.dense.shape[1], most_terms(parts))


def _greatest_norm(values: npt.NDArray[np.float16]) -> float:
    return float(np.sqrt(np.max(np.sum(values.astype(np.float32) ** 2, axis=1), initial=0.0)) * (1 + 1e-3))


def slack(queries: HybridQueries, corpus: Norms) -> npt.NDArray[np.float64]:
    """Per query [Q], how far an approximate float32 score may lie from the final one.

    A float32 sum of n products errs by at most n·u/(1 - n·u) of the sum of their absolute values, u = 2^-24, in any
    order (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1); that sum is bounded by Cauchy and
    Schwarz, the lexical half's by the K largest query weights. The final rounding is in it.
    """
    terms = corpus.width + corpus.kept + 4
    bound = corpus.dense * np.linalg.norm(queries.dense.astype(np.float64), axis=1)
    if corpus.kept and queries.lexical.shape[1]:
        k = min(corpus.kept, queries.lexical.shape[1])
        top = np.partition(np.abs(queries.lexical), -k, axis=1)[:, -k:].astype(np.float64)
        bound = bound + corpus.lexical * np.linalg.norm(top, axis=1)
    return np.asarray(terms * _UNIT / (1 - terms * _UNIT) * bound)


class Widened:
    """Makes candidates sure: asks for more until no document outside the list could belong to the k best."""

    def __init__(self, parts: Sequence[Part], candidates: Candidates) -> None:
        self.total = sum(len(part.vectors) for part in parts)
        self.corpus = norms(parts)
        self.candidates = candidates

    def __call__(self, queries: HybridQueries, k: int) -> list[Rows | None]:
        """For each query, ascending rows that hold its k best and all that equal the last; None for too many."""
        return widened(queries, slack(queries, self.corpus), self.total, k, self.candidates)


def widened(
    queries: Q,
    errors: npt.NDArray[np.float64],
    total: int,
    k: int,
    candidates: Callable[[Q, int], tuple[Scores, Rows]],
) -> list[Rows | None]:
    """For each query, ascending rows that hold its k best and all that equal the last; None for too many.

    Of `total` documents `candidates` gives so many as it is asked for; its scores lie within `errors` [Q] of the final
    ones.
    """
    found: list[Rows | None] = [None] * len(queries)
    # what is near the least that float32 holds has no bound of this kind
    waiting, count = np.flatnonzero((errors == 0) | (errors > TINY)), min(total, k + _MARGIN)
    while len(waiting):
        scores, rows = candidates(queries.take(waiting), count)
        reach = scores[:, k - 1] - 2 * errors[waiting]  # below it no document can be among the k best
        unsure = (scores[:, -1] >= reach) & (count < total)
        for place in np.flatnonzero(~unsure):
            found[waiting[place]] = np.sort(rows[place][scores[place] >= reach[place]])
        waiting = waiting[unsure]
        if count >= max(_MOST, 4 * k):
            break
        count = min(total, count * 4)
    return found


class TorchCandidates:
    """A matrix product for the dense half, a sparse one for the lexical, in float32, `documents` at once."""

    def __init__(self, parts: Sequence[Part], device: torch.device, documents: int = 8_192) -> None:
        self.parts, self.device, self.documents = parts, device, documents
        refuse_forced_tf32(device)
        width, kept = parts[0].vectors.dense.shape[1], most_terms(parts)
        needed = sum(len(part.vectors) for part in parts) * (2 * width + pair_bytes(parts) * kept)
        self.keep = device.type == "cuda" and needed <= _SPARE * torch.cuda.mem_get_info(device)[0]
        self.kept: list[Block] = []

    def __call__(self, queries: HybridQueries, count: int) -> tuple[Scores, Rows]:
        """See `Candidates`. Raises ValueError for a term that the queries lack."""
        return best_of(self._blocks(), queries, count, self.device)

    def _blocks(self) -> Iterator["Block"]:
        if self.kept:
            yield from self.kept
            return
        made = []
        for part in self.parts:
            for start in range(0, len(part.vectors), self.documents):
                block = Block.of(part, start, self.documents, self.device)
                if self.keep:
                    made.append(block)
                yield block
            part.forget()
        self.kept = made


def best_of(blocks: Iterable["Block"], queries: HybridQueries, count: int, device: torch.device) -> tuple[Scores, Rows]:
    """See `Candidates`, of documents in blocks on `device`. Raises ValueError for a term that the queries lack."""
    dense = torch.from_numpy(queries.dense).to(device)  # [Q,D]
    lexical = torch.from_numpy(queries.lexical).to(device).T.contiguous()  # [V,Q]
    best = torch.empty(len(queries), 0, device=device)
    rows = torch.empty(len(queries), 0, dtype=torch.long, device=device)
    with ieee_products():
        for block in blocks:
            scores = block.scores(dense, lexical)  # [Q,n]
            where = torch.arange(block.first, block.first + scores.shape[1], device=device)
            if scores.shape[1] > count:
                scores, places = scores.topk(count, dim=1)
                fresh = where[places]
            else:
                fresh = where.expand(len(queries), -1)
            best, rows = torch.cat((best, scores), dim=1), torch.cat((rows, fresh), dim=1)
            if best.shape[1] > count:
                best, places = best.topk(count, dim=1)
                rows = rows.gather(1, places)
    best, places = best.sort(dim=1, descending=True)
    return best.cpu().numpy(), rows.gather(1, places).cpu().numpy()


@dataclass(frozen=True)
class Block:
    """Consecutive documents on the device, in the store's 16 bits."""

    first: int
    dense: torch.Tensor  # [n,D] float16
    starts: torch.Tensor  # [n+1], into the two below; padding is left out
    term_ids: torch.Tensor  # int16 or int32, the bits of the store's uint16 or uint32
    weights: torch.Tensor  # float16
    greatest: int  # term id

    @classmethod
    def of(cls, part: Part, start: int, documents: int, device: torch.device) -> "Block":
        """So many documents of a store from `start` on, copied to the device."""
        block: HybridVectors = part.vectors.take(slice(start, start + documents))
        kept = block.term_weights != 0  # [n,K]
        ids = block.term_ids[kept]
        arrays = (
            np.array(block.dense),
            np.concatenate(([0], np.cumsum(kept.sum(axis=1)))),
            ids.view(np.dtype(f"i{ids.itemsize}")),
            block.term_weights[kept],
        )
        dense, starts, term_ids, weights = (torch.from_numpy(array).to(device) for array in arrays)
        greatest = int(ids.max()) if ids.size else -1
        return cls(part.first + start, dense, starts, term_ids, weights, greatest)

    def scores(self, dense: torch.Tensor, lexical: torch.Tensor) -> torch.Tensor:
        """[Q,n] float32. Raises ValueError for a term that the queries lack."""
        scores = torch.zeros(len(dense), len(self.dense), device=dense.device)
        if self.dense.shape[1]:
            scores = dense @ self.dense.float().T
        if self.greatest >= lexical.shape[0]:
            raise ValueError(f"the store holds term {self.greatest}, the queries have {lexical.shape[0]} terms")
        if len(self.term_ids):
            mask = 0xFFFF if self.term_ids.dtype == torch.int16 else 0x7FFFFFFF
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
                sparse = torch.sparse_csr_tensor(
                    self.starts.int(),  # a block has fewer than 2^31 terms
                    self.term_ids.int() & mask,
                    self.weights.float(),
                    size=(len(self.dense), lexical.shape[0]),
                    check_invariants=False,
                )
            scores = scores + (sparse @ lexical).T
        return scores


_MOST_ON_GPU = 2_048  # results of a query that Faiss selects on a GPU (GPU_MAX_SELECTION_K)


def faiss_candidates(parts: Sequence[Part], threads: int, device: torch.device) -> Candidates:
    """Candidates by Faiss `IndexFlatIP` over the dense half; on the GPU where it is asked for and Faiss has one.

    There too Faiss multiplies in full float32, unless NVIDIA_TF32_OVERRIDE forces less. Raises ValueError for vectors
    that have a lexical half, ImportError where no Faiss is installed, InputError for that variable.
    """
    import faiss

    if any(part.vectors.term_ids.shape[1] for part in parts):
        raise ValueError("faiss searches the dense half alone")
    index = faiss.IndexFlatIP(parts[0].vectors.dense.shape[1])
    for part in parts:
        for start in range(0, len(part.vectors), _AT_ONCE):
            index.add(part.vectors.dense[start : start + _AT_ONCE].astype(np.float32))
        part.forget()
    on_gpu = None
    if device.type == "cuda" and hasattr(faiss, "StandardGpuResources"):
        refuse_forced_tf32(device)
        on_gpu = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), torch.cuda.current_device(), index)

    def search(queries: HybridQueries, count: int) -> tuple[Scores, Rows]:
        if on_gpu is not None and count <= _MOST_ON_GPU:
            scores, rows = on_gpu.search(queries.dense, count)
            return scores, rows.astype(np.int64)
        before = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(threads)
        try:
            scores, rows = index.search(queries.dense, count)
        finally:
            faiss.omp_set_num_threads(before)
        return scores, rows.astype(np.int64)

    return search
