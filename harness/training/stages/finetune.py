"""The stage `finetune`: the hybrid score, in-batch, with hard negatives or by distillation."""

from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from harness.reports.ablation.rows import label
from harness.training.recipe_data import Data, Names
from harness.training.schedule import Rate, Schedule
from harness.training.stage import ENCODER, FINE_TUNED, NEGATIVES, SCORES, Facts, Outlook, register, settings_in_words

if TYPE_CHECKING:
    from harness.training.context import Context

Auto = Annotated[float, Field(gt=0)] | Literal["auto"]


@register
class Finetune(Schedule):
    """One of the three fine-tuning stages, by what it has: in-batch, + mined negatives, + distillation."""

    kind: Literal["finetune"]
    train: Names = ()  # data.train where empty
    dense: int | None = Field(None, ge=0)  # the stage's before, or the hidden width
    lexical: int | None = Field(None, ge=0)
    negatives: int = Field(0, ge=0)
    distil: bool = False
    contrastive_weight: float = Field(0.0, ge=0)
    each_half: float = Field(0.0, ge=0)  # times the contrastive losses of either half alone, added
    temperature: Auto = "auto"
    lexical_scale: Auto = "auto"
    learning_rate: Rate = 2e-5  # code, fine-tuning
    query_length: int | None = Field(None, ge=3)
    passage_length: int | None = Field(None, ge=3)
    query_prefix: str | None = None  # of these three None is as the encoder before says, in the end the base's files
    passage_prefix: str | None = None
    similarity: Literal["dot", "cosine"] | None = None
    distillation: Literal["kl", "margin_mse"] | None = None  # kl, equation 15, unless given
    frozen: bool | None = None  # whether the encoder stays as it is, and the masked-LM head alone learns
    chunk: int = Field(256, ge=1)
    validate_every: int = Field(0, ge=0)

    leaves = (ENCODER, FINE_TUNED)
    lengths = MappingProxyType({"query_length": 32, "passage_length": 144})  # code, fine-tuning
    aside = (*Schedule.aside, "chunk")
    later = ("query_prefix", "passage_prefix", "similarity", "distillation", "frozen")
    at_once = "chunk"
    on_queries = True

    @model_validator(mode="after")
    def _possible(self) -> "Finetune":
        if self.dense == 0 and self.lexical == 0:
            raise ValueError("dense and lexical are both 0: a vector needs one half at least")
        if self.batch < 2:
            raise ValueError(f"batch is {self.batch}; the other passages of a batch are negatives, so 2 at least")
        if self.distillation and not self.distil:
            raise ValueError(
                f"distillation is {self.distillation}, and distil is false: there is no teacher to learn from"
            )
        if self.frozen and self.lexical == 0:
            raise ValueError("frozen with lexical 0: nothing is left to learn")
        if self.train and self.negatives:
            raise ValueError("train: negatives are mined for data.train; leave train out, or negatives")
        return self

    def needs(self) -> tuple[str, ...]:
        """The teacher's scores where it distils, else negatives where it takes some."""
        return (SCORES,) if self.distil else (NEGATIVES,) if self.negatives else ()

    def learns_from(self, data: Data) -> tuple[str, ...]:
        """Its own collections, else those of the recipe."""
        return self.train or data.train

    def words(self) -> str:
        """The widths, the negatives, and how long."""
        how = f"{self.negatives} hard negative{'s' * (self.negatives > 1)}" if self.negatives else "in-batch"
        taught = ", distillation" if self.distil else ""
        data = f" on {', '.join(self.train)}" if self.train else ""
        widths = "" if self.dense is None or self.lexical is None else f" {label(self.dense, self.lexical)}"
        return ", ".join(
            [f"fine-tune{widths}, {how}{taught}{data}, {self.length_in_words}", *settings_in_words(self._chosen)]
        )

    def check_model(self, outlook: Outlook) -> Iterator[str]:
        """The batch is shared out among the processes; widths and texts fit into the model."""
        if self.batch % outlook.processes:
            yield f"{outlook.name}: a batch of {self.batch} queries cannot be shared out among {outlook.on_processes}"
        if self.dense is not None and self.dense > outlook.hidden:
            wide = f"the model is {outlook.hidden} wide, and a projection only narrows it"
            yield f"{outlook.name}.dense is {self.dense}; {wide}"
        if outlook.projection and self.dense and self.dense != outlook.projection:
            before = f"the stages before it have a projection to {outlook.projection}"
            yield f"{outlook.name}.dense is {self.dense}; {before}"
        if not outlook.projection and self.dense not in (None, 0, outlook.hidden):
            if self.frozen:
                wide = f"the model is {outlook.hidden} wide and has no projection"
                yield f"{outlook.name}: frozen with dense {self.dense}; {wide}, and a new one would stay as it is drawn"
            outlook.projection = self.dense
        if self.lexical and not outlook.head:
            yield (
                f"{outlook.name}.lexical is {self.lexical}; a lexical half is made of a masked-LM head's logits, and "
                "the base has none"
            )
        if self.lexical and outlook.vocabulary and self.lexical > outlook.vocabulary:
            yield f"{outlook.name}.lexical is {self.lexical:,}; the model has {outlook.vocabulary:,} terms"
        yield from outlook.too_long(**{name: self.settled(name) for name in self.lengths})

    def check_examples(self, outlook: Outlook) -> Iterator[str]:
        """There must be so many queries and negatives."""
        yield from outlook.too_few(self.batch, self.negatives, self.learns_from(outlook.data))

    def run(self, context: "Context", name: str, folder: Path) -> Facts:
        """Fine-tune the encoder so far on the hybrid score. Raises InputError where examples lack what it asks for."""
        from harness.models import hybrid
        from harness.models.checkpoints import checkpoint
        from harness.models.finetuning.biencoder import BiEncoder
        from harness.models.finetuning.examples import AUTO, FinetuneConfig
        from harness.models.hybrid import HybridSpec
        from harness.models.training.seeds import mixed
        from harness.training.context import added, choose_attention, fit_stage, sound, token_pairs
        from harness.training.data import pseudo_queries
        from harness.training.data.collections import examples
        from harness.training.stage_outputs import read_negatives, read_scores
        from harness.training.student import load_student, special_ids
        from harness.training.validation import Validated, Validator

        recipe = context.recipe
        query_length, passage_length = self.settled("query_length"), self.settled("passage_length")
        before = hybrid.read(context.encoder) or HybridSpec()
        student = load_student(
            context.encoder,
            self.dense,
            self.lexical,
            query_length,
            passage_length,
            mixed(recipe.seed, 2),
            self.query_prefix,
            self.passage_prefix,
            self.similarity,
        )
        spec = student.spec
        training = context.opened(self.learns_from(recipe.data))
        texts = token_pairs(
            context,
            training,
            student.tokenizer,
            query_length - 2,
            passage_length - 2,
            spec.query_prefix,
            spec.passage_prefix,
        )
        negatives, teacher = None, None
        if self.distil:
            negatives, teacher = read_scores(context.left(SCORES))
        elif self.negatives:
            negatives = read_negatives(context.left(NEGATIVES))
        # the temperature and the scale that an earlier fine-tuning set, here or of the base, stay, unless others are
        # given, or they are of scores that spread otherwise
        tuned = context.latest.get(FINE_TUNED) == context.encoder
        if ENCODER not in context.latest:
            tuned = recipe.keeps_base and "finetuned_on" in before.trained
        again = tuned and (before.both, before.similarity) == (spec.both, spec.similarity)
        config = FinetuneConfig(
            queries=self.batch,
            negatives=self.negatives,
            distil=self.distil,
            contrastive_weight=self.contrastive_weight,
            each_half=self.each_half,
            chunk=self.chunk,
            temperature=_number(self.temperature, spec.temperature if again else AUTO),
            lexical_scale=_number(self.lexical_scale, spec.lexical_scale if again else AUTO),
            seed=recipe.seed,
            distillation=self.distillation or "kl",
        )
        choose_attention(context, student.model, max(query_length, passage_length))
        module = BiEncoder(student.encoder, frozen=bool(self.frozen))
        pairs = examples(training, texts, negatives, teacher)
        special = special_ids(student.tokenizer, context.encoder)
        task = sound(name, lambda: Validated(module, pairs, config, special, **context.share))
        settings = self.loop(len(pairs.queries), recipe.seed, self.validate_every)
        if recipe.data.validate_on and context.main:
            held_out = Validator(context.dataset(recipe.data.validate_on), recipe.data.validation_documents)
            task.hold_out(held_out, student)
        alone = self.distil and not self.contrastive_weight  # its loss is of the teacher's scores
        fit_stage(context, name, task, settings, folder, None if alone else self.batch * (1 + self.negatives))
        if context.main:
            learned = spec.learned
            pseudo = recipe.data.pseudo
            sets = [
                shown
                for one in self.learns_from(recipe.data)
                for shown in (pseudo_queries.names(pseudo[one]) if one in pseudo else (one,))
            ]
            learned["finetuned_on"] = added(learned, "finetuned_on", sets)
            learned["finetuned_as"] = [spec.dense, spec.lexical]
            final = spec.replace(trained=context.trained(name, learned), **task.extra())
            checkpoint.save(folder, student.model, student.tokenizer, final, student.encoder.projection)
        return {"steps": settings.steps, "queries": len(pairs.queries), **task.extra()}


def _number(value: Any, automatic: float) -> float:
    return automatic if value == "auto" else float(value)
