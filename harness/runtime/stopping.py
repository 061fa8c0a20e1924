"""A training that is asked to stop: Ctrl-C, or the SIGTERM of a scheduler that takes its machine away."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from harness.runtime import log


class Interrupted(KeyboardInterrupt):
    """A signal came while nothing could be saved; `status` is the exit status by which a shell tells it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


class Stopping:
    """Whether a signal asked to stop. Within `saving` it is kept until a state is written; elsewhere it interrupts.

    A second signal interrupts wherever it comes.
    """

    def __init__(self) -> None:
        self.asked: int | None = None  # the signal
        self._saves = False

    def __call__(self) -> bool:
        """Whether to stop as soon as the state is written."""
        return self.asked is not None

    @property
    def status(self) -> int:
        """The exit status of a training that stopped as it was asked."""
        return 128 + (self.asked or signal.SIGTERM)  # by another process's signal

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM; both are as before behind it."""
        before = {number: signal.signal(number, self._take) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Within it a signal waits for the state to be written."""
        self._saves = True
        try:
            yield
        finally:
            self._saves = False

    def _take(self, number: int, _frame: Any) -> None:
        if not self._saves or self.asked is not None:
            raise Interrupted(number)
        self.asked = number
        log.logger.info("stopping when this step is done and saved; once more stops at once")
