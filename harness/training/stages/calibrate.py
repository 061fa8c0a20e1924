"""The stage `calibrate`: which of a masked-LM head's logits count as words, and how much each word counts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from harness.retrievers.errors import InputError
from harness.training.on_texts import ReadsTexts, tokens_of
from harness.training.recipe_data import Data, Names
from harness.training.stage import ENCODER, HYBRID, Facts, Outlook, register

if TYPE_CHECKING:
    from harness.datasets.dataset import Dataset
    from harness.training.context import Context

_METRIC, _TOP = "NDCG@10", 10
_DOCUMENTS, _QUERIES = 1_000, 1_000  # of a held-out collection: the judged ones, and the first others
Share = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Times = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@register
class Calibrate(ReadsTexts):
    """The decoder's bias: + `idf` times each term's idf in the corpora, and a constant that leaves `above` K above 0.

    See `harness.models.pretraining.calibration`. Of several values of either those are taken under which the lexical
    half alone has the greatest NDCG@10 on `collections`, on the mean. From here on a term's weight is
    log(1 + ReLU(logit)). A pre-training behind it would teach the bias otherwise, so it stands behind the last one, and
    before fine-tuning.
    """

    kind: Literal["calibrate"]
    lexical: int = Field(ge=1)  # K
    idf: tuple[Share, ...] = Field((0.5,), min_length=1)
    above: tuple[Times, ...] = Field((1.0,), min_length=1)  # times K
    collections: Names = ()
    sample: int = Field(256, ge=1)  # texts by which the constant is found
    length: int | None = Field(None, ge=8)  # tokens, special ones included

    leaves = (ENCODER, HYBRID)
    lengths: ClassVar = MappingProxyType({"length": 144})  # of a passage in search

    @model_validator(mode="after")
    def _chosen_by_something(self) -> "Calibrate":
        if len(self.idf) * len(self.above) > 1 and not self.collections:
            raise ValueError(
                "several values of idf or above, and no collections to choose by: give one, or collections"
            )
        return self

    def chooses_by(self, data: Data) -> tuple[str, ...]:
        """The held-out collections."""
        return self.collections

    def words(self) -> str:
        """By what."""
        shares, times = (" or ".join(f"{value:g}" for value in values) for values in (self.idf, self.above))
        chosen = f", chosen on {', '.join(self.collections)}" if self.collections else ""
        return f"calibrate the lexical half: {shares} idf, {times} times {self.lexical:,} terms above 0{chosen}"

    def check_model(self, outlook: Outlook) -> Iterator[str]:
        """There must be a head with K terms, and the texts fit into the model."""
        if not outlook.head:
            yield f"{outlook.name}: the base has no masked-LM head; a stage warm_head makes one"
        if outlook.vocabulary and self.lexical > outlook.vocabulary:
            yield f"{outlook.name}.lexical is {self.lexical:,}; the model has {outlook.vocabulary:,} terms"
        yield from outlook.too_long(length=self.settled("length"))

    def run(self, context: "Context", name: str, folder: Path) -> Facts:
        """Count terms, measure logits, set the bias. Raises InputError for corpora without text."""
        import torch

        from harness.models import hybrid
        from harness.models.checkpoints import checkpoint
        from harness.models.hybrid import HybridSpec
        from harness.models.pretraining import calibration
        from harness.training.context import added

        before = hybrid.read(context.encoder) or HybridSpec()
        length = self.settled("length")
        spec = before.replace(lexical=self.lexical, activation="log1p_relu", passage_length=length)
        loaded = checkpoint.load(context.encoder, spec)
        texts = tokens_of(context, self.texts(context.recipe.data), loaded.tokenizer, length).tokens
        if not context.main:
            return {}
        source = _Source(loaded, context)
        idf = torch.from_numpy(calibration.idf(texts, loaded.vocabulary))
        rows = np.unique(np.linspace(0, len(texts) - 1, min(self.sample, len(texts))).round().astype(np.int64))
        datasets = [context.dataset(one) for one in self.collections]
        with context.job.phase(name, 1 + len(datasets), "encodings") as meter:
            logits = source.pooled([texts[int(row)] for row in rows])
            meter.advance(1)
            held_out = []
            for dataset in datasets:
                held_out.append(_HeldOut.of(dataset, source))
                meter.advance(1)
        found: list[dict[str, float]] = []
        biases = []
        for share, times in product(self.idf, self.above):
            bias = share * idf
            constant = calibration.zero(logits, bias, max(1, round(times * self.lexical)))
            biases.append(bias + constant)
            values = {f"{_METRIC} on {one.dataset.name}": one.score(biases[-1], self.lexical) for one in held_out}
            mean = float(np.mean(list(values.values()))) if values else 0.0
            found.append({"idf": share, "above": times, "constant": constant, "mean": mean, **values})
        best = max(range(len(found)), key=lambda number: found[number]["mean"])  # of equals the first
        calibration.calibrate(source.encoder.head, biases[best])
        learned = before.learned
        if self.collections:
            learned["weighed_on"] = added(learned, "weighed_on", self.collections)
        final = spec.replace(trained=context.trained(name, learned))
        checkpoint.save(folder, loaded.model.cpu(), loaded.tokenizer, final, loaded.encoder.projection)
        chosen = {key: found[best][key] for key in ("idf", "above", "constant")}
        return {"texts": len(texts), "sample": len(rows), **chosen, "calibrated": found if self.collections else []}


class _Source:
    """The encoder whose head is calibrated, and how it makes logits of texts."""

    def __init__(self, loaded: Any, context: "Context") -> None:
        from harness.training.student import special_ids

        self.loaded, self.context = loaded, context
        self.special = special_ids(loaded.tokenizer, context.encoder)
        self.encoder = loaded.encoder.float().to(context.accelerator.device).eval()

    def pooled(self, rows: Sequence[Any]) -> Any:
        """μ [n,V] of token ids. Raises InputError where it is not finite."""
        from harness.models.pretraining import calibration

        with self.context.accelerator.autocast():
            logits = calibration.pooled(self.encoder, list(rows), self.special, self.context.accelerator.device)
        if not logits.isfinite().all():
            raise InputError(f"the head's logits are not finite. Is {self.context.encoder} damaged?")
        return logits

    def tokens(self, texts: Sequence[str], prefix: str, length: int) -> list[Any]:
        """Token ids of texts, without special tokens."""
        cut = self.loaded.tokenizer(
            [prefix + text for text in texts], add_special_tokens=False, truncation=True, max_length=length - 2
        )
        return [np.array(ids, dtype=np.int64) for ids in cut["input_ids"]]


@dataclass(frozen=True)
class _HeldOut:
    """A held-out collection, and the logits of its first queries and of its judged and first documents."""

    dataset: "Dataset"
    doc_ids: Any  # [N] bytes
    queries: Any  # [Q,V]
    documents: Any  # [N,V]

    @classmethod
    def of(cls, dataset: "Dataset", source: _Source) -> "_HeldOut":
        """Encode a collection."""
        from harness.training.validation import Validator

        docs, spec = Validator(dataset, _DOCUMENTS).docs, source.loaded.spec
        asked = [query.text for query in dataset.queries[:_QUERIES]]
        queries = source.pooled(source.tokens(asked, spec.query_prefix, spec.query_length))
        texts = source.tokens([doc.joined for doc in docs], spec.passage_prefix, spec.passage_length)
        return cls(dataset, np.array([doc.doc_id.encode() for doc in docs]), queries, source.pooled(texts))

    def score(self, bias: Any, terms: int) -> float:
        """NDCG@10 of the lexical half with `bias` [V] added."""
        from harness.metrics.names import parse_metrics
        from harness.metrics.scoring import score
        from harness.models.pretraining import calibration
        from harness.retrievers.types import Run

        found = calibration.scores(self.queries, self.documents, bias, terms).numpy()  # [Q,N]
        best = np.argsort(-found, axis=1, kind="stable")[:, :_TOP]
        owners = np.repeat(np.arange(len(found)), best.shape[1])
        values = np.take_along_axis(found, best, 1).ravel()
        ids = [query.query_id for query in self.dataset.queries[: len(found)]]
        run = Run.from_blocks(ids, [(owners, self.doc_ids[best.ravel()], values)])
        qrels = {query_id: self.dataset.qrels[query_id] for query_id in ids}
        return score(run, qrels, parse_metrics([_METRIC]), self.dataset.rules.levels).mean()[_METRIC]
