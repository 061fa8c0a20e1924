"""What one CUDA device does: pre-training, fine-tuning, encoding and exact search at the paper's sizes, in minutes.

Weights are random and texts made up: speed and memory do not depend on what was learned. Whatever is slow to learn
(how many steps fit) is cut off by the clock: each part has a share of the minutes, so that all of them are measured.
Needs torch, transformers, accelerate, safetensors, numpy and typer alone, and no network.
"""

import contextlib
import logging
import signal
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from typing import Any

import torch

from harness.bench import gpu_search, gpu_training
from harness.bench.gpu_common import TINY, Clock, Keep, Lost, Sizes, Table, free
from harness.bench.options import BenchOptions
from harness.bench.timing import Say
from harness.models.training.precision import automatic
from harness.retrievers import devices
from harness.retrievers.errors import InputError

MINUTES = 8.5  # importing torch takes more
_TIME = "SIGALRM"
_LEAST = {"pre-training, torch.compile": 90}  # seconds that a part must have; any other takes what is left


def gpu(options: BenchOptions, say: Say, keep: Keep = lambda _rows: None) -> dict[str, Any]:
    """Measure all parts within `options.minutes`; what was measured before a signal stopped it is returned as well.

    Raises InputError where torch sees no CUDA device.
    """
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)  # what torch.compile leaves out is no news here
    there, why = devices.available()
    if not there:
        raise InputError(f"gpu measures a CUDA device, and torch sees none{why}. `harness env` says more.")
    device = torch.device("cuda", torch.cuda.current_device())
    sizes = TINY if options.tiny else Sizes()
    kind = automatic("cuda", training=True)
    about = torch.cuda.get_device_properties(device)
    say(f"{about.name}, {about.total_memory / 2**30:.0f} GiB; torch {torch.__version__}; training in {kind}")
    say(f"{'':<56}{'speed':>12} {'':<11}{'peak GiB':>8}     ratio")
    head = {"device": about.name, "sizes": vars(sizes), "precision": kind, "versions": _versions()}
    clock, stopped = Clock(60 * (options.minutes or MINUTES)), ""
    table = Table(say, keep, head)
    with _signals(clock):
        try:
            for name, part in _PARTS.items():
                if clock.left < _LEAST.get(name, 1):
                    table.add(name, None, "", note="no time was left")
                    continue
                part(sizes, kind, device, table, clock)
                free()
        except KeyboardInterrupt as error:
            stopped = str(error) or "SIGINT"
            if stopped == _TIME:
                say("the time is over: the table is partial")
                stopped = ""
            else:
                say(f"stopped by {stopped}: the table is partial")
        except Lost as error:
            say(f"the GPU failed, and nothing runs on it any more ({error}): the table is partial")
    return {**head, "rows": table.rows, "stopped": stopped}


def _versions() -> dict[str, Any]:
    found = {"torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}  # type: ignore[no-untyped-call]
    return found | {name: version(name) for name in ("accelerate", "transformers")}


@contextlib.contextmanager
def _signals(clock: Clock) -> Iterator[None]:
    """SIGTERM, and the end of the time, as Ctrl-C, so that each leaves the table; a first step may take long."""

    def stop(number: int, _frame: Any) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_REAL, max(0.01, clock.left))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


# compilation takes what it takes, so it comes last
_PARTS: dict[str, Callable[..., None]] = {
    "pre-training": gpu_training.pretraining,
    "fine-tuning": gpu_training.finetuning,
    "encoding": gpu_search.encoding,
    "search": gpu_search.searching,
    "pre-training, torch.compile": partial(gpu_training.pretraining, compiled=True),
}
