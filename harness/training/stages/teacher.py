"""The stage `teacher`: a cross-encoder, trained on the mined negatives."""

from collections.abc import Container, Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from harness.retrievers.errors import InputError
from harness.training.schedule import Rate, Schedule
from harness.training.stage import NEGATIVES, TEACHER, Facts, Outlook, register

if TYPE_CHECKING:
    from harness.training.context import Context


@register
class Teacher(Schedule):
    """A cross-encoder on the mined negatives."""

    kind: Literal["teacher"]
    start_from: str = "base"  # a stage of this recipe, `base`, a folder or a hub id
    negatives: int = Field(ge=1)
    length: int | None = Field(None, ge=8)
    learning_rate: Rate = 1e-5  # code, reranker
    chunk: int = Field(1, ge=1)  # queries at once

    leaves = (TEACHER,)
    lengths = MappingProxyType({"length": 200})  # code, reranker
    aside = (*Schedule.aside, "chunk")
    at_once = "chunk"
    on_queries = True

    def needs(self) -> tuple[str, ...]:
        """What it tells from the positives."""
        return (NEGATIVES,)

    def words(self) -> str:
        """From what, on how many negatives, and how long."""
        negatives = f"{self.negatives} negative{'s' * (self.negatives > 1)}"
        return f"train a cross-encoder from {self.start_from}, {negatives}, {self.length_in_words}"

    def check_names(self, outlook: Outlook) -> None:
        """A stage of the recipe that it starts from must leave an encoder, and come before it."""
        if self.start_from in outlook.stages and self.start_from not in outlook.encoders:
            raise InputError(
                f"{outlook.name}.start_from is {self.start_from}, which leaves no encoder before it; there is "
                f"{', '.join(outlook.encoders)}, or a folder or hub id."
            )

    def left_open(self, outlook: Outlook) -> dict[str, Any]:
        """The length, which the base's positions limit only where it starts from a model of the recipe's own."""
        return super().left_open(outlook if self._starts_here(outlook.stages) else replace(outlook, positions=0))

    def _starts_here(self, stages: Container[str]) -> bool:
        return self.start_from == "base" or self.start_from in stages

    def check_model(self, outlook: Outlook) -> Iterator[str]:
        """The batch is shared out among the processes in chunks; texts fit into a model of the recipe's own."""
        if self.batch % (self.chunk * outlook.processes):
            yield (
                f"{outlook.name}: a batch of {self.batch} queries is no multiple of {self.chunk} at once on "
                f"{outlook.on_processes}"
            )
        if self._starts_here(outlook.stages):
            yield from outlook.too_long(length=self.settled("length"))

    def check_examples(self, outlook: Outlook) -> Iterator[str]:
        """There must be so many queries and negatives."""
        yield from outlook.too_few(self.batch, self.negatives, outlook.data.train)

    def run(self, context: "Context", name: str, folder: Path) -> Facts:
        """Train a cross-encoder on the mined negatives."""
        from harness.models.checkpoints import hub
        from harness.models.cross_encoder import teacher as cross_encoder
        from harness.models.finetuning.examples import FinetuneConfig
        from harness.models.training.seeds import mixed
        from harness.training.context import fit_stage, sound, token_pairs
        from harness.training.data.collections import examples
        from harness.training.stage_outputs import read_negatives
        from harness.training.student import special_ids

        length = self.settled("length")
        ours = self._starts_here(context.recipe.stages)
        source = context.place(self.start_from) if ours else hub.locate(self.start_from)
        module = cross_encoder.load(source, mixed(context.recipe.seed, 3))
        tokenizer = cross_encoder.tokenizer(source)
        texts = token_pairs(context, context.training, tokenizer, length // 2, length)
        data = examples(context.training, texts, read_negatives(context.left(NEGATIVES)))
        config = FinetuneConfig(self.batch, self.negatives, chunk=self.chunk, seed=context.recipe.seed)
        joiner = cross_encoder.Joiner(special_ids(tokenizer, source), length)
        task = sound(name, lambda: cross_encoder.CrossTask(module, data, config, joiner, **context.share))
        settings = self.loop(len(data.queries), context.recipe.seed)
        fit_stage(context, name, task, settings, folder)
        if context.main:
            cross_encoder.save(folder, module, tokenizer, length)
        return {"steps": settings.steps, "queries": len(data.queries)}
