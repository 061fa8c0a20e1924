"""Training examples: queries, what answers them, what was mined for them, and what a step picks of it."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harness.models.training.tokens import Ragged, Tokens

AUTO = 0.0  # of a temperature or a scale: to be set at step 0


@dataclass(frozen=True)
class Examples:
    """Training queries and what is known of them; passages are rows of `passages`."""

    queries: Tokens
    passages: Tokens
    positives: Ragged  # rows that answer each query
    negatives: Ragged | None = None  # rows mined for each query, none of them positive
    teacher: Ragged | None = None  # of each query, the teacher's scores: its positives', then its negatives'

    @cached_property
    def _known(self) -> npt.NDArray[np.int64]:
        """Every (query, positive) as one number, ascending."""
        owners = np.repeat(np.arange(len(self.queries)), self.positives.lengths)
        return np.sort(owners * len(self.passages) + self.positives.flat)

    def answers(self, numbers: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which passages `columns` [N] are known to answer which queries `numbers` [q]: [q,N]."""
        keys = numbers[:, None] * len(self.passages) + columns
        place = np.searchsorted(self._known, keys).clip(max=len(self._known) - 1)
        return np.asarray(self._known[place] == keys)

    def pick(self, config: "FinetuneConfig", step: int, number: int) -> "Pick":
        """One positive and n negatives of query `number` at a step: a pure function of its arguments and the seed."""
        draw = np.random.default_rng([config.seed, step, number])
        positives = self.positives[number]
        place = int(draw.integers(len(positives)))
        rows = positives[place : place + 1].astype(np.int64)
        taken = np.empty(0, dtype=np.int64)
        if config.negatives and self.negatives is not None:
            negatives = self.negatives[number]
            taken = draw.choice(len(negatives), config.negatives, replace=False)
            rows = np.concatenate((rows, negatives[taken]))
        if not config.distil or self.teacher is None:
            return Pick(rows, np.empty(0, dtype=np.float32))
        return Pick(rows, self.teacher[number][np.concatenate(([place], len(positives) + taken))])


class Pick(NamedTuple):
    """What a step sees of one query."""

    rows: npt.NDArray[np.int64]  # [1+n] its positive and its negatives
    teacher: npt.NDArray[np.float32]  # [1+n] the teacher's scores of them, or [0]


@dataclass(frozen=True)
class FinetuneConfig:
    """Which loss, on what batch.

    `queries` of a global step, shared out among the processes; `negatives` mined ones of each query. `distil` learns
    from the teacher's scores instead (by `distillation`), plus `contrastive_weight` times the contrastive loss.
    `each_half` times the contrastive losses of either half by itself are added for a hybrid. `chunk` texts are encoded
    at once with a gradient. `temperature` and `lexical_scale` are AUTO or given.
    """

    queries: int
    negatives: int = 0
    distil: bool = False
    contrastive_weight: float = 0.0
    each_half: float = 0.0
    chunk: int = 256
    temperature: float = AUTO
    lexical_scale: float = AUTO
    seed: int = 0
    distillation: str = "kl"  # or margin_mse


def check(examples: Examples, config: FinetuneConfig) -> None:
    """Raise ValueError where `examples` lack what `config` asks of them."""
    count = len(examples.queries)
    if config.queries > count:
        raise ValueError(f"a batch of {config.queries:,} queries was asked for, and there are {count:,}")
    empty = examples.positives.lengths == 0
    if empty.any():
        raise ValueError(
            f"{int(empty.sum()):,} training queries have no positive, the first is number {empty.argmax()}"
        )
    if config.negatives:
        if examples.negatives is None:
            raise ValueError(f"{config.negatives} negatives of each query were asked for, and none were mined")
        few = examples.negatives.lengths < config.negatives
        if few.any():
            least = int(examples.negatives.lengths.min())
            raise ValueError(
                f"{config.negatives} negatives of each query were asked for; {int(few.sum()):,} of {count:,} queries "
                f"have fewer, the least {least}; a mining stage fills them up with `least`"
            )
    if not config.distil:
        return
    if examples.teacher is None:
        raise ValueError("distillation was asked for, and there are no scores of a teacher")
    if examples.negatives is None or not config.negatives:
        raise ValueError("distillation was asked for without negatives, and one passage has nothing to be told from")
    odd = examples.teacher.lengths != examples.positives.lengths + examples.negatives.lengths
    if odd.any():
        raise ValueError(
            f"the teacher must have scored each query's positives and negatives; for {int(odd.sum()):,} of {count:,} "
            f"queries the numbers differ, the first is number {odd.argmax()}"
        )
