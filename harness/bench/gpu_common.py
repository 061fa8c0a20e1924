"""What the parts of `harness bench gpu` share: sizes, the table, the clock, timed steps."""

import contextlib
import gc
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from harness.bench.timing import Say
from harness.retrievers import devices

KINDS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
Keep = Callable[[dict[str, Any]], None]


class TooSlow(Exception):
    """The clock ended before anything could be measured."""


class Lost(Exception):
    """The device failed in a way after which nothing runs on it."""


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
    hidden=32,
    layers=1,
    heads=2,
    vocabulary=600,
    half=8,
    batch=4,
    length=24,
    asked=4,
    group=3,
    query_length=8,
    passage_length=24,
    chunk=6,
    passages=48,
    docs=700,
    queries=5,
    k=10,
    block=256,
    steps=2,
)


@dataclass
class Table:
    """What was measured so far, said as it comes, and kept."""

    say: Say
    keep: Keep
    head: dict[str, Any] = field(default_factory=dict)  # what was measured on what
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, what: str, value: float | None, unit: str, **more: Any) -> None:
        """One measurement; None where it could not be made, and `note` says why."""
        peak = torch.cuda.max_memory_allocated() if value is not None else None
        self.rows[what] = {"value": value, "unit": unit, "peak_bytes": peak, **more}
        self.say(self._line(what))
        self.keep({**self.head, "rows": self.rows, "stopped": "unfinished"})

    def tell(self, what: str, found: str) -> None:
        """A finding that is no speed."""
        self.rows[what] = {"value": None, "unit": "", "found": found}
        self.say(self._line(what))

    def _line(self, what: str) -> str:
        row = self.rows[what]
        if row["value"] is None:
            return f"{what:<56} {row['found'] if 'found' in row else 'left out: ' + row['note']}"
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


def free() -> None:
    """Give memory that nothing uses back to the device."""
    gc.collect()
    torch.cuda.empty_cache()


def paces(step: Callable[[], object], steps: int, end: float, warm: int = 1) -> list[float]:
    """Seconds of each of at most `steps` steps after `warm` others, until `end`; the peak of memory is theirs as well.

    Raises TooSlow where none is left for them.
    """
    seconds: list[float] = []
    for number in range(steps + warm):
        if number == warm:
            torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
        began = time.perf_counter()
        step()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
        if time.monotonic() > end:
            break
    if len(seconds) <= warm:
        raise TooSlow(f"its share of the time was over after {len(seconds)} steps, of which {warm} only warm up")
    return seconds[warm:]


def bert(sizes: Sizes) -> Any:
    """A BERT masked-LM with random weights."""
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    shape = {"hidden_size": sizes.hidden, "num_hidden_layers": sizes.layers, "num_attention_heads": sizes.heads}
    return BertForMaskedLM(BertConfig(vocab_size=sizes.vocabulary, intermediate_size=4 * sizes.hidden, **shape))


@contextlib.contextmanager
def excused(table: Table, what: str, unit: str) -> Iterator[None]:
    """One measurement that fails (no memory, no compiler for the device) leaves a note, and the others go on."""
    lost = None
    try:
        yield
    except TooSlow as error:
        table.add(what, None, unit, note=str(error))
    except Exception as error:  # torch.compile alone has dozens
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        table.add(what, None, unit, note=said, traceback=traceback.format_exc())
        traceback.clear_frames(error.__traceback__)  # they hold what is to be freed
        if devices.failure(error) and not isinstance(error, torch.OutOfMemoryError):
            lost = said
    if lost is not None:
        raise Lost(lost)
    free()


def texts(draw: np.random.Generator, sizes: Sizes, count: int, length: int) -> list[Any]:
    """Random token ids, all of one length, special tokens left out."""
    return list(draw.integers(5, sizes.vocabulary, (count, length)))


def encoder(model: Any, sizes: Sizes, lexical: int) -> Any:
    """Of the hybrid, or of the whole CLS vector where `lexical` is 0."""
    from harness.models.hybrid import HybridSpec
    from harness.models.layers.encoder import Encoder
    from harness.models.layers.families import mlm_head

    dense = sizes.half if lexical else sizes.hidden
    projection = torch.nn.Linear(sizes.hidden, dense, bias=False) if lexical else None
    spec = HybridSpec(
        dense=dense, lexical=lexical, query_length=sizes.query_length, passage_length=sizes.passage_length
    )
    return Encoder(model.base_model, mlm_head(model) if lexical else None, projection, spec, (1, 2, 0))
