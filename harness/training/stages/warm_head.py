"""The stage `warm_head`: a masked-LM head for an encoder that has none, trained while the encoder stays as it is."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.training.on_texts import OnTexts
from harness.training.schedule import Rate
from harness.training.stage import Facts, Outlook, register

if TYPE_CHECKING:
    from harness.training.context import Context


@register
class WarmHead(OnTexts):
    """A new head, by the bag of words of each text (equation 8); pooling and all else of the encoder are kept."""

    kind: Literal["warm_head"]
    tied: bool = True  # whether the decoder is the word embeddings, which then stay as they are; else a copy learns
    learning_rate: Rate = 1e-3  # ours: the head alone learns, from the identity

    def words(self) -> str:
        """How long, and of what."""
        return f"warm up a new masked-LM head, {'' if self.tied else 'un'}tied, {self.length_in_words}"

    def check_model(self, outlook: Outlook) -> Iterator[str]:
        """As of any stage on texts; and there must be no head yet. Behind it there is one."""
        yield from super().check_model(outlook)
        if outlook.head:
            yield f"{outlook.name}: the base has a masked-LM head already; leave the stage out"
        outlook.head = True

    def run(self, context: "Context", name: str, folder: Path) -> Facts:
        """Make the head and train it. Raises InputError for a corpus, a length or a batch that cannot be."""
        import torch

        from harness.models import hybrid
        from harness.models.checkpoints import checkpoint, new_head
        from harness.models.hybrid import HybridSpec
        from harness.models.pretraining.new_head import NewHead
        from harness.models.training.seeds import mixed
        from harness.training.context import added, fit_stage

        torch.manual_seed(mixed(context.recipe.seed, 4))
        model, tokenizer = new_head.with_new_head(context.encoder, self.tied)
        module = NewHead(model)
        task = self.task(context, name, module, module.config, tokenizer)
        texts = len(task.tokens)
        settings = self.loop(texts, context.recipe.seed)
        fit_stage(context, name, task, settings, folder)
        if context.main:
            before = hybrid.read(context.encoder) or HybridSpec()
            learned = before.learned
            learned["pretrained_on"] = added(learned, "pretrained_on", self.shown(context.recipe.data))
            spec = before.replace(trained=context.trained(name, learned))
            checkpoint.save(folder, model, tokenizer, spec, checkpoint.projection_of(context.encoder, spec))
        return {"steps": settings.steps, "texts": texts}
