"""Late interaction: Σ_i max_j q_i · d_j over the tokens of query and document (Khattab and Zaharia 2020, equation 3).

Candidates come by float32 matrix products, a block of documents at a time, with the bound of `slack`; the final score
is computed once more, in float64 and in one order, and rounded to float32 once. Documents and queries are of unequal
lengths and never padded: a maximum runs over a document's own rows of the product, a sum over a query's own columns.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from harness.retrievers.devices import refuse_forced_tf32
from harness.retrievers.encoding.store import forget
from harness.retrievers.encoding.token_vectors import TokenQueries, TokenVectors
from harness.retrievers.search import maxsim_loops
from harness.retrievers.search.compiled import workers
from harness.retrievers.search.device import widened
from harness.retrievers.search.final import Rows, Scores, write_scores
from harness.retrievers.search.precision import ieee_products

_UNIT = 2.0**-24  # half a unit in the last place of float32
_SPARE = 0.4  # of the device's free memory, for documents
# tokens of documents and of queries in one product: 8 MB of float32 on a CPU, 512 MB elsewhere
_DOCUMENT_TOKENS = {"cpu": 2_048, "cuda": 32_768}
_QUERY_TOKENS = {"cpu": 1_024, "cuda": 4_096}
_BATCH = 16  # blocks of each thread before the best are chosen
Offsets = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TokenPart:
    """Consecutive documents of a store, memory-mapped: the first one's row number, and their token vectors."""

    first: int
    vectors: TokenVectors

    @property
    def end(self) -> int:
        """The row number behind the last one."""
        return self.first + len(self.vectors)

    @property
    def width(self) -> int:
        """D."""
        return self.vectors.width

    @cached_property
    def offsets(self) -> Offsets:
        """Where each document's tokens begin [n+1]."""
        return np.asarray(self.vectors.token_offsets).astype(np.int64)

    def forget(self) -> None:
        """Let go of the memory of what was read of them."""
        forget(self.vectors.tokens, self.vectors.token_offsets)

    def final(self, queries: TokenQueries, rows: Sequence[Rows], scores: Sequence[Scores]) -> None:
        """Write the score of each query with those of its ascending `rows` that lie in here.

        Products of stored values are exact in float64, in which they are added; the sum is rounded to float32 once.
        """
        bits = np.asarray(self.vectors.tokens).view(np.uint16)
        arrays = (queries.tokens.astype(np.float64), queries.token_offsets, bits, self.offsets)
        longest = int(np.diff(self.offsets).max(initial=1))

        def score(chosen: Rows, starts: Rows, at: Rows, found: Scores) -> None:
            maxsim_loops.final(*arrays, chosen, starts, at, longest, found)

        write_scores(self.first, self.end, rows, scores, score)


def slack(queries: TokenQueries, longest: float) -> npt.NDArray[np.float64]:
    """Per query [Q], how far a float32 score may lie from the final one; `longest` is the greatest norm of a token.

    A float32 sum of n products errs by at most n·u/(1 - n·u) of the sum of their absolute values, u = 2^-24, in any
    order (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1). Of one product of vectors that is at
    most ‖q_i‖ ‖d_j‖ (Cauchy and Schwarz); a maximum errs by no more than what it is taken of; and the L maxima are
    added in the same way. So D + L terms in all, and some for the final rounding.
    """
    lengths = np.diff(queries.token_offsets)
    norms = np.linalg.norm(queries.tokens.astype(np.float64), axis=1)
    sums = np.add.reduceat(norms, queries.token_offsets[:-1]) if len(queries) else np.empty(0)
    terms = queries.width + lengths + 4
    return np.asarray(terms * _UNIT / (1 - terms * _UNIT) * longest * sums)


@dataclass(frozen=True)
class _Block:
    first: int
    tokens: torch.Tensor  # [t,D] float16
    offsets: Offsets  # [n+1]


