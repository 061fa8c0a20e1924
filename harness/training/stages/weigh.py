"""The stage that weighs the two halves of a trained hybrid against each other, by what a held-out collection says.

Equation 12 adds the halves as they come, and the paper does not say how they are weighed. In training both follow the
sum's gradient, and the half that learns the training queries by heart outgrows the other: its scores spread further,
and the better half is outvoted on queries that were not trained on. So one number, the lexical half's scale, is chosen
on held-out queries once the halves are trained; no weight of the model changes.
"""

from pathlib import Path

import torch

from harness.models import hybrid
from harness.models.checkpoints import checkpoint
from harness.models.losses import ranking
from harness.training.context import Context, Facts
from harness.training.recipe import Weigh
from harness.training.validation import Encoded, Validator

_SAMPLE = 256  # queries and documents by which the scores' spread is told


def weigh(context: Context, name: str, stage: Weigh, folder: Path) -> Facts:
    """Encode the held-out collections once, search them under each factor, and keep the best scale.

    The best has the greatest `metric`, mean over the collections; of equals the one nearest to the scale as it was. The
    temperature is changed as the scores' spread is, so that a later stage sees them as sharp as before. A checkpoint
    with one half has nothing to weigh and is handed on.
    """
    if not context.main:
        return {}
    source = context.encoder
    spec = hybrid.read(source)
    assert spec is not None  # a fine-tuning stage left it
    trained = context.trained(name, spec)
    student = checkpoint.load(source, spec)
    found: list[dict[str, float]] = []
    changed = spec
    if spec.both:
        device = context.accelerator.device
        held_out = [Validator(each, None, context.root, context.job) for each in stage.collections]
        with context.job.phase(name, len(stage.collections) * (1 + len(stage.factors)), "searches") as meter:
            encoded = []
            for each in held_out:
                encoded.append(each.encode(student, device))
                meter.advance(1)
            for factor in stage.factors:
                values = []
                for each, vectors in zip(held_out, encoded, strict=True):
                    values.append(each.scored(vectors, device, factor)[stage.metric])
                    meter.advance(1)
                names = [f"{stage.metric} on {each.dataset.name}" for each in held_out]
                mean = sum(values) / len(values)
                found.append({"factor": factor, "mean": mean, **dict(zip(names, values, strict=True))})
        best = min(found, key=lambda row: (-row["mean"], max(row["factor"], 1 / row["factor"])))["factor"]
        before = _spread(encoded[0], 1.0)
        wider = _spread(encoded[0], best) / before if before else 1.0  # 0 where it gives all documents one score
        changed = spec.replace(lexical_scale=spec.lexical_scale * best, temperature=spec.temperature * wider)
    else:
        context.job.note(f"{name}: {source} has one half; there is nothing to weigh")
    projection = student.encoder.projection
    checkpoint.save(folder, student.model, student.tokenizer, changed.replace(trained=trained), projection)
    return {"lexical_scale": changed.lexical_scale, "temperature": changed.temperature, "weighed": found}


def _spread(encoded: Encoded, factor: float) -> float:
    """How far the scores of a sample of queries with a sample of documents spread."""
    queries, documents = encoded.queries[0], encoded.parts[0].vectors
    dense, lexical = ranking.halves(
        torch.from_numpy(queries.dense[:_SAMPLE]),
        torch.from_numpy(queries.lexical[:_SAMPLE]),
        torch.from_numpy(documents.dense[:_SAMPLE]),
        torch.from_numpy(documents.term_ids[:_SAMPLE].astype("int64")),
        torch.from_numpy(documents.term_weights[:_SAMPLE]),
    )
    return float(ranking.spread(dense + factor * lexical))
