"""The stage `pretrain`: RetroMAE or DupMAE from the masked-LM so far."""

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from harness.models.pretraining.config import PretrainConfig
from harness.training.on_texts import OnTexts
from harness.training.recipe_data import Strict
from harness.training.stage import Facts, Outlook, register

if TYPE_CHECKING:
    from harness.training.context import Context


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


@register
class Pretrain(OnTexts):
    """RetroMAE or DupMAE pre-training."""

    kind: Literal["pretrain"]
    objective: Objective = Objective()
    # what the decoder rebuilds a text from; None is as the encoder before says, in the end the base's files
    pooling: Literal["cls", "mean"] | None = None

    later = (*OnTexts.later, "pooling")
    on_words = True

    def words(self) -> str:
        """The decoding tasks and how long."""
        return f"pre-train, {self.objective.config().tasks}, {self.length_in_words}"

    def check_model(self, outlook: Outlook) -> Iterator[str]:
        """As of any stage on texts; and there must be a masked-LM head."""
        yield from super().check_model(outlook)
        if not outlook.head:
            yield (
                f"{outlook.name}: pre-training begins with a masked-LM, and the base has no masked-LM head; a stage "
                "`kind: warm_head` before it makes one"
            )

    def run(self, context: "Context", name: str, folder: Path) -> Facts:
        """Pre-train the masked-LM so far. Raises InputError for a corpus, a length or a batch that cannot be."""
        import torch

        from harness.models import hybrid
        from harness.models.checkpoints import checkpoint
        from harness.models.hybrid import HybridSpec
        from harness.models.pretraining.mae import DupMAE, RetroMAE
        from harness.models.training.seeds import mixed
        from harness.training.base_model import load_masked_lm
        from harness.training.context import added, choose_attention, fit_stage

        model, tokenizer = load_masked_lm(context.encoder)
        before = hybrid.read(context.encoder) or HybridSpec()
        pooling = self.pooling or before.pooling
        config = self.objective.config()
        torch.manual_seed(mixed(context.recipe.seed, 1))
        module = (DupMAE if config.kind == "DupMAE" else RetroMAE)(model, config, pooling)
        module.decoder.written_out = choose_attention(context, model, self.settled("length"))
        task = self.task(context, name, module, config, tokenizer)
        texts = len(task.tokens)
        settings = self.loop(texts, context.recipe.seed)
        settings = replace(settings, validate_every=max(10, settings.steps // 20))  # it encodes 256 texts
        fit_stage(context, name, task, settings, folder)
        if context.main:
            # runs as its dense vector; --lexical adds the other half, which nothing has weighed against it yet
            learned = before.learned
            learned["pretraining"] = config.tasks
            learned["pretrained_on"] = added(learned, "pretrained_on", self.shown(context.recipe.data))
            spec = HybridSpec(
                pooling=pooling,
                similarity=before.similarity,
                query_prefix=before.query_prefix,
                passage_prefix=before.passage_prefix,
                query_length=min(32, self.settled("length")),
                passage_length=self.settled("length"),
                trained=context.trained(name, learned),
            )
            checkpoint.save(folder, model, tokenizer, spec)
        return {"steps": settings.steps, "texts": texts}
