"""The schema of a training recipe: a base, collections, and stages in order."""

import re
from collections.abc import Mapping
from itertools import takewhile
from typing import Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field, PrivateAttr, SerializeAsAny, model_validator

from harness.training import stage as stages_there
from harness.training.recipe_data import CorpusPart, Data, Strict
from harness.training.stage import ENCODER, FINE_TUNED, HYBRID, Stage, said

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


Kind = TypeVar("Kind", bound=Stage)


class Recipe(Strict):
    """Stages in order, each starting from the ones before."""

    name: str
    description: str = ""
    seed: int = Field(42, ge=0, lt=2**63)
    pretraining_seed: int | None = Field(None, ge=0, lt=2**63)  # before queries are learned from; None: `seed`
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    root: str | None = None
    system: str = "dupmae"  # the retriever that the checkpoints are run as
    base: Base
    data: Data
    stages: dict[str, Annotated[SerializeAsAny[Stage], BeforeValidator(stages_there.of)]] = Field(min_length=1)
    _places: dict[str, str] = PrivateAttr(default_factory=dict)  # takes part in `==`, as private attributes do

    @model_validator(mode="after")
    def _order(self) -> "Recipe":
        wrong = []
        left: set[str] = set()
        if not re.fullmatch(_NAME, self.name):
            wrong.append(f"name: {self.name!r} is not a plain name; take letters, digits, - and _")
        for name, stage in self.stages.items():
            if not re.fullmatch(_NAME, name):
                wrong.append(f"stages.{name}: not a name for a stage; take letters, digits, - and _")
            if name in {*Recipe.model_fields, "results"}:
                wrong.append(f"stages.{name}: not a name for a stage, since it means something else already")
            if stage.on_queries and not self.learns_from(stage):
                wrong.append(f"stages.{name}: data.train names no collection")
            wrong += [f"stages.{name}: {what}" for what in said(stage, "wrong", self.data)]
            for what in said(stage, "needs"):
                if what not in left:
                    others = [kind for kind in stages_there.who_leaves(what) if kind != stage.kind]
                    able = " or ".join(others) or "no kind"
                    wrong.append(f"stages.{name}: needs {what}, which no stage before it leaves ({able} would)")
            left |= {*stage.leaves} | ({HYBRID} if FINE_TUNED in stage.leaves else set())
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def seeded(self, stage: str | None) -> "Recipe":
        """The same recipe with the seed that a stage of it has, or the base (None)."""
        until = takewhile(lambda each: not self.stages[each].on_queries, self.stages)
        if self.pretraining_seed is None or stage not in {None, *until}:
            return self
        return self.model_copy(update={"seed": self.pretraining_seed})

    def of_kind(self, kind: type[Kind]) -> dict[str, Kind]:
        """The stages of one kind, by name, in order."""
        return {name: stage for name, stage in self.stages.items() if isinstance(stage, kind)}

    def learns_from(self, stage: Stage) -> tuple[str, ...]:
        """The collections whose queries a stage learns from."""
        return tuple(said(stage, "learns_from", self.data))

    def chooses_by(self, stage: Stage) -> tuple[str, ...]:
        """The collections by whose judgments a stage chooses."""
        return tuple(said(stage, "chooses_by", self.data))

    def texts(self, stage: Stage) -> tuple[CorpusPart, ...]:
        """The corpora that a stage learns from."""
        return tuple(said(stage, "texts", self.data))

    @property
    def keeps_base(self) -> bool:
        """Whether the first stage that changes the base goes on from the vectors that it makes."""
        first = next((stage for stage in self.stages.values() if ENCODER in stage.leaves), None)
        return first is not None and not first.on_words

    @property
    def corpora(self) -> list[CorpusPart]:
        """All corpora: those to pre-train on, and those that pseudo-queries are made of."""
        of_stages = (part for stage in self.stages.values() for part in self.texts(stage))
        made_of = (part for pseudo in self.data.pseudo.values() for part in pseudo.corpora)
        return list(dict.fromkeys([*self.data.corpora, *of_stages, *made_of]))

    @property
    def collections(self) -> list[str]:
        """The names of all collections; those of pseudo-queries, which are made, are left out."""
        data = self.data
        own = (name for s in self.stages.values() for name in (*self.learns_from(s), *self.chooses_by(s)))
        held_out = [data.validate_on] if data.validate_on else []
        names = dict.fromkeys([*data.train, *own, *data.evaluate, *held_out])
        return [name for name in names if name not in data.pseudo]

    def place(self, name: str) -> str:
        """Where a corpus or a collection of the recipe lies, as the loader takes it."""
        return self._places.get(name, name)

    def placed(self, places: Mapping[str, str]) -> "Recipe":
        """The same recipe, which knows where its corpora and collections lie."""
        found = self.model_copy()
        found._places = dict(places)
        return found
