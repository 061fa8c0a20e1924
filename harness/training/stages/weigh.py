"""The stage that weighs the two halves of a trained hybrid against each other, by what a held-out collection says.

Equation 12 adds the halves as they come, and the paper does not say how they are weighed. In training both follow the
sum's gradient, and the half that learns the training queries by heart outgrows the other: its scores spread further,
and the better half is outvoted on queries that were not trained on. So one number, the lexical half's scale, is chosen
on held-out queries once the halves are trained; no weight of the model changes.

Pseudo-queries are made of the words of their texts, so that by them words seem to tell more than they do of what people
ask. `lean: dense` takes as little of the lexical half as one standard error leaves open, and `spread: 0.5` asks no
judgment at all: the lexical scores shall spread half as far as the dense ones, as in a fusion that counts dense twice.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from harness.training.recipe_data import Data, Names
from harness.training.stage import ENCODER, FINE_TUNED, HYBRID, Facts, Outlook, Stage, register, settings_in_words

if TYPE_CHECKING:
    from harness.training.context import Context
    from harness.training.validation import Encoded

_SAMPLE = 256  # queries and documents by which the scores' spread is told
_DOCUMENTS = 4_096  # by which the halves' spreads are compared


@register
class Weigh(Stage):
    """The scale of the lexical half, chosen on held-out collections."""

    kind: Literal["weigh"]
    collections: Names = Field(min_length=1)
    metric: Literal["MRR@10", "NDCG@10"] = "MRR@10"  # its mean over the collections decides
    # times the scale as it was; half a power of 2 apart
    factors: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = Field(
        tuple(2 ** (n / 2) for n in range(-6, 13)), min_length=1
    )

    # of the factors within a standard error of the best: the least (dense) or the greatest
    lean: Literal["dense", "lexical"] | None = None
    spread: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None  # lexical over dense, in place of factors
    passage_length: int | None = Field(None, ge=3)  # tokens of a passage from here on; None: as it was trained
    # power of a term's idf in the collection that is searched, from here on; None: as it was trained
    idf: Annotated[float, Field(ge=0, le=4, allow_inf_nan=False)] | None = None

    leaves = (ENCODER, FINE_TUNED)
    later = ("lean", "spread", "passage_length", "idf")

    def needs(self) -> tuple[str, ...]:
        """Halves that search: fine-tuned, or calibrated."""
        return (HYBRID,)

    def chooses_by(self, data: Data) -> tuple[str, ...]:
        """The held-out collections."""
        return self.collections

    def words(self) -> str:
        """By what, and on what."""
        how = f"weigh the halves by {self.metric} on {', '.join(self.collections)}"
        return ", ".join([how, *settings_in_words(self._chosen)])

    def check_model(self, outlook: Outlook) -> Iterator[str]:
        """Passages fit into the model."""
        if self.passage_length is not None:
            yield from outlook.too_long(passage_length=self.passage_length)

    def run(self, context: "Context", name: str, folder: Path) -> Facts:
        """Encode the held-out collections once, search them under each factor, and keep the best scale.

        The best has the greatest `metric`, mean over the collections; of equals the one nearest to the scale as it was.
        With `lean` see `leaning`.
        The temperature is changed as the scores' spread is, so that a later stage sees them as sharp as before. A
        checkpoint with one half has nothing to weigh and is handed on.
        """
        from harness.models import hybrid
        from harness.models.checkpoints import checkpoint
        from harness.models.losses import ranking
        from harness.training.context import added
        from harness.training.validation import Validator

        if not context.main:
            return {}
        source = context.encoder
        before = hybrid.read(source)
        assert before is not None  # the stage before left it
        spec = before.replace(passage_length=self.passage_length, lexical_idf=self.idf)
        learned = spec.learned
        learned["weighed_on"] = added(learned, "weighed_on", self.collections)
        # no weight of the model changes: it is trained as the stage before says
        trained = spec.trained | {"stage": name} | learned
        student = checkpoint.load(source, spec)
        found: list[dict[str, float]] = []
        each: list[list[npt.NDArray[Any]]] = []
        changed = spec
        if spec.both:
            device = context.accelerator.device
            student.encoder.to(device)
            held_out = [Validator(context.dataset(one), None) for one in self.collections]
            factors = self.factors
            with context.job.phase(name, len(self.collections) * (1 + len(factors)), "searches") as meter:
                encoded = []
                for one in held_out:
                    encoded.append(one.encode(student, device))
                    meter.advance(1)
                if self.spread is not None:
                    factors = (self.spread * ranking.balance(*_spreads(encoded)),)
                for factor in factors:
                    scores = []
                    for one, vectors in zip(held_out, encoded, strict=True):
                        scores.append(one.scored(vectors, device, factor).values[self.metric])
                        meter.advance(1)
                    each.append(scores)
                    names = [f"{self.metric} on {one.dataset.name}" for one in held_out]
                    values = [float(np.mean(own)) for own in scores]
                    mean = sum(values) / len(values)
                    found.append({"factor": factor, "mean": mean, **dict(zip(names, values, strict=True))})
            best = min(found, key=lambda row: (-row["mean"], max(row["factor"], 1 / row["factor"])))["factor"]
            if self.lean:
                best = leaning(self.lean, factors, each, factors.index(best))
            width = _spread(encoded[0], 1.0)
            wider = _spread(encoded[0], best) / width if width else 1.0  # 0 where it gives all documents one score
            changed = spec.replace(lexical_scale=spec.lexical_scale * best, temperature=spec.temperature * wider)
        else:
            context.job.note(f"{name}: {source} has one half; there is nothing to weigh")
        projection = student.encoder.projection
        checkpoint.save(folder, student.model, student.tokenizer, changed.replace(trained=trained), projection)
        return {"lexical_scale": changed.lexical_scale, "temperature": changed.temperature, "weighed": found}


def leaning(
    to: Literal["dense", "lexical"], factors: Sequence[float], scores: Sequence[Sequence[npt.NDArray[Any]]], best: int
) -> float:
    """The least factor (to the dense half) or the greatest whose mean lies within one standard error of the best's.

    `scores` are of each factor, of each collection, of each query [Q]; `best` is the place of the best factor. The
    error is of the paired differences, their mean over the collections.
    """

    def near(number: int) -> bool:
        differences = [top - own for top, own in zip(scores[best], scores[number], strict=True)]
        error = np.sqrt(sum(np.var(d, ddof=1) / len(d) for d in differences if len(d) > 1)) / len(differences)
        return bool(np.mean([d.mean() for d in differences]) <= error)

    choose = min if to == "dense" else max
    return choose(factor for number, factor in enumerate(factors) if near(number))


def _spread(encoded: "Encoded", factor: float) -> float:
    """How far the scores of a sample of queries with a sample of documents spread."""
    from harness.models.losses import ranking

    dense, lexical = _halves(encoded, _SAMPLE)
    return float(ranking.spread(dense + factor * lexical))


def _spreads(encoded: "Sequence[Encoded]") -> tuple[float, float]:
    """How far the scores of either half spread, mean over the collections: of a sample of queries, with up to 4,096
    documents, among which a query's own are few."""
    from harness.models.losses import ranking

    found = [[float(ranking.spread(half)) for half in _halves(one, _DOCUMENTS)] for one in encoded]
    dense, lexical = (float(np.mean(column)) for column in zip(*found, strict=True))
    return dense, lexical


def _halves(encoded: "Encoded", documents: int) -> tuple[Any, Any]:
    """Scores [q,n] of the first queries with the first documents."""
    import torch

    from harness.models.losses import ranking

    queries, vectors = encoded.queries[0].take(slice(_SAMPLE)), encoded.parts[0].vectors.take(slice(documents))
    return ranking.halves(
        torch.from_numpy(queries.dense),
        torch.from_numpy(queries.lexical),
        torch.from_numpy(vectors.dense),
        torch.from_numpy(vectors.term_ids.astype("int64")),
        torch.from_numpy(vectors.term_weights),
    )
