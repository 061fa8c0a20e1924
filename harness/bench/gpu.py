"""What one CUDA device does: pre-training, fine-tuning, encoding and exact search at the paper's sizes, in minutes.

Weights are random and texts made up: speed and memory do not depend on what was learned. Whatever is slow to learn
(how many steps fit) is cut off by the clock: each part has a share of the minutes, so that all of them are measured.
Needs torch, transformers, accelerate, safetensors, numpy and typer alone, and no network.
"""

import contextlib
import gc
import itertools
import logging
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from harness.bench.options import BenchOptions
from harness.bench.timing import Say
from harness.models.training.precision import automatic
from harness.retrievers.errors import InputError

MINUTES = 9.0
_KINDS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
Keep = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Sizes:
    """What is measured: BERT-base and the paper's batches, or next to nothing (`--tiny`), to try the command."""

    hidden: int = 768
    layers: int = 12
    heads: int = 12
    vocabulary: int = 30_522
    half: int = 384  # D and K of the hybrid
    batch: int = 128  # texts of a pre-training step on a device (paper's code: 128 x 8)
    length: int = 150
    asked: int = 128  # queries of a fine-tuning step, and passages of each
    group: int = 16
    query_length: int = 32
    passage_length: int = 140
    chunk: int = 256
    passages: int = 65_536
    docs: int = 8_841_823  # MS MARCO's
    queries: int = 6_980
    k: int = 1_000
    block: int = 8_192  # documents that are scored at once
    steps: int = 30


TINY = Sizes(
    *(32, 1, 2, 600, 8, 4, 24, 4, 3, 8, 24, 6),
    **{"passages": 48, "docs": 700, "queries": 5, "k": 10, "block": 256, "steps": 2},
)


@dataclass
class Table:
    """What was measured so far, said as it comes, and kept."""

    say: Say
    keep: Keep
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, what: str, value: float | None, unit: str, **more: Any) -> None:
        """One measurement; None where it could not be made, and `note` says why."""
        peak = torch.cuda.max_memory_allocated() if value is not None else None
        self.rows[what] = {"value": value, "unit": unit, "peak_bytes": peak, **more}
        self.say(self._line(what))
        self.keep({"rows": self.rows, "stopped": "unfinished"})

    def _line(self, what: str) -> str:
        row = self.rows[what]
        if row["value"] is None:
            return f"{what:<56} left out: {row['note']}"
        against = row.get("against")
        ratio = f"{row['value'] / self.rows[against]['value']:7.2f} x {against}" if against else ""
        speed, peak = f"{row['value']:12,.0f} {row['unit']:<11}", f"{row['peak_bytes'] / 2**30:8.2f}"
        return f"{what:<56}{speed}{peak} {ratio}".rstrip()

    def value_of(self, what: str) -> str | None:
        """`what`, where it was measured, to be compared with."""
        return what if self.rows.get(what, {}).get("value") else None


class Clock:
    """The minutes that are left, and a part's share of them."""

    def __init__(self, seconds: float) -> None:
        self._end, self._all = time.monotonic() + seconds, seconds

    @property
    def left(self) -> float:
        """Seconds."""
        return self._end - time.monotonic()

    def share(self, part: float) -> float:
        """When a part that may take such a share of all seconds has to end, on the monotonic clock."""
        return min(self._end, time.monotonic() + part * self._all)


