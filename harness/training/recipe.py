"""The schema of a training recipe: a base, collections, and stages in order."""

import math
import re
from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from harness.models.pretraining.config import PretrainConfig
from harness.models.training.config import LoopConfig
from harness.training.recipe_data import Corpora, Data, Strict

# the fields of BertConfig that shape or train the model
_BERT = {
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"),
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "max_position_embeddings", "type_vocab_size"),
    *("initializer_range", "layer_norm_eps"),
}
_NAME = r"\w[\w-]*"


class Base(Strict):
    """What the first stage starts from: a checkpoint, or `model` (fields of BertConfig) and a vocabulary of its own."""

    checkpoint: str | None = None
    model: dict[str, int | float | str] | None = None
    vocabulary: int = Field(30_522, ge=64, le=65_535)

    @model_validator(mode="after")
    def _one(self) -> "Base":
        if (self.checkpoint is None) == (self.model is None):
            raise ValueError("give either checkpoint, or model (and vocabulary) to train from scratch")
        if unknown := sorted(self.model.keys() - _BERT if self.model else ()):
            raise ValueError(f"model: unknown {', '.join(unknown)}; there is {', '.join(sorted(_BERT))}")
        return self


class Schedule(Strict):
    """How long and how fast; `batch` is of all processes together."""

    steps: int | None = Field(None, ge=1, strict=True)
    epochs: float | None = Field(None, gt=0)
    batch: int = Field(ge=1, strict=True)
    learning_rate: float = Field(gt=0, le=1, allow_inf_nan=False)
    warmup: float = Field(0.0, ge=0, le=1)
    weight_decay: float = Field(0.0, ge=0)
    clip: float = Field(1.0, gt=0)
    log_every: int = Field(10, ge=1)
    save_every: int = Field(500, ge=1)

    @model_validator(mode="after")
    def _length(self) -> "Schedule":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        return self

    def loop(self, count: int, seed: int, validate_every: int = 0) -> LoopConfig:
        """The loop's settings for `count` items an epoch."""
        steps = self.steps or max(1, math.ceil((self.epochs or 0) * (count // self.batch)))
        names = ("learning_rate", "warmup", "weight_decay", "clip", "log_every", "save_every")
        same = {name: getattr(self, name) for name in names}
        return LoopConfig(steps=steps, seed=seed, validate_every=validate_every, **same)


class Objective(Strict):
    """The pre-training objective: a preset, and what differs from it."""

    preset: Literal["paper", "official"] = "paper"
    kind: Literal["DupMAE", "RetroMAE"] = "DupMAE"
    change: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _possible(self) -> "Objective":
        there = {field.name for field in fields(PretrainConfig)} - {"kind"}
        if unknown := sorted(self.change.keys() - there):
            raise ValueError(f"change: unknown {', '.join(unknown)}; there is {', '.join(sorted(there))}")
        try:
            self.config()
        except TypeError as error:  # a value of a type that cannot even be compared
            raise ValueError(f"change: {error}") from error
        return self

    def config(self) -> PretrainConfig:
        """As the models take it."""
        make = PretrainConfig.paper if self.preset == "paper" else PretrainConfig.official
        lists = {name: tuple(value) if isinstance(value, list) else value for name, value in self.change.items()}
        return make(self.kind, **lists)


class Pretrain(Schedule):
    """RetroMAE or DupMAE pre-training."""

    kind: Literal["pretrain"]
    objective: Objective = Objective()
    corpora: Corpora = ()  # data.corpora where empty
    length: int = Field(ge=8)  # tokens, special ones included
    long_texts: Literal["cut", "split"] = "cut"
    micro_batch: int = Field(ge=1)  # texts encoded at once on a device; masks are drawn for it


Auto = Annotated[float, Field(gt=0)] | Literal["auto"]


class Finetune(Schedule):
    """One of the three fine-tuning stages, by what it has: in-batch, + mined negatives, + distillation."""

    kind: Literal["finetune"]
    train: tuple[str, ...] = ()  # data.train where empty
    dense: int | None = Field(None, ge=0)  # the stage's before, or the hidden width
    lexical: int | None = Field(None, ge=0)
    negatives: int = Field(0, ge=0)
    distil: bool = False
    contrastive_weight: float = Field(0.0, ge=0)
    each_half: float = Field(0.0, ge=0)  # times the contrastive losses of either half alone, added
    temperature: Auto = "auto"
    lexical_scale: Auto = "auto"
    query_length: int = Field(32, ge=3)
    passage_length: int = Field(144, ge=3)
    chunk: int = Field(256, ge=1)
    validate_every: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _possible(self) -> "Finetune":
        if self.dense == 0 and self.lexical == 0:
            raise ValueError("dense and lexical are both 0: a vector needs one half at least")
        if self.batch < 2:
            raise ValueError(f"batch is {self.batch}; the other passages of a batch are negatives, so 2 at least")
        if self.train and self.negatives:
            raise ValueError("train: negatives are mined for data.train; leave train out, or negatives")
        return self


class Mine(Strict):
    """Negatives for the stages after it, by the model so far or another retriever."""

    kind: Literal["mine"]
    retriever: str = "model"
    depth: int = Field(200, ge=1)
    least: int = Field(0, ge=0)  # a query with fewer gets documents drawn at random until it has so many


class Teacher(Schedule):
    """A cross-encoder on the mined negatives."""

    kind: Literal["teacher"]
    start_from: str = "base"  # a stage of this recipe, `base`, a folder or a hub id
    negatives: int = Field(ge=1)
    length: int = Field(ge=8)
    chunk: int = Field(1, ge=1)  # queries at once


class Score(Strict):
    """The teacher's scores of each training query's positives and `candidates` of its mined negatives, cached."""

    kind: Literal["score"]
    candidates: int = Field(ge=1)


class Weigh(Strict):
    """The scale of the lexical half, chosen on held-out collections; see `harness.training.stages.weigh`."""

    kind: Literal["weigh"]
    collections: tuple[str, ...] = Field(min_length=1)
    metric: Literal["MRR@10", "NDCG@10"] = "MRR@10"  # its mean over the collections decides
    # times the scale as it was; half a power of 2 apart
    factors: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = Field(
        tuple(2 ** (n / 2) for n in range(-6, 13)), min_length=1
    )


ENCODERS = ("pretrain", "finetune", "weigh")  # the kinds that leave one
Stage = Annotated[Pretrain | Finetune | Mine | Teacher | Score | Weigh, Field(discriminator="kind")]


class Recipe(Strict):
    """Stages in order, each starting from the ones before."""

    name: str
    description: str = ""
    seed: int = Field(42, ge=0, lt=2**63)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    root: str | None = None
    system: str = "dupmae"  # the retriever that the checkpoints are run as
    base: Base
    data: Data
    stages: dict[str, Stage] = Field(min_length=1)

    @model_validator(mode="after")
    def _order(self) -> "Recipe":
        wrong = []
        seen: set[str] = set()
        if not re.fullmatch(_NAME, self.name):
            wrong.append(f"name: {self.name!r} is not a plain name; take letters, digits, - and _")
        for name, stage in self.stages.items():
            if not re.fullmatch(_NAME, name) or name in {*Recipe.model_fields, "results"}:
                wrong.append(f"stages.{name}: not a name for a stage; take letters, digits, - and _")
            if isinstance(stage, Pretrain) and not (stage.corpora or self.data.corpora):
                wrong.append(f"stages.{name}: there are no corpora, neither here nor in data")
            if not isinstance(stage, Pretrain | Weigh) and not self.trains_on(stage):
                wrong.append(f"stages.{name}: data.train names no collection")
            if missing := [kind for kind in _needs(stage) if kind not in seen]:
                wrong.append(f"stages.{name}: needs a stage of kind {', '.join(missing)} before it")
            seen.add(stage.kind)
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def trains_on(self, stage: "Stage") -> tuple[str, ...]:
        """The collections whose queries a stage learns from; none for pre-training and weighing."""
        if isinstance(stage, Pretrain | Weigh):
            return ()
        return (isinstance(stage, Finetune) and stage.train) or self.data.train


def _needs(stage: Stage) -> list[str]:
    if isinstance(stage, Finetune):
        return ["mine", "teacher", "score"] if stage.distil else ["mine"] if stage.negatives else []
    if isinstance(stage, Teacher):
        return ["mine"]
    if isinstance(stage, Score):
        return ["mine", "teacher"]
    own = isinstance(stage, Mine) and stage.retriever == "model"
    return ["finetune"] if own or isinstance(stage, Weigh) else []
