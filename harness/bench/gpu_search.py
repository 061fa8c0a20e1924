"""Parts of `harness bench gpu`: encoding, and the exact search."""

import itertools
import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from harness.bench.gpu_common import KINDS, Clock, Sizes, Table, bert, encoder, excused, paces
from harness.models.training.precision import automatic

# --- encoding

_CHECKED = 8


def encoding(sizes: Sizes, _kind: str, device: torch.device, table: Table, clock: Clock) -> None:
    """Passages from text to vectors on the host, both halves and the dense half alone, in the way of `harness run`."""
    from harness.models.checkpoints.checkpoint import Loaded
    from harness.retrievers.encoding.encode import TextEncoder
    from harness.retrievers.types import Document

    kind = automatic("cuda", training=False)
    draw = np.random.default_rng(2)
    words = [f"w{number}" for number in range(5, sizes.vocabulary)]
    lengths = draw.integers(sizes.passage_length // 4, sizes.passage_length, sizes.passages)
    docs = [
        Document(str(n), "", " ".join(words[w] for w in draw.integers(0, len(words), length)))
        for n, length in enumerate(lengths)
    ]
    tokenizer = _tokenizer(words)
    at_once = max(1, sizes.passages // 8)

    def measure(lexical: int, end: float) -> list[float]:
        model = bert(sizes).to(KINDS[kind])
        made = encoder(model, sizes, lexical).to(KINDS[kind]).eval().to(device)
        loaded = Loaded(made, tokenizer, model, made.spec, sizes.hidden, sizes.vocabulary)
        text_encoder, turn = TextEncoder(loaded, device), itertools.cycle(range(0, sizes.passages, at_once))

        def step() -> None:
            start = next(turn)
            text_encoder.documents(docs[start : start + at_once], lambda _: None)

        return paces(step, 8, end)

    for name, lexical in (("dense alone", 0), ("both halves", sizes.half)):
        what = f"encoding, {name}"
        with excused(table, what, "passages/s"):
            seconds = measure(lexical, clock.share(0.06))
            against = table.value_of("encoding, dense alone")
            table.add(what, at_once / statistics.median(seconds), "passages/s", precision=kind, against=against)


def _tokenizer(words: list[str]) -> Any:
    """Of whole words, of which each is a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"]
    core = Tokenizer(models.WordLevel({word: n for n, word in enumerate([*special, *words])}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
        unk_token="[UNK]",
    )  # fmt: skip


# --- search


def searching(sizes: Sizes, _kind: str, device: torch.device, table: Table, clock: Clock) -> None:
    """Top k of all documents, which lie on the device in 16 bits: exactly, and by a plain product for the peer.

    `exact` is the way of `harness run`: candidates with a proven bound, then scores in float64; these here on the
    device, where a run has them from compiled loops on the CPU. Terms are uniform, the worst case for a sparse product.
    """
    bytes_each = max(2 * 2 * sizes.hidden, 2 * 3 * sizes.half)
    docs = min(sizes.docs, int(0.6 * torch.cuda.mem_get_info(device)[0]) // bytes_each)
    if docs < sizes.docs:
        table.say(f"search: {docs:,} documents fit into the device's memory, of {sizes.docs:,}")

    def measure(dense: int, lexical: int, exact: bool, end: float) -> tuple[int, float]:
        corpus, done = Corpus(sizes, docs, dense, lexical, device), 0
        blocks = list(corpus.queries())
        corpus.warm_up(blocks[0])
        if exact:
            table.tell(f"search, {corpus.shown}: the k best of {_CHECKED} queries", corpus.checked(blocks[0]))
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
        began = time.perf_counter()
        for queries in blocks:
            corpus.search(queries, exact)
            done += len(queries)
            if time.monotonic() > end:
                break
        return done, time.perf_counter() - began

    wide = f"search, dense {sizes.hidden}, float32 scores and top k"
    for name, dense, lexical, exact in (
        (wide, sizes.hidden, 0, False),
        (f"search, dense {sizes.hidden}, exact", sizes.hidden, 0, True),
        (f"search, hybrid {sizes.half} + {sizes.half}, exact", sizes.half, sizes.half, True),
    ):
        with excused(table, name, "queries/s"):
            done, seconds = measure(dense, lexical, exact, clock.share(0.14))
            against = table.value_of(wide) if name != wide else None
            table.add(name, done / seconds, "queries/s", docs=docs, queries=done, k=sizes.k, against=against)


class Corpus:
    """Made-up documents on the device, in the store's 16 bits."""

    def __init__(self, sizes: Sizes, docs: int, dense: int, lexical: int, device: torch.device) -> None:
        from harness.retrievers.search.device import Block, Norms

        self.sizes, self.docs, self.device = sizes, docs, device
        self.dense = torch.empty(docs, dense, dtype=torch.float16, device=device)
        self.weights = torch.empty(docs, lexical, dtype=torch.float16, device=device)
        self.ids = torch.empty(docs, lexical, dtype=torch.int16, device=device)  # the bits of uint16
        self.blocks: list[Block] = []
        norms = [0.0, 0.0]
        torch.manual_seed(3)
        for first in range(0, docs, sizes.block):
            own = slice(first, min(first + sizes.block, docs))
            n = own.stop - first
            self.dense[own] = torch.randn(n, dense, device=device).half()
            self.weights[own] = torch.rand(n, lexical, device=device).half()
            self.ids[own] = torch.randint(sizes.vocabulary, (n, lexical), device=device).to(torch.int16)
            starts = lexical * torch.arange(n + 1, device=device)
            parts = self.dense[own], starts, self.ids[own].flatten(), self.weights[own].flatten()
            self.blocks.append(Block(first, *parts, sizes.vocabulary - 1 if lexical else -1))
            for place, values in enumerate((self.dense[own], self.weights[own])):
                if values.shape[1]:
                    norms[place] = max(norms[place], float(values.float().norm(dim=1).max()) * (1 + 1e-3))
        self.norms = Norms(norms[0], norms[1], dense, lexical)

    @property
    def shown(self) -> str:
        """Its widths."""
        dense, lexical = self.dense.shape[1], self.ids.shape[1]
        return f"hybrid {dense} + {lexical}" if lexical else f"dense {dense}"

    def warm_up(self, queries: Any) -> None:
        """Kernels are chosen and loaded when they are first used."""
        from harness.retrievers.search.device import best_of

        best_of(self.blocks[:2], queries, min(self.sizes.k, self.docs), self.device)
        torch.cuda.synchronize()

    def checked(self, queries: Any) -> str:
        """Whether the exact search finds what the scores of all documents in float64 say."""
        some = queries.take(slice(0, _CHECKED))
        k, wrong = min(self.sizes.k, self.docs), 0
        for number, (rows, scores) in enumerate(self.search(some, True)):
            _, expected = self._final(some.take(slice(number, number + 1)), None, k)
            # documents of equal scores may stand for each other
            wrong += not np.array_equal(scores, expected) or len(set(rows.tolist())) != k
        return "as scores in float64 say" if not wrong else f"WRONG FOR {wrong}"

    def queries(self) -> Iterator[Any]:
        """In blocks of as many as one pass over the documents serves."""
        from harness.retrievers.encoding.vectors import HybridQueries

        draw, terms = np.random.default_rng(4), self.sizes.vocabulary if self.ids.shape[1] else 0
        for start in range(0, self.sizes.queries, 1_024):
            n = min(1_024, self.sizes.queries - start)
            dense = draw.standard_normal((n, self.dense.shape[1]), dtype=np.float32)
            yield HybridQueries(dense, draw.random((n, terms), dtype=np.float32))

    def search(self, queries: Any, exact: bool) -> list[tuple[Any, Any]]:
        """The rows of the k best of each query, best first, and their scores."""
        from harness.retrievers.search.device import best_of, slack, widened

        def candidates(some: Any, count: int) -> Any:
            return best_of(self.blocks, some, count, self.device)

        k = min(self.sizes.k, self.docs)
        if not exact:
            scores, rows = candidates(queries, k)
            return list(zip(rows, scores, strict=True))
        sure = widened(queries, slack(queries, self.norms), self.docs, k, candidates)
        return [self._final(queries.take(slice(n, n + 1)), rows, k) for n, rows in enumerate(sure)]

    def _final(self, query: Any, rows: Any, k: int) -> tuple[Any, Any]:
        """By scores in float64; `rows` is None where too many are candidates."""
        everything = np.arange(self.docs) if rows is None else rows
        chosen = torch.from_numpy(everything).to(self.device)
        scores = torch.empty(len(chosen), dtype=torch.float64, device=self.device)
        dense = torch.from_numpy(query.dense[0]).to(self.device).double()
        terms = torch.from_numpy(query.lexical[0]).to(self.device).double()
        for start in range(0, len(chosen), self.sizes.block):
            own = chosen[start : start + self.sizes.block]
            ids = self.ids[own].long() & 0xFFFF
            lexical = (self.weights[own].double() * terms[ids]).sum(1) if len(terms) else 0.0
            scores[start : start + self.sizes.block] = self.dense[own].double() @ dense + lexical
        values, places = scores.float().topk(k)
        return chosen[places].cpu().numpy(), values.cpu().numpy()
