"""The stage `mine`: hard negatives by our own search or another retriever."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from harness.runs.config import RetrieverSpec, make_retriever
from harness.training.stage import FINE_TUNED, NEGATIVES, Facts, Outlook, Stage, register, settings_in_words

if TYPE_CHECKING:
    from harness.training.context import Context


@register
class Mine(Stage):
    """Negatives for the stages after it, by the model so far or another retriever."""

    kind: Literal["mine"]
    retriever: str = "model"
    depth: int = Field(200, ge=1)
    least: int = Field(0, ge=0)  # a query with fewer gets documents drawn at random until it has so many
    query_prefix: str | None = None  # of these three None is as the searching model's files say
    passage_prefix: str | None = None
    similarity: Literal["dot", "cosine"] | None = None

    leaves = (NEGATIVES,)
    on_queries = True
    searches = True
    later = ("query_prefix", "passage_prefix", "similarity")

    @property
    def _by_the_model(self) -> bool:
        return self.retriever == "model"

    def needs(self) -> Sequence[str]:
        """A fine-tuned encoder, unless another retriever searches."""
        return (FINE_TUNED,) if self._by_the_model else ()

    def words(self) -> str:
        """How many, and by what."""
        by = "the student itself" if self._by_the_model else self.retriever
        return ", ".join([f"mine {self.depth:,} with {by}", *settings_in_words(self._chosen)])

    def check_names(self, outlook: Outlook) -> None:
        """The retriever must be known, and have what is said of it."""
        if not self._by_the_model:
            make_retriever(RetrieverSpec(name=self.retriever, options=self._chosen))

    def check_examples(self, outlook: Outlook) -> tuple[str, ...]:
        """From here on a query has so many negatives."""
        outlook.negatives = self.depth
        return ()

    def run(self, context: "Context", _name: str, folder: Path) -> Facts:
        """Rank the training queries by our own search, or another retriever, and keep what is no positive."""
        from harness.retrievers import mining
        from harness.training.stage_outputs import read_negatives, write_negatives
        from harness.training.student import searched_as

        own = self._by_the_model
        if own:
            spec = searched_as(context.recipe.system, context.encoder, **self._chosen)
        else:
            spec = RetrieverSpec(name=self.retriever, options=self._chosen)
        retriever = make_retriever(spec)
        collections = context.training.collections
        if context.main or retriever.distributed:
            retriever.check()
            context.job.tell(retriever.notice)
            with context.job.lent(retriever.distributed):
                parts = [
                    mining.mine(retriever, c.dataset, c.dataset.queries, c.positives, c.rows, self.depth, context.job)
                    for c in collections
                ]
        if context.main:
            parts = [
                mining.filled(part, c.positives, self.least, c.dataset.count, context.recipe.seed)
                for part, c in zip(parts, collections, strict=True)
            ]
            write_negatives(folder, context.training.joined(parts))
        context.accelerator.wait_for_everyone()
        lengths = read_negatives(folder).lengths
        return {"queries": len(lengths), "fewest": int(lengths.min()), "most": int(lengths.max())}
