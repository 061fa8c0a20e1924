"""The stage `pretrain`: RetroMAE or DupMAE from the masked-LM so far."""

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from harness.models.pretraining.config import PretrainConfig
from harness.retrievers.errors import InputError
from harness.training.recipe_data import Corpora, CorpusPart, Data, Strict
from harness.training.schedule import Rate, Schedule
from harness.training.stage import ENCODER, Facts, Outlook, register

if TYPE_CHECKING:
    from harness.models.training.tokens import Written
    from harness.training.context import Context

_AT_ONCE = 32  # texts of a micro-batch, where a recipe does not say


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
class Pretrain(Schedule):
    """RetroMAE or DupMAE pre-training."""

    kind: Literal["pretrain"]
    objective: Objective = Objective()
    corpora: Corpora = ()  # data.corpora where empty
    length: int | None = Field(None, ge=8)  # tokens, special ones included
    long_texts: Literal["cut", "split"] = "cut"
    learning_rate: Rate = 1e-4  # code, pre-training
    # texts encoded at once on a device; masks are drawn for it. None: as large as goes into a process's share, to 32
    micro_batch: int | None = Field(None, ge=1)
    # texts of so many batches are sorted, and those of near length share a micro-batch: less padding
    group_by_length: int | None = Field(None, ge=1)

    leaves = (ENCODER,)
    lengths = MappingProxyType({"length": 150})  # code, MS MARCO
    later = ("group_by_length",)
    on_words = True
    at_once = "micro_batch"

    def texts(self, data: Data) -> tuple[CorpusPart, ...]:
        """Its own corpora, else those of the recipe."""
        return self.corpora or data.corpora

    def wrong(self, data: Data) -> Iterator[str]:
        """There must be texts."""
        if not self.texts(data):
            yield "there are no corpora, neither here nor in data"

    def words(self) -> str:
        """The decoding tasks and how long."""
        return f"pre-train, {self.objective.config().tasks}, {self.length_in_words}"

    def left_open(self, outlook: Outlook) -> dict[str, Any]:
        """The length, and the micro-batch: the folder's where the stage has begun, else the largest that fits."""
        found = super().left_open(outlook)
        if self.micro_batch is None:
            share = max(1, self.batch // outlook.processes)
            largest = max(size for size in range(1, min(_AT_ONCE, share) + 1) if share % size == 0)
            found["micro_batch"] = outlook.there.get("micro_batch") or largest
        return found

    def check_model(self, outlook: Outlook) -> Iterator[str]:
        """The batch is shared out among the processes in micro-batches; texts fit into the model."""
        if self.batch % outlook.processes:
            yield f"{outlook.name}: a batch of {self.batch} texts cannot be shared out among {outlook.on_processes}"
        elif self.batch % (self.settled("micro_batch") * outlook.processes):
            yield (
                f"{outlook.name}: a batch of {self.batch} is no multiple of micro-batches of {self.micro_batch} on "
                f"{outlook.on_processes}"
            )
        from harness.models.layers.families import FAMILIES

        if outlook.family not in FAMILIES:
            known = ", ".join(FAMILIES)
            yield f"{outlook.name}: the base is a {outlook.family!r} model, and pre-training knows {known}"
        elif not outlook.head:
            yield f"{outlook.name}: pre-training begins with a masked-LM, and the base has no masked-LM head"
        yield from outlook.too_long(length=self.settled("length"))

    def run(self, context: "Context", name: str, folder: Path) -> Facts:
        """Pre-train the masked-LM so far. Raises InputError for a corpus, a length or a batch that cannot be."""
        import torch

        from harness.models import hybrid
        from harness.models.checkpoints import checkpoint
        from harness.models.hybrid import HybridSpec
        from harness.models.pretraining.mae import DupMAE, RetroMAE
        from harness.models.pretraining.masking import Collator, Vocabulary
        from harness.models.pretraining.task import PretrainTask
        from harness.models.training.seeds import mixed
        from harness.training.base_model import load_masked_lm
        from harness.training.context import added, choose_attention, fit_stage, sound
        from harness.training.student import special_ids

        model, tokenizer = load_masked_lm(context.encoder)
        vocabulary = sound(name, lambda: Vocabulary.of(tokenizer))
        special_ids(tokenizer, context.encoder)
        written = self._tokens(context, tokenizer, vocabulary.continues is None)
        texts = written.tokens
        config = self.objective.config()
        torch.manual_seed(mixed(context.recipe.seed, 1))
        module = (DupMAE if config.kind == "DupMAE" else RetroMAE)(model, config)
        module.decoder.written_out = choose_attention(context, model, self.settled("length"))
        collator = Collator(vocabulary, config, self.settled("length"), context.recipe.seed)
        task = sound(
            name,
            lambda: PretrainTask(
                module,
                texts,
                collator,
                self.batch,
                self.settled("micro_batch"),
                **context.share,
                group_by_length=self.group_by_length,
                starts=written.starts,
            ),
        )
        settings = self.loop(len(texts), context.recipe.seed)
        settings = replace(settings, validate_every=max(1, settings.steps // 20))
        fit_stage(context, name, task, settings, folder)
        if context.main:
            # runs as its CLS vector; --lexical adds the other half, which nothing has weighed against it yet
            spec = HybridSpec(query_length=min(32, self.settled("length")), passage_length=self.settled("length"))
            learned = (hybrid.read(context.encoder) or HybridSpec()).learned
            learned["pretraining"] = config.tasks
            learned["pretrained_on"] = added(learned, "pretrained_on", self._shown(context.recipe.data))
            checkpoint.save(folder, model, tokenizer, spec.replace(trained=context.trained(name, learned)))
        return {"steps": settings.steps, "texts": len(texts)}

    def _shown(self, data: Data) -> list[str]:
        return [part.shown for part in self.texts(data)]

    def _tokens(self, context: "Context", tokenizer: Any, words: bool) -> "Written":
        """The tokenised corpora, cached, with word starts if `words`; what is too short to learn from is left out."""
        from harness.models.training import tokens
        from harness.runtime.hashing import digest
        from harness.training.context import vocabulary_hash
        from harness.training.data import corpora

        parts = self.texts(context.recipe.data)
        label = [vocabulary_hash(tokenizer), self.length, self.long_texts]
        key = digest([label, context.stamp(parts)])
        with context.accelerator.main_process_first(), context.job.phase("tokenise", None, "texts") as meter:
            found = tokens.write(
                context.job.cache / "tokens" / key,
                tokenizer,
                (text for part in parts for text in corpora.texts(part, context.recipe.place(part.name))),
                self.settled("length") - 2,
                shortest=2,
                split=self.long_texts == "split",
                words=words,
                done=meter.advance,
            )
        names = ", ".join(part.name for part in parts)
        if found.left_out and context.main:
            context.job.warn(f"{names}: {found.left_out:,} texts of fewer than two tokens left out")
        if not len(found.tokens):
            raise InputError(
                f"the corpora {names} hold no text of two tokens or more: nothing can be learned from them."
            )
        return found