def gpu(options: BenchOptions, say: Say, keep: Keep = lambda _rows: None) -> dict[str, Any]:
    """Measure all parts within `options.minutes`; what was measured before a signal stopped it is returned as well.

    Raises InputError where torch sees no CUDA device.
    """
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)  # what torch.compile leaves out is no news here
    if not torch.cuda.is_available():
        raise InputError("gpu measures a CUDA device, and torch sees none here. `harness env` says what torch sees.")
    device = torch.device("cuda", torch.cuda.current_device())
    sizes = TINY if options.tiny else Sizes()
    kind = automatic("cuda", training=True)
    about = torch.cuda.get_device_properties(device)
    say(f"{about.name}, {about.total_memory / 2**30:.0f} GiB; torch {torch.__version__}; training in {kind}")
    say(f"{'':<56}{'speed':>12} {'':<11}{'peak GiB':>8}     ratio")
    table, clock = Table(say, keep), Clock(60 * (options.minutes or MINUTES))
    stopped = ""
    with _signals():
        try:
            for name, part in _PARTS.items():
                if clock.left < 1:
                    table.add(name, None, "", note="no time was left")
                    continue
                part(sizes, kind, device, table, clock)
                _free()
        except KeyboardInterrupt as error:
            stopped = str(error) or "SIGINT"
            say(f"stopped by {stopped}: the table is partial")
    return {"device": about.name, "sizes": vars(sizes), "precision": kind, "stopped": stopped, "rows": table.rows}


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM as Ctrl-C, so that either leaves the table."""

    def stop(number: int, _frame: Any) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _free() -> None:
    gc.collect()
    torch.cuda.empty_cache()


def _paces(step: Callable[[], object], steps: int, end: float) -> list[float]:
    """Seconds of each of at most `steps` steps after a first one, until `end`; of the first where there is no more."""
    torch.cuda.reset_peak_memory_stats()
    seconds: list[float] = []
    for _ in range(steps + 1):
        torch.cuda.synchronize()
        began = time.perf_counter()
        step()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
        if time.monotonic() > end:
            break
    return seconds[1:] or seconds


def _bert(sizes: Sizes) -> Any:
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    shape = {"hidden_size": sizes.hidden, "num_hidden_layers": sizes.layers, "num_attention_heads": sizes.heads}
    return BertForMaskedLM(BertConfig(vocab_size=sizes.vocabulary, intermediate_size=4 * sizes.hidden, **shape))


# --- pre-training


def _pretraining(
    sizes: Sizes, kind: str, device: torch.device, table: Table, clock: Clock, compiled: bool = False
) -> None:
    """Steps of DupMAE with AdamW: ours and a plain implementation."""
    from harness.bench.pretrain_step import Naive
    from harness.models.pretraining.config import PretrainConfig
    from harness.models.pretraining.mae import DupMAE, PretrainBatch
    from harness.models.pretraining.masking import Collator, Vocabulary

    config, draw = PretrainConfig.paper("DupMAE"), np.random.default_rng(0)
    words = Vocabulary(sizes.vocabulary, 1, 2, 0, 3, torch.from_numpy(draw.random(sizes.vocabulary) < 0.2))
    collate = Collator(words, config, sizes.length)
    texts = [_texts(draw, sizes, sizes.batch, sizes.length - 2) for _ in range(4)]
    batches = [PretrainBatch(*(part.to(device) for part in collate(some, n))) for n, some in enumerate(texts)]

    def measure(of: type[DupMAE], end: float) -> list[float]:
        model = of(_bert(sizes), config).to(device).train()
        optimizer, turn = torch.optim.AdamW(model.parameters(), lr=1e-5), itertools.cycle(batches)
        forward: Any = torch.compile(model) if compiled else model

        def step() -> None:
            with torch.autocast("cuda", dtype=_KINDS[kind], enabled=kind != "fp32"):
                found = forward(next(turn))
            (found if of is Naive else found.total).backward()
            optimizer.step()
            optimizer.zero_grad()

        return _paces(step, sizes.steps, end)

    plain = "pre-training, plain: all logits [B,L,V]"
    for name, of in ((plain, Naive), ("pre-training, ours", DupMAE)):
        what = name + ", torch.compile" * compiled
        with _excused(table, what, "tokens/s"):
            seconds = measure(of, clock.share(0.2 if compiled else 0.06))
            speed = sizes.batch * sizes.length / statistics.median(seconds)
            against = table.value_of(plain) if what != plain else None
            table.add(what, speed, "tokens/s", steps=len(seconds), against=against)


@contextlib.contextmanager
def _excused(table: Table, what: str, unit: str) -> Iterator[None]:
    """One measurement that fails (no memory, no compiler for the device) leaves a note, and the others go on."""
    try:
        yield
    except Exception as error:  # torch.compile alone has dozens
        table.add(what, None, unit, note=" ".join(f"{type(error).__name__}: {error}".split())[:200])
    _free()


def _texts(draw: np.random.Generator, sizes: Sizes, count: int, length: int) -> list[Any]:
    return list(draw.integers(5, sizes.vocabulary, (count, length)))


# --- fine-tuning


def _finetuning(sizes: Sizes, kind: str, _device: torch.device, table: Table, clock: Clock) -> None:
    """Steps on the hybrid score with hard negatives, by gradient caching, as the recipe has them."""
    from accelerate import Accelerator

    from harness.models.finetuning.biencoder import BiEncoder
    from harness.models.finetuning.examples import Examples, FinetuneConfig
    from harness.models.finetuning.task import FinetuneTask
    from harness.models.training.tokens import Ragged

    draw = np.random.default_rng(1)
    many = 4 * sizes.asked
    passages = _texts(draw, sizes, many * sizes.group, sizes.passage_length - 2)
    rows = np.arange(len(passages)).reshape(many, sizes.group)
    examples = Examples(
        Ragged.of(_texts(draw, sizes, many, sizes.query_length - 2)),
        Ragged.of(passages),
        Ragged.of(rows[:, :1]),
        Ragged.of(rows[:, 1:]),
    )
    config = FinetuneConfig(sizes.asked, negatives=sizes.group - 1, chunk=sizes.chunk)

    def measure(lexical: int, end: float) -> list[float]:
        accelerator = Accelerator(mixed_precision="no" if kind == "fp32" else kind)
        task = FinetuneTask(BiEncoder(_encoder(_bert(sizes), sizes, lexical)), examples, config, (1, 2, 0))
        model, optimizer = accelerator.prepare(task.module, torch.optim.AdamW(task.module.parameters(), lr=1e-5))
        model.train()
        turn = itertools.cycle([task.prepare(step) for step in range(2)])

        def step() -> None:
            task.backward(model, next(turn), accelerator)
            optimizer.step()
            optimizer.zero_grad()

        try:
            return _paces(step, sizes.steps, end)
        finally:
            accelerator.free_memory()

    for name, lexical in (("dense alone", 0), ("hybrid", sizes.half)):
        what = f"fine-tuning, {name}"
        with _excused(table, what, "pairs/s"):
            seconds = measure(lexical, clock.share(0.08))
            pairs = sizes.asked * sizes.group / statistics.median(seconds)
            table.add(what, pairs, "pairs/s", steps=len(seconds), against=table.value_of("fine-tuning, dense alone"))


def _encoder(model: Any, sizes: Sizes, lexical: int) -> Any:
    """Of the hybrid, or of the whole CLS vector where `lexical` is 0."""
    from harness.models.hybrid import HybridSpec
    from harness.models.layers.encoder import Encoder, mlm_head

    dense = sizes.half if lexical else sizes.hidden
    projection = torch.nn.Linear(sizes.hidden, dense, bias=False) if lexical else None
    spec = HybridSpec(
        dense=dense, lexical=lexical, query_length=sizes.query_length, passage_length=sizes.passage_length
    )
    return Encoder(model.base_model, mlm_head(model) if lexical else None, projection, spec, (1, 2, 0))


# --- encoding


def _encoding(sizes: Sizes, _kind: str, device: torch.device, table: Table, clock: Clock) -> None:
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
        model = _bert(sizes).to(_KINDS[kind])
        encoder = _encoder(model, sizes, lexical).to(_KINDS[kind]).eval().to(device)
        loaded = Loaded(encoder, tokenizer, model, encoder.spec, sizes.hidden, sizes.vocabulary)
        text_encoder, turn = TextEncoder(loaded, device), itertools.cycle(range(0, sizes.passages, at_once))

        def step() -> None:
            start = next(turn)
            text_encoder.documents(docs[start : start + at_once], lambda _: None)

        return _paces(step, 8, end)

    for name, lexical in (("dense alone", 0), ("both halves", sizes.half)):
        what = f"encoding, {name}"
        with _excused(table, what, "passages/s"):
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


def _searching(sizes: Sizes, _kind: str, device: torch.device, table: Table, clock: Clock) -> None:
    """Top k of all documents, which lie on the device in 16 bits: exactly, and by a plain product for the peer.

    `exact` is the way of `harness run`: candidates with a proven bound, then scores in float64; these here on the
    device, where a run has them from compiled loops on the CPU. Terms are uniform, the worst case for a sparse product.
    """
    bytes_each = max(2 * 2 * sizes.hidden, 2 * 3 * sizes.half)
    docs = min(sizes.docs, int(0.6 * torch.cuda.mem_get_info(device)[0]) // bytes_each)
    if docs < sizes.docs:
        table.say(f"search: {docs:,} documents fit into the device's memory, of {sizes.docs:,}")

    def measure(dense: int, lexical: int, exact: bool, end: float) -> tuple[int, float]:
        corpus, done = _Corpus(sizes, docs, dense, lexical, device), 0
        blocks = list(corpus.queries())
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
        began = time.perf_counter()
        for queries in blocks:
            corpus.search(queries, exact)
            done += len(queries)
            if time.monotonic() > end:
                break
        return done, time.perf_counter() - began

    wide = f"search, dense {sizes.hidden}, plain float32 product"
    for name, dense, lexical, exact in (
        (wide, sizes.hidden, 0, False),
        (f"search, dense {sizes.hidden}, exact", sizes.hidden, 0, True),
        (f"search, hybrid {sizes.half} + {sizes.half}, exact", sizes.half, sizes.half, True),
    ):
        with _excused(table, name, "queries/s"):
            done, seconds = measure(dense, lexical, exact, clock.share(0.14))
            against = table.value_of(wide) if name != wide else None
            table.add(name, done / seconds, "queries/s", docs=docs, queries=done, k=sizes.k, against=against)


class _Corpus:
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


_PARTS: dict[str, Callable[..., None]] = {
    "pre-training": _pretraining,
    "fine-tuning": _finetuning,
    "encoding": _encoding,
    "search": _searching,
    "pre-training, torch.compile": partial(_pretraining, compiled=True),  # last: compilation takes what it takes
}
