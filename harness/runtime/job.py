"""Phases: timed for the record, shown on standard error while they last."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Task as RichTask
from rich.text import Text

from harness.runtime import log
from harness.runtime.processes import Processes

_REFRESH = 0.1  # seconds between two repaints; a phase may report a million times a second
_PATIENCE = 30  # seconds between two lines where there is no bar


class _Speed(TextColumn):
    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: RichTask) -> Text:
        return Text(f"{task.speed:,.0f} {task.fields['unit']}/s" if task.speed else "")


class Bar:
    """A `Meter`. It repaints a progress bar at most ten times a second; without a bar it calls `note` every 30 s."""

    def __init__(
        self,
        progress: Progress | None,
        name: str,
        total: int | None,
        unit: str,
        note: Callable[[str], None] = lambda _message: None,
    ) -> None:
        self._progress, self._name, self._total, self._unit, self._note = progress, name, total, unit, note
        self._began = self._noted_at = time.monotonic()
        self._task = progress.add_task(name, total=total, unit=unit, say="") if progress else None
        self._done, self._shown_at = 0, 0.0
        self._first: tuple[int, float] | None = None  # tokens, and when

    def advance(self, amount: int = 1) -> None:
        """Say that `amount` more units are done."""
        self.reach(self._done + amount)

    def reach(self, done: int) -> None:
        """Say that `done` units are done in all."""
        self._done = done
        now = time.monotonic()
        if self._progress is not None and self._task is not None:
            if now - self._shown_at > _REFRESH:
                self.show()
        elif now - self._noted_at > _PATIENCE:
            self._noted_at, took = now, now - self._began
            of = f" of {self._total:,}" if self._total else ""
            left = f", {took / done * (self._total - done):,.0f} s left" if self._total and done else ""
            self._note(f"{self._name}: {done:,}{of} {self._unit} in {took:,.0f} s{left}")

    def say(self, tokens: int, text: str) -> None:
        """Show the speed in tokens/s, and a word beside the bar."""
        now = time.monotonic()
        if self._first is None:
            self._first = tokens, now
        first, began = self._first
        speed = f" {(tokens - first) / (now - began):,.0f} tokens/s" if now > began and tokens > first else ""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, say=f"{text}{speed}")

    def show(self) -> None:
        """Repaint."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=self._done)
            self._shown_at = time.monotonic()


class HarnessJob:
    """The `Job` that the harness lends: cache, threads, phases and warnings of one run.

    On a terminal each phase is a bar with speed and time left. Elsewhere (a log file, CI) it leaves a line every half
    minute, and one at its end if it took more than five seconds. All that is said goes through `harness.runtime.log`.
    """

    def __init__(self, cache: Path, threads: int | None = None, team: Processes | None = None) -> None:
        self.team = team or Processes()
        self._shown = self.team
        beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if self.team.count > 1 else 1
        # processes of this machine share its cores
        self._cache, self._threads = cache, threads or max(1, (os.cpu_count() or 1) // beside)
        self._console = Console(stderr=True, quiet=not self.team.main)
        self._bars_shown = self._console.is_terminal and self.team.main and not log.quiet()
        self.seconds: dict[str, float] = {}
        self.warnings: list[str] = []
        self._said: set[str] = set()

    @property
    def cache(self) -> Path:
        """Where indexes, stores and surveys are kept between runs."""
        return self._cache

    @property
    def threads(self) -> int:
        """How many threads to use."""
        return self._threads

    @property
    def rank(self) -> int:
        """Which of the processes this is."""
        return self._shown.rank

    @property
    def processes(self) -> int:
        """How many processes share the work."""
        return self._shown.count

    def gather(self, value: Any) -> list[Any] | None:
        """The values of all processes in order of rank, at rank 0; None elsewhere. Waits for the slowest."""
        if self._shown.count == 1:
            return [value]
        with self.phase("gather", None, "processes"):
            return self._shown.gather(value)

    def agreed(self, value: Any) -> Any:
        """Rank 0's value, in every process."""
        return self._shown.agreed(value)

    @contextmanager
    def lent(self, distributed: bool) -> Iterator[None]:
        """While a retriever has it: one that is not `distributed` sees no process but its own."""
        self._shown = self.team if distributed else Processes()
        try:
            yield
        finally:
            self._shown = self.team

    def restart(self) -> None:
        """Begin a new record: no seconds, no warnings; what was said to the user is not said again."""
        self.seconds, self.warnings = {}, []

    @contextmanager
    def phase(self, name: str, total: int | None, unit: str) -> Iterator[Bar]:
        """Time a phase and show it."""
        began = time.perf_counter()
        try:
            if self._bars_shown:
                with self._bars() as progress:
                    bar = Bar(progress, name, total, unit)
                    yield bar
                    bar.show()
            else:
                yield Bar(None, name, total, unit, self.note)
        finally:
            took = time.perf_counter() - began
            self.seconds[name] = self.seconds.get(name, 0.0) + took
        words = f"{name}: {took:,.1f} s" + (f", {total:,} {unit}" if total else "")
        if not self._bars_shown and took > 5:
            self.note(words)
        elif self.team.main:
            log.logger.debug(words)

    def _bars(self) -> Progress:
        return Progress(
            TextColumn("{task.description:<8}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Speed(),
            TextColumn("{task.fields[say]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )

    def warn(self, message: str) -> None:
        """Tell the user once, and keep it for the record."""
        if message not in self.warnings:
            self.warnings.append(message)
        if message not in self._said:
            self._said.add(message)
            if self.team.main:
                log.logger.warning(message)

    def tell(self, notice: str) -> None:
        """Tell the user once, not for the record; "" is nothing to tell."""
        if notice and notice not in self._said:
            self._said.add(notice)
            if self.team.main:
                log.notice(notice)

    def note(self, message: str) -> None:
        """Tell the user; the record does not keep it."""
        if self.team.main:
            log.logger.info(message)
