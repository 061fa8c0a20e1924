"""Settings of a stage that trains step by step."""

import math
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from harness.models.training.config import LoopConfig
from harness.retrievers.errors import InputError
from harness.training.stage import Stage

Rate = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class Schedule(Stage):
    """How long and how fast; `batch` is of all processes together."""

    steps: int | None = Field(None, ge=1, strict=True)
    epochs: float | None = Field(None, gt=0, le=1_000_000, allow_inf_nan=False)
    batch: int = Field(ge=1, strict=True)
    learning_rate: Rate
    warmup: float = Field(0.0, ge=0, le=1)
    weight_decay: float = Field(0.0, ge=0)
    clip: float = Field(1.0, gt=0)
    log_every: int = Field(10, ge=1)
    save_every: int = Field(500, ge=1)
    save_minutes: float = Field(10.0, gt=0)

    aside: ClassVar[tuple[str, ...]] = ("log_every", "save_every", "save_minutes")

    @model_validator(mode="after")
    def _length(self) -> "Schedule":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        return self

    def loop(self, count: int, seed: int, validate_every: int = 0) -> LoopConfig:
        """The loop's settings for `count` items an epoch. Raises InputError where its one step would have rate 0."""
        steps = self.steps or max(1, math.ceil((self.epochs or 0) * (count // self.batch)))
        if steps == 1 and self.warmup:
            raise InputError(
                f"{count:,} items in batches of {self.batch:,} make one step, in which warmup {self.warmup:g} leaves a "
                "learning rate of 0: nothing would be learned. Take a smaller batch, more epochs, or warmup 0."
            )
        names = ("learning_rate", "warmup", "weight_decay", "clip", "log_every", "save_every", "save_minutes")
        same = {name: getattr(self, name) for name in names}
        return LoopConfig(steps=steps, seed=seed, validate_every=validate_every, **same)

    @property
    def length_in_words(self) -> str:
        """Such as `2,000 steps of 32`."""
        if self.steps:
            length = f"{self.steps:,} step{'s' * (self.steps > 1)}"
        else:
            length = f"{self.epochs:g} epoch{'s' * (self.epochs != 1)}"
        return f"{length} of {self.batch:,}"
