"""Exact top-k: candidates by any path with an error bound, then one final score that no path can change.

A path (`Candidates`) may compute in any order, block by block. What it returns differs from the true score by at most
`slack`, so every document whose approximate score is within 2·slack of the k-th best is a candidate; candidates are
scored again in one fixed order (`final_scores`), and those scores rank. Results therefore do not depend on blocks,
shards or threads.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from retrievers.types import Strings
from retrievers.vectors import HybridQueries, HybridVectors

Rows = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]
_UNIT = 2.0**-24  # half a unit in the last place of float32
_MARGIN = 64  # candidates kept beyond k, before the bound is asked
_RESCORED_AT_ONCE = 4096


@dataclass(frozen=True)
class Part:
    """Consecutive documents of a store, memory-mapped: the first one's row number, and the vectors."""

    first: int
    vectors: HybridVectors


def final_scores(queries: HybridQueries, number: int, vectors: HybridVectors) -> Scores:
    """The score of query `number` with each of N documents [N]: equation 12 over the stored values.

    Products and sums are taken in float64 and rounded to float32 once, in the order in which numpy adds a row: the
    result is the nearest float32 or its neighbour, whatever the way that led here.
    """
    scores = np.empty(len(vectors), dtype=np.float32)
    dense, lexical = queries.dense[number].astype(np.float64), queries.lexical[number]
    for start in range(0, len(vectors), _RESCORED_AT_ONCE):
        part = vectors.take(slice(start, start + _RESCORED_AT_ONCE))
        terms = np.concatenate(
            (
                part.dense.astype(np.float64) * dense,
                part.term_weights.astype(np.float64) * lexical[part.term_ids].astype(np.float64)
                if part.term_ids.shape[1]
                else np.zeros((len(part), 0)),
            ),
            axis=1,
        )
        scores[start : start + len(part)] = terms.sum(axis=1)
    return scores


@dataclass(frozen=True)
class Norms:
    """What of a corpus bounds the error of an approximate score: greatest row norms, and D and K."""

    dense: float
    lexical: float
    width: int
    kept: int


def norms(parts: Sequence[Part]) -> Norms:
    """One pass over the vectors."""
    dense = lexical = 0.0
    for part in parts:
        for start in range(0, len(part.vectors), _RESCORED_AT_ONCE):
            block = part.vectors.take(slice(start, start + _RESCORED_AT_ONCE))
            dense = max(dense, _greatest_norm(block.dense))
            lexical = max(lexical, _greatest_norm(block.term_weights))
    return Norms(dense, lexical, parts[0].vectors.dense.shape[1], parts[0].vectors.term_ids.shape[1])


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


Candidates = Callable[[HybridQueries, int], tuple[Scores, Rows]]


def top_k(
    queries: HybridQueries,
    parts: Sequence[Part],
    k: int,
    candidates: Candidates,
    doc_ids: Callable[[Rows], Strings],
    corpus: Norms,
) -> Iterator[tuple[Strings, Scores]]:
    """Yield, for each query, the ids and final scores of its k best documents, in the order of the one tie rule.

    `candidates(queries, n)` gives the n best approximate scores [Q,n] and their rows [Q,n], descending. The list is
    widened until the bound says that no document outside it could belong to the k best.
    """
    total = sum(len(part.vectors) for part in parts)
    k = min(k, total)
    errors = slack(queries, corpus)
    waiting = list(range(len(queries)))
    found: dict[int, tuple[Strings, Scores]] = {}
    count = min(total, k + _MARGIN)
    while waiting:
        scores, rows = candidates(HybridQueries(queries.dense[waiting], queries.lexical[waiting]), count)
        unsure = []
        for place, number in enumerate(waiting):
            reach = scores[place, k - 1] - 2 * errors[number]  # below it no document can be among the k best
            if count < total and scores[place, -1] >= reach:
                unsure.append(number)
                continue
            chosen = np.sort(rows[place][scores[place] >= reach])
            final, names = final_scores(queries, number, gather(parts, chosen)), doc_ids(chosen)
            order = np.lexsort((names, final))[::-1][:k]
            found[number] = (names[order], final[order])
        waiting, count = unsure, min(total, count * 4)
    for number in range(len(queries)):
        yield found[number]


