"""The stage `calibrate`: which of a masked-LM head's logits count as words, and how much each word counts."""

from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from harness.retrievers.errors import InputError
from harness.training.on_texts import tokens_of
from harness.training.recipe_data import Corpora, CorpusPart, Data
from harness.training.stage import ENCODER, Facts, Outlook, Stage, register

if TYPE_CHECKING:
    from harness.training.context import Context


@register
class Calibrate(Stage):
    """The decoder's bias: + `idf` times each term's idf in the corpora, and a constant that keeps K logits above 0.

    See `harness.models.pretraining.calibration`. From here on a term's weight is log(1 + ReLU(logit)). A pre-training
    behind it would teach the bias otherwise, so it stands behind the last one, and before fine-tuning.
    """

    kind: Literal["calibrate"]
    corpora: Corpora = ()  # data.corpora where empty
    lexical: int = Field(ge=1)  # K
    idf: float = Field(1.0, ge=0, allow_inf_nan=False)
    sample: int = Field(256, ge=1)  # texts by which the constant is chosen
    length: int | None = Field(None, ge=8)  # tokens, special ones included

    leaves = (ENCODER,)
    lengths: ClassVar = MappingProxyType({"length": 144})  # of a passage in search

    def texts(self, data: Data) -> tuple[CorpusPart, ...]:
        """Its own corpora, else those of the recipe."""
        return self.corpora or data.corpora

    def wrong(self, data: Data) -> Iterator[str]:
        """There must be texts."""
        if not self.texts(data):
            yield "there are no corpora, neither here nor in data"

    def words(self) -> str:
        """By what."""
        return f"calibrate the lexical half: {self.idf:g} idf, {self.lexical:,} terms above 0"

    def check_model(self, outlook: Outlook) -> Iterator[str]:
        """There must be a head with K terms, and the texts fit into the model."""
        if not outlook.head:
            yield f"{outlook.name}: the base has no masked-LM head; a stage warm_head makes one"
        if outlook.vocabulary and self.lexical > outlook.vocabulary:
            yield f"{outlook.name}.lexical is {self.lexical:,}; the model has {outlook.vocabulary:,} terms"
        yield from outlook.too_long(length=self.settled("length"))

    def run(self, context: "Context", name: str, folder: Path) -> Facts:
        """Count terms, measure logits, set the bias. Raises InputError for corpora without text."""
        from harness.models import hybrid
        from harness.models.checkpoints import checkpoint
        from harness.models.hybrid import HybridSpec
        from harness.models.pretraining import calibration
        from harness.training.student import special_ids

        before = hybrid.read(context.encoder) or HybridSpec()
        spec = before.replace(lexical=self.lexical, activation="log1p_relu")
        loaded = checkpoint.load(context.encoder, spec)
        special = special_ids(loaded.tokenizer, context.encoder)
        length = self.settled("length")
        texts = tokens_of(context, self.texts(context.recipe.data), loaded.tokenizer, length).tokens
        if not context.main:
            return {}
        weights = self.idf * calibration.idf(texts, loaded.vocabulary)
        rows = np.unique(np.linspace(0, len(texts) - 1, min(self.sample, len(texts))).round().astype(np.int64))
        device = context.accelerator.device
        encoder = loaded.encoder.float().to(device).eval()
        with context.job.phase(name, len(rows), "texts") as meter:
            with context.accelerator.autocast():
                logits = calibration.pooled(encoder, [texts[int(row)] for row in rows], special, device)
            meter.advance(len(rows))
        if not logits.isfinite().all():
            raise InputError(f"{name}: the head's logits are not finite. Is {context.encoder} damaged?")
        constant = calibration.calibrate(encoder.head, logits, weights, self.lexical)
        final = spec.replace(trained=context.trained(name, before.learned))
        checkpoint.save(folder, loaded.model.cpu(), loaded.tokenizer, final, loaded.encoder.projection)
        return {"texts": len(texts), "sample": len(rows), "constant": constant}
