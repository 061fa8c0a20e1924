"""Settings of a stage that learns from plain texts, and how it comes by their tokens."""

from collections.abc import Iterator
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from harness.retrievers.errors import InputError
from harness.training.recipe_data import Corpora, CorpusPart, Data
from harness.training.schedule import Rate, Schedule
from harness.training.stage import ENCODER, Outlook, Stage

if TYPE_CHECKING:
    from harness.models.pretraining.config import PretrainConfig
    from harness.models.pretraining.task import PretrainTask
    from harness.training.context import Context

_AT_ONCE = 32  # texts of a micro-batch, where a recipe does not say


class ReadsTexts(Stage):
    """A stage that reads plain texts."""

    corpora: Corpora = ()  # data.corpora where empty

    def texts(self, data: Data) -> tuple[CorpusPart, ...]:
        """Its own corpora, else those of the recipe."""
        return self.corpora or data.corpora

    def wrong(self, data: Data) -> Iterator[str]:
        """There must be texts."""
        if not self.texts(data):
            yield "there are no corpora, neither here nor in data"


class OnTexts(ReadsTexts, Schedule):
    """Batches of masked texts, in micro-batches."""

    length: int | None = Field(None, ge=8)  # tokens, special ones included
    long_texts: Literal["cut", "split"] = "cut"
    learning_rate: Rate = 1e-4  # code, pre-training
    # texts encoded at once on a device; masks are drawn for it. None: as large as goes into a process's share, to 32
    micro_batch: int | None = Field(None, ge=1)
    # texts of so many batches are sorted, and those of near length share a micro-batch: less padding
    group_by_length: int | None = Field(None, ge=1)

    leaves = (ENCODER,)
    lengths: ClassVar = MappingProxyType({"length": 150})  # code, MS MARCO
    later: ClassVar[tuple[str, ...]] = ("group_by_length",)
    at_once = "micro_batch"

    def left_open(self, outlook: Outlook) -> dict[str, Any]:
        """The length, and the micro-batch: the folder's where the stage has begun, else the largest that fits."""
        found = super().left_open(outlook)
        if self.micro_batch is None:
            share = max(1, self.batch // outlook.processes)
            largest = max(size for size in range(1, min(_AT_ONCE, share) + 1) if share % size == 0)
            found["micro_batch"] = outlook.there.get("micro_batch") or largest
        return found

    def check_model(self, outlook: Outlook) -> Iterator[str]:
        """The batch is shared out among the processes in micro-batches; texts fit into the model, of a known family."""
        from harness.models.layers.families import FAMILIES

        if self.batch % outlook.processes:
            yield f"{outlook.name}: a batch of {self.batch} texts cannot be shared out among {outlook.on_processes}"
        elif self.batch % (self.settled("micro_batch") * outlook.processes):
            yield (
                f"{outlook.name}: a batch of {self.batch} is no multiple of micro-batches of {self.micro_batch} on "
                f"{outlook.on_processes}"
            )
        if outlook.family not in FAMILIES:
            known = ", ".join(FAMILIES)
            yield f"{outlook.name}: the base is a {outlook.family!r} model, and pre-training knows {known}"
        yield from outlook.too_long(length=self.settled("length"))

    def task(
        self, context: "Context", name: str, module: Any, config: "PretrainConfig", tokenizer: Any
    ) -> "PretrainTask":
        """What the loop trains. Raises InputError for a tokenizer, a corpus or a batch that cannot be."""
        from harness.models.pretraining.masking import Collator, Vocabulary
        from harness.models.pretraining.task import PretrainTask
        from harness.training.context import sound
        from harness.training.student import special_ids

        vocabulary = sound(name, lambda: Vocabulary.of(tokenizer))
        special_ids(tokenizer, context.encoder)
        parts, length = self.texts(context.recipe.data), self.settled("length")
        written = tokens_of(context, parts, tokenizer, length, self.long_texts, vocabulary.continues is None)
        collator = Collator(vocabulary, config, length, context.recipe.seed)
        made: PretrainTask = sound(
            name,
            lambda: PretrainTask(
                module,
                written.tokens,
                collator,
                self.batch,
                self.settled("micro_batch"),
                **context.share,
                group_by_length=self.group_by_length,
                starts=written.starts,
            ),
        )
        return made

    def shown(self, data: Data) -> list[str]:
        """The corpora, as a checkpoint names what it has learned from."""
        return [part.shown for part in self.texts(data)]


def tokens_of(
    context: "Context",
    parts: tuple[CorpusPart, ...],
    tokenizer: Any,
    length: int,
    long_texts: Literal["cut", "split"] = "cut",
    words: bool = False,
) -> Any:
    """Tokenised corpora, cached, of at most `length` tokens with the special ones; with word starts if `words`.

    What is too short to learn from is left out. Raises InputError where nothing is left.
    """
    from harness.models.training import tokens
    from harness.runtime.hashing import digest
    from harness.training.context import vocabulary_hash
    from harness.training.data import corpora

    label = [vocabulary_hash(tokenizer), length, long_texts, *(["words"] if words else [])]
    key = digest([label, context.stamp(parts)])
    with context.accelerator.main_process_first(), context.job.phase("tokenise", None, "texts") as meter:
        found = tokens.write(
            context.job.cache / "tokens" / key,
            tokenizer,
            (text for part in parts for text in corpora.texts(part, context.recipe.place(part.name))),
            length - 2,
            shortest=2,
            split=long_texts == "split",
            words=words,
            done=meter.advance,
        )
    names = ", ".join(part.name for part in parts)
    if found.left_out and context.main:
        context.job.warn(f"{names}: {found.left_out:,} texts of fewer than two tokens left out")
    if not len(found.tokens):
        raise InputError(f"the corpora {names} hold no text of two tokens or more: nothing can be learned from them.")
    return found
