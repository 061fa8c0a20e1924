"""The settings of the training loop; a module of its own, since recipes need it without torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast: AdamW, a linear warm-up, then linear decay to 0.

    `warmup` is a share of the steps; `clip` the greatest gradient norm; weight decay spares biases and LayerNorm.
    """

    steps: int
    learning_rate: float
    warmup: float = 0.1
    weight_decay: float = 0.0
    clip: float = 1.0
    seed: int = 0
    log_every: int = 10
    save_every: int = 500
    save_minutes: float = 10.0  # since the state was last saved, whichever comes first
    validate_every: int = 0  # 0 is at the end only