def gather(parts: Sequence[Part], rows: Rows) -> HybridVectors:
    """The vectors at ascending `rows`, from whichever parts hold them."""
    pieces = []
    for part in parts:
        low, high = np.searchsorted(rows, (part.first, part.first + len(part.vectors)))
        if high > low:
            pieces.append(part.vectors.take(rows[low:high] - part.first))
    return HybridVectors(
        np.concatenate([piece.dense for piece in pieces]),
        np.concatenate([piece.term_ids for piece in pieces]),
        np.concatenate([piece.term_weights for piece in pieces]),
    )


def torch_candidates(parts: Sequence[Part], device: torch.device, documents: int = 8192) -> Candidates:
    """Candidates by chunked torch: a matrix product for the dense half, a sparse one for the lexical, in float32."""

    def search(queries: HybridQueries, count: int) -> tuple[Scores, Rows]:
        dense = torch.from_numpy(queries.dense).to(device)  # [Q,D]
        lexical = torch.from_numpy(queries.lexical.T.copy()).to(device)  # [V,Q]
        best = torch.full((len(queries), 0), 0.0, device=device)
        rows = torch.full((len(queries), 0), 0, dtype=torch.long, device=device)
        for part in parts:
            for start in range(0, len(part.vectors), documents):
                block = part.vectors.take(slice(start, start + documents))
                scores = _block_scores(dense, lexical, block, device)  # [Q,n]
                where = torch.arange(part.first + start, part.first + start + len(block), device=device)
                best = torch.cat((best, scores), dim=1)
                rows = torch.cat((rows, where.expand(len(queries), -1)), dim=1)
                if best.shape[1] > count:
                    best, places = best.topk(count, dim=1)
                    rows = rows.gather(1, places)
        best, places = best.sort(dim=1, descending=True)
        return best.cpu().numpy(), rows.gather(1, places).cpu().numpy()

    return search


def _block_scores(
    dense: torch.Tensor, lexical: torch.Tensor, block: HybridVectors, device: torch.device
) -> torch.Tensor:
    scores = torch.zeros(dense.shape[0], len(block), device=device)  # [Q,n]
    if block.dense.shape[1]:
        documents = torch.from_numpy(block.dense.astype(np.float32)).to(device)  # [n,D]
        scores = dense @ documents.T
    if block.term_ids.shape[1]:
        scores = scores + (_sparse(block, lexical.shape[0]).to(device) @ lexical).T
    return scores


def _sparse(block: HybridVectors, vocabulary: int) -> torch.Tensor:
    """The lexical halves as a sparse matrix [n,V], padding left out."""
    kept = block.term_weights != 0  # [n,K]
    ids = block.term_ids[kept].astype(np.int64)
    if ids.size and int(ids.max()) >= vocabulary:
        raise ValueError(f"the store holds term {int(ids.max())}, the queries have {vocabulary} terms")
    starts = np.concatenate(([0], np.cumsum(kept.sum(axis=1))))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(starts),
            torch.from_numpy(ids),
            torch.from_numpy(block.term_weights[kept].astype(np.float32)),
            size=(len(block), vocabulary),
            check_invariants=False,
        )


def faiss_candidates(parts: Sequence[Part], threads: int) -> Candidates:
    """Candidates by Faiss `IndexFlatIP` over the dense half.

    Raises ValueError for vectors that have a lexical half, ImportError where no Faiss is installed.
    """
    import faiss

    if any(part.vectors.term_ids.shape[1] for part in parts):
        raise ValueError("faiss searches the dense half alone")
    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatIP(parts[0].vectors.dense.shape[1])
    for part in parts:
        index.add(part.vectors.dense.astype(np.float32))

    def search(queries: HybridQueries, count: int) -> tuple[Scores, Rows]:
        scores, rows = index.search(queries.dense, count)
        return scores, rows.astype(np.int64)

    return search
