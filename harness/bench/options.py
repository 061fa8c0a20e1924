"""What a benchmark can be asked for."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

ROUNDS = 5


@dataclass(frozen=True)
class BenchOptions:
    """The options of `harness bench`; None is what was not given, and each benchmark has its own default for it."""

    model: Path | None = None  # a checkpoint's folder
    dataset: str | None = None
    passages: int | None = None
    lexical: int | None = None  # K, where the checkpoint does not say
    max_length: int | None = None  # tokens of a passage
    batch: int | None = None
    length: int | None = None  # tokens of a sequence
    docs: int | None = None  # N
    queries: int | None = None  # Q
    k: int | None = None  # results of a query
    threads: int | None = None
    rounds: int | None = None
    minutes: float | None = None  # of all parts together
    tiny: bool | None = None  # sizes that only try the benchmark

    def given(self) -> list[str]:
        """The names of the options that were given."""
        return [field.name for field in dataclasses.fields(self) if getattr(self, field.name) is not None]

    @property
    def cores(self) -> int:
        """`threads`, or else all cores."""
        return self.threads or os.cpu_count() or 1
