"""Several processes that run one command (`torchrun`, `accelerate launch`): who is who, and what they tell each other.

What is exchanged are Python objects on the CPU, a ranked list a query: gloo carries them, whatever the GPUs use.
"""

import atexit
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

from harness.retrievers.errors import InputError
from harness.runtime import log

_QUIET = 10  # seconds of waiting, before it is said for what
_MEETING = timedelta(minutes=10)  # until all are there; none has begun to work
_PATIENCE = timedelta(days=7)  # one may encode or mine for long while the others wait


class ProcessLost(Exception):
    """Another process of this command ended before its time; what it said, or the launcher's report, tells why."""


@dataclass(frozen=True)
class Processes:
    """This process's rank among `count`. Rank 0 keeps records and speaks to the user.

    Whatever is exchanged must be exchanged by all, in one order. Raises ProcessLost where another process is gone.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def launched(cls) -> "Processes":
        """What the launcher's environment says, once all are there; each of a machine's takes a GPU of its own.

        Raises InputError where the environment makes no sense.
        """
        rank, count = launched_as()
        if count > 1:
            _take_device()
        team = cls(rank, count)
        with _told(_waits(rank, count)):
            team.agreed(None)  # first: from now on the others notice a process that ends, even one without a checkpoint
        return team

    @property
    def main(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    @cached_property
    def _group(self) -> Any:
        import torch.distributed as dist

        if not dist.is_initialized():
            dist.init_process_group("gloo", timeout=_MEETING)
            leave_at_exit()
        group = dist.new_group(backend="gloo", timeout=_PATIENCE)
        leave_at_exit(group)
        return group

    def gather(self, value: Any) -> list[Any] | None:
        """The values of all processes in order of rank, at rank 0; None elsewhere."""
        if self.count == 1:
            return [value]
        import torch.distributed as dist

        found: list[Any] | None = [None] * self.count if self.main else None
        with _all_there(), _told(f"process {self.rank} waits for what the {self.count - 1} others do", self.main):
            dist.gather_object(value, found, dst=0, group=self._group)
        return found

    def agreed(self, value: Any) -> Any:
        """Rank 0's value, everywhere."""
        if self.count == 1:
            return value
        import torch.distributed as dist

        box = [value]
        with _all_there():
            dist.broadcast_object_list(box, src=0, group=self._group)
        return box[0]


def launched_as() -> tuple[int, int]:
    """The rank and the number of processes that a launcher's environment says; 0 of 1 where there is none.

    Raises InputError where it makes no sense, or does not say where they meet.
    """
    words = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    try:
        rank, count = (int(word) for word in words)
    except ValueError:
        rank, count = -1, 0
    if not 0 <= rank < count:
        raise InputError(
            f"RANK={words[0]} and WORLD_SIZE={words[1]} name no process. Start with torchrun, or unset them."
        )
    if count > 1 and (missing := [name for name in ("MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]):
        raise InputError(
            f"WORLD_SIZE={count} stands for several processes, and {' and '.join(missing)} do not say where "
            "they meet. Start with torchrun, or unset RANK and WORLD_SIZE."
        )
    return rank, count


def _waits(rank: int, count: int) -> str:
    return f"process {rank} waits for the {count - 1} others that WORLD_SIZE={count} stands for"


@contextmanager
def rendezvous() -> Iterator[None]:
    """While processes that a launcher started meet: say who waits, and let a signal end it, since nothing was done yet.

    Raises InputError as `launched_as`.
    """
    rank, count = launched_as()
    if count == 1 or threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.SIG_DFL) for number in numbers]  # a handler would wait for the C++ code
    try:
        with _told(_waits(rank, count)):
            yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def leave_at_exit(group: Any = None) -> None:
    """Let go of a gloo group, or of the one that all are in, when Python ends: its threads may abort the process else.

    NCCL is left alone: it ends by itself, and could wait there for a process that is gone.
    """
    atexit.register(_leave, group)


def _leave(group: Any) -> None:
    import torch.distributed as dist

    if dist.is_initialized() and dist.get_backend(group) == "gloo":
        dist.destroy_process_group(group)


def _take_device() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


@contextmanager
def _told(waiting: str, speaks: bool = True) -> Iterator[None]:
    """Say what is waited for, where it takes long."""
    clock = threading.Timer(_QUIET, log.logger.info, [f"{waiting}; {_QUIET} s so far"])
    clock.daemon = True
    if speaks:
        clock.start()
    try:
        yield
    finally:
        clock.cancel()


@contextmanager
def _all_there() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ProcessLost(
            f"another process of this command ended, or cannot be reached ({reason[:200]}). What it said, or the "
            "launcher's report, tells why."
        ) from error


def speaks() -> bool:
    """Whether this process is to say why the command failed: under torchrun the first on a machine, elsewhere each.

    All fail alike where the user mistyped a name, and the user is to read it once.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or os.environ.get("WORLD_SIZE", "1") == "1":
        return True
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # public, and not in its __all__

    place = os.environ.get("MASTER_ADDR", ""), int(os.environ.get("MASTER_PORT", "0"))
    try:  # the launcher's own store, which outlives us
        store = TCPStore(*place, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=10))
        attempt, machine = (os.environ.get(name) for name in ("TORCHELASTIC_RESTART_COUNT", "GROUP_RANK"))
        first = bool(store.add(f"harness/failed/{attempt}/{machine}", 1) == 1)
    except RuntimeError:
        return True  # rather twice than never
    if not first:
        time.sleep(1)  # when a process ends the launcher ends all; let the one that speaks finish
    return first