class MaxSim:
    """The way to the candidates, on any device. `threads` work at once on a CPU, each on blocks of its own.

    `tokens` of documents at once; `compiled`: by numba's loops, as on a CPU, or by torch's, as elsewhere.
    """

    def __init__(
        self,
        parts: Sequence[TokenPart],
        device: torch.device,
        threads: int,
        tokens: int = 0,
        compiled: bool | None = None,
    ) -> None:
        self.parts, self.device, self.threads = parts, device, threads
        self.compiled = device.type == "cpu" if compiled is None else compiled
        kind = "cpu" if device.type == "cpu" else "cuda"
        self.at_once, self.asked_at_once = tokens or _DOCUMENT_TOKENS[kind], _QUERY_TOKENS[kind]
        self.total = sum(len(part.vectors) for part in parts)
        needed = sum(part.vectors.tokens.nbytes for part in parts)
        refuse_forced_tf32(device)
        self.keep = kind == "cuda" and needed <= _SPARE * torch.cuda.mem_get_info(device)[0]
        self._kept: list[_Block] = []

    @cached_property
    def longest(self) -> float:
        """At least the greatest norm of a token; one pass over the vectors."""
        squares = [float(block.tokens.float().square().sum(dim=1).max()) for block in self._blocks()]
        return float(np.sqrt(max(squares, default=0.0)) * (1 + 1e-3))

    def __call__(self, queries: TokenQueries, k: int) -> list[Rows | None]:
        """For each query, ascending rows that hold its k best and all that equal the last; None for too many."""
        return widened(queries, slack(queries, self.longest), self.total, k, self._candidates)

    def _candidates(self, queries: TokenQueries, count: int) -> tuple[Scores, Rows]:
        with ieee_products():
            found = [self._group(queries.take(slice(low, high)), count) for low, high in self._groups(queries)]
        scores, rows = (torch.cat(column).cpu().numpy() for column in zip(*found, strict=True))
        return scores, rows

    def _groups(self, queries: TokenQueries) -> Iterator[tuple[int, int]]:
        yield from _spans(queries.token_offsets, self.asked_at_once)

    def _group(self, queries: TokenQueries, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The `count` best approximate scores of each query [Q,count] and their rows, descending."""
        best = torch.empty(len(queries), 0, device=self.device)
        rows = torch.empty(len(queries), 0, dtype=torch.long, device=self.device)
        asked = torch.from_numpy(queries.tokens).to(self.device).T.contiguous()  # [D,u]
        for first, scores in self._scores(asked, queries.token_offsets):
            where = torch.arange(first, first + scores.shape[1], device=self.device).expand(len(queries), -1)
            best, rows = torch.cat((best, scores), dim=1), torch.cat((rows, where), dim=1)
            if best.shape[1] > count:
                best, places = best.topk(count, dim=1)
                rows = rows.gather(1, places)
        best, places = best.sort(dim=1, descending=True)
        return best, rows.gather(1, places)

    def _scores(self, asked: torch.Tensor, offsets: Offsets) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield (first row, scores [Q,n]) of consecutive documents."""
        blocks = self._blocks()
        if not self.compiled:
            ends = torch.from_numpy(offsets).to(self.device)
            for block in blocks:
                yield block.first, _on_device(block, asked, ends)
            return
        with workers(self.threads) as pool:
            while batch := list(itertools.islice(blocks, _BATCH * self.threads)):
                found = list(pool.map(lambda block: _on_cpu(block, asked, offsets), batch))
                for block, scores in zip(batch, found, strict=True):
                    yield block.first, scores

    def _blocks(self) -> Iterator[_Block]:
        """All documents, whole ones of about `at_once` tokens together and one at least."""
        if self._kept:
            yield from self._kept
            return
        made = []
        for part in self.parts:
            for low, high in _spans(part.offsets, self.at_once):
                start, end = part.offsets[low], part.offsets[high]
                tokens = torch.from_numpy(np.array(part.vectors.tokens[start:end])).to(self.device)
                block = _Block(part.first + low, tokens, part.offsets[low : high + 1] - start)
                if self.keep:
                    made.append(block)
                yield block
            part.forget()
        self._kept = made


def _spans(offsets: Offsets, tokens: int) -> Iterator[tuple[int, int]]:
    """Yield (first, end) of consecutive texts of at most `tokens` together; a longer text is alone."""
    low = 0
    while low < len(offsets) - 1:
        high = max(low + 1, int(np.searchsorted(offsets, offsets[low] + tokens, side="right")) - 1)
        yield low, high
        low = high


def _on_cpu(block: _Block, asked: torch.Tensor, offsets: Offsets) -> torch.Tensor:
    products = block.tokens.float() @ asked  # [t,u]
    scores = np.empty((len(block.offsets) - 1, len(offsets) - 1), np.float32)
    maxsim_loops.segments(products.numpy(), block.offsets, offsets, scores)
    return torch.from_numpy(scores.T)


def _on_device(block: _Block, asked: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    products = block.tokens.float() @ asked  # [t,u]
    own = torch.from_numpy(block.offsets).to(products.device)
    best = torch.segment_reduce(products, "max", offsets=own, axis=0)  # [n,u]
    return torch.segment_reduce(best.T.contiguous(), "sum", offsets=ends, axis=0)  # [Q,n]


class Given:
    """The way to candidates that somebody else chose: of each query, ascending rows; queries come in their order."""

    def __init__(self, rows: Sequence[Rows]) -> None:
        self._rows = iter(rows)

    def __call__(self, queries: TokenQueries, _k: int) -> list[Rows | None]:
        """The rows of the next queries, however many they are."""
        return list(itertools.islice(self._rows, len(queries)))
