"""Candidates on CPUs: documents stream by in blocks, each query keeps those that may still belong to its k best.

A block's dense halves are one matrix product for many queries, its lexical halves go through `kernels.scan`, which
adds both and compares with what the query already has; [Q,N] never exists. Scores are approximate, with a proven bound
(`quantised`): where s is the k-th best so far and e the bound, the k-th best true score is at least s - e, so that a
document whose approximate score is below s - 2e is out. What is left, mostly a little more than k, is scored exactly
(`exact`).
"""

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch

from harness.retrievers.encoding.huge_pages import roomy
from harness.retrievers.encoding.vectors import HybridQueries
from harness.retrievers.search import loops, quantised
from harness.retrievers.search.final import Part, Rows, most_terms, pair_bytes
from harness.retrievers.search.kernels import LANES, scan
from harness.retrievers.search.quantised import Block, Extent, Queries

DOCUMENTS = 4096  # of a block
RESIDENT = 2**30  # bytes of rounded documents that are kept from one call to the next
_BATCH = 16  # blocks that are rounded and then searched together
_ROOM, _MOST = 8_192, 65_536  # candidates of a query at first, and at most: beyond, it is scored exactly throughout
Bounds = npt.NDArray[np.float64]


@contextmanager
def workers(threads: int) -> Iterator[Executor]:
    """Threads that call torch, each on one thread of its own."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)


class Blocks:
    """The documents of `parts` in blocks; kept rounded if they take at most `resident` bytes, else made each time."""

    def __init__(self, parts: Sequence[Part], resident: int = RESIDENT) -> None:
        self._parts = parts
        width, kept = parts[0].vectors.dense.shape[1], most_terms(parts)
        self.kept = kept
        per_document = width * quantised.dense_type().itemsize + pair_bytes(parts) * kept
        self._keep = per_document * sum(len(part.vectors) for part in parts) <= resident
        self._made: list[Block] = []

    def batches(self, pool: Executor, size: int) -> Iterator[list[Block]]:
        """Yield all blocks in order, `size` of them at a time, made in parallel."""
        if self._made:
            yield from (self._made[n : n + size] for n in range(0, len(self._made), size))
            return
        made = []
        spans = self._spans()
        while batch := list(itertools.islice(spans, size)):
            blocks = list(pool.map(_block, batch))
            for part, _ in batch:
                part.forget()
            if self._keep:
                made += blocks
            yield blocks
        self._made = made

    def _spans(self) -> Iterator[tuple[Part, int]]:
        for part in self._parts:
            yield from ((part, start) for start in range(0, len(part.vectors), DOCUMENTS))


def _block(span: tuple[Part, int]) -> Block:
    part, start = span
    return quantised.block(part.first + start, part.vectors.take(slice(start, start + DOCUMENTS)))


class _Group:
    """64 queries, and their candidates among some of the documents."""

    def __init__(self, found: Queries, number: int, used: int, k: int) -> None:
        self.found, self.number, self.k = found, number, k
        self.lanes = slice(LANES * number, LANES * (number + 1))
        self.used = used  # lanes that hold a query
        self.counts = np.zeros(LANES, np.int64)
        self.scores = roomy((LANES, max(_ROOM, 4 * k) + DOCUMENTS), np.float32)
        self.places = roomy(self.scores.shape, np.int64)
        self.lower = np.full(LANES, -np.inf)  # the k-th best true score is at least this
        # to be scored exactly throughout: the bound leaves too much open
        self.hard = found.hard[self.lanes].copy()
        self.extent = Extent()
        self._queries = found.dense[:, self.lanes].contiguous()
        self._dense = torch.empty(DOCUMENTS, LANES, dtype=found.dense.dtype)

    def scan(self, blocks: Sequence[Block]) -> None:
        """Add what of some blocks may be among the k best."""
        for block in blocks:
            self.extent |= block.extent
            self._scan(block)
            self.prune(2 * self.k)

    def _scan(self, block: Block) -> None:
        reach = self.found.slack(block.extent)[self.lanes]
        least = np.nextafter((self.lower - reach).astype(np.float32), np.float32(-np.inf))
        least[self.used :] = np.inf
        least[self.hard] = np.inf
        dense = self._dense[: len(block)]
        torch.mm(block.dense, self._queries, out=dense)
        array = dense.view(torch.int16).numpy() if dense.dtype == torch.bfloat16 else dense.numpy()
        arrays = block.term_ids, block.weights, block.offsets, block.inverses, self.found.scales[self.number]
        kept = self.counts, self.scores, self.places
        scan(self.found.rows[self.number], *arrays, array.reshape(-1), least, block.first, *kept)

    def prune(self, keep: int) -> None:
        """Raise the lower bounds, and drop what fell below, where a query has more than `keep` candidates."""
        reach = self.found.slack(self.extent)[self.lanes]
        loops.prune(self.counts, self.scores, self.places, self.lower, reach, self.k, keep)
        if self.counts.max() + DOCUMENTS > self.scores.shape[1]:
            self._grow()

    def take(self, other: "_Group") -> None:
        """Add the candidates that another part of the documents gave."""
        self.hard |= other.hard
        self.extent |= other.extent
        self._make_room(int((self.counts + other.counts).max()) + DOCUMENTS)
        for lane, (count, new) in enumerate(zip(self.counts, other.counts, strict=True)):
            self.scores[lane, count : count + new] = other.scores[lane, :new]
            self.places[lane, count : count + new] = other.places[lane, :new]
        self.counts += other.counts

    def _grow(self) -> None:
        self.hard |= self.counts > _MOST
        self.counts[self.hard] = 0
        self._make_room(2 * int(self.counts.max()) + DOCUMENTS)

    def _make_room(self, room: int) -> None:
        if room > self.scores.shape[1]:
            more = ((0, 0), (0, room - self.scores.shape[1]))
            self.scores, self.places = np.pad(self.scores, more), np.pad(self.places, more)


class Compiled:
    """The way to the candidates on CPUs; see the module. `threads` work at once; `resident` as for `Blocks`."""

    def __init__(self, parts: Sequence[Part], threads: int, resident: int = RESIDENT) -> None:
        self.threads = threads
        self.blocks = Blocks(parts, resident)

    def __call__(self, queries: HybridQueries, k: int) -> list[Rows | None]:
        """For each query, ascending rows that hold its k best and every document that equals the last of them.

        None where the bound leaves too many open, as where all documents score alike.
        Raises ValueError for a term that the queries lack.
        """
        with workers(self.threads) as pool:
            found = quantised.queries(queries, self.blocks.kept, pool)
            return self._search(found, len(queries), queries.lexical.shape[1], k, pool)

    def _search(self, found: Queries, count: int, vocabulary: int, k: int, pool: Executor) -> list[Rows | None]:
        groups = len(found.rows)
        # a thread takes groups in turn; where there are fewer groups than threads, it takes some of the blocks as well
        splits = -(-self.threads // groups)
        used = [min(LANES, count - LANES * number) for number in range(groups)]
        parts = [[_Group(found, number, used[number], k) for number in range(groups)] for _ in range(splits)]
        for batch in self.blocks.batches(pool, max(_BATCH, splits)):
            _check(batch, vocabulary)
            # a group goes through the whole batch, so that its table stays in the cache
            jobs = [pool.submit(group.scan, batch[n::splits]) for n, part in enumerate(parts) for group in part]
            for job in jobs:
                job.result()
            for same in zip(*parts, strict=True):  # what one part of the documents shows holds for all
                lower = np.max([group.lower for group in same], axis=0)
                for group in same:
                    group.lower[:] = lower
        return list(itertools.chain.from_iterable(pool.map(_merged, zip(*parts, strict=True))))


def _check(batch: list[Block], vocabulary: int) -> None:
    needed = max(block.extent.vocabulary for block in batch)
    if needed > vocabulary:
        raise ValueError(f"the store holds term {needed - 1}, the queries have {vocabulary} terms")


def _merged(same: tuple[_Group, ...]) -> list[Rows | None]:
    """The rows that each query of a group is left with, from all parts of the documents."""
    whole = same[0]
    for other in same[1:]:
        whole.take(other)
    whole.prune(whole.k)
    lanes = range(whole.used)
    return [None if whole.hard[lane] else np.sort(whole.places[lane, : whole.counts[lane]]) for lane in lanes]
