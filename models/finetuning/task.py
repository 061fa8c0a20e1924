"""The three fine-tuning stages as the loop sees them: in-batch, hard negatives, distillation (equations 13 to 15)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.models.finetuning.biencoder import BiEncoder
from harness.models.finetuning.examples import AUTO, Examples, FinetuneConfig, check
from harness.models.finetuning.gradient_cache import Represented, replay, represent
from harness.models.losses import ranking
from harness.models.training.batching import Texts, chunks
from harness.models.training.gather import exchanging_once, gather
from harness.models.training.tokens import chosen

_AROUND = 12  # steps of half a power of 2 on either side of the scale that makes the halves spread alike
# A side whose graph is kept is encoded in so many parts, of so many texts at least: those of near length are padded to
# their own longest.
_PARTS, _LEAST = 8, 8
_ENOUGH = 64  # queries that the scale and the temperature are set by, of all processes
_SHARPER = 8  # such steps of a temperature below the scores' spread; above it a model that knows nothing would stay so


class Batch(NamedTuple):
    """One process's share of a step: q queries, each with its positive and n negatives; N passages of all processes."""

    numbers: list[int]  # of the queries
    queries: list[Texts]
    passages: list[Texts]
    positives: Tensor  # [q] the column of each query's own positive among the N
    excluded: Tensor  # [q,N] other columns that are known to answer the query
    teacher: Tensor  # [q,1+n], or [q,0]
    whole: bool  # whether either side fits a chunk: its graph is kept, and nothing is encoded twice


class FinetuneTask:
    """Trains a `BiEncoder` on `Examples`; negatives are shared across processes, with their gradient.

    `special` are the ids of CLS, SEP and padding. Raises ValueError for a batch that the processes cannot share out, or
    examples that lack what the loss needs: a query without a positive, too few negatives, no teacher.
    """

    def __init__(
        self,
        module: BiEncoder,
        examples: Examples,
        config: FinetuneConfig,
        special: tuple[int, int, int],
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        if config.queries % processes:
            raise ValueError(f"a batch of {config.queries} queries cannot be shared out among {processes} processes")
        check(examples, config)
        self.module, self.examples, self.config, self.special = module, examples, config, special
        self.rank, self.processes = rank, processes
        self.temperature, self.lexical_scale = config.temperature, config.lexical_scale

    def prepare(self, step: int) -> Batch:
        """Choose queries, positives and negatives of the step, and pad this process's share of the texts."""
        config, examples = self.config, self.examples
        numbers = chosen(config.seed, step, config.queries, len(examples.queries))  # of all processes
        picks = [examples.pick(config, step, int(number)) for number in numbers]
        width = 1 + config.negatives
        columns = np.concatenate([rows for rows, _ in picks])  # [N]
        share = config.queries // self.processes
        mine = slice(self.rank * share, (self.rank + 1) * share)
        own = (np.arange(config.queries) * width)[mine]  # [q]
        excluded = examples.answers(numbers[mine], columns)
        excluded[np.arange(share), own] = False
        texts = columns.reshape(config.queries, width)[mine].ravel()
        whole = len(texts) <= config.chunk

        def padded(rows: list[Any]) -> list[Texts]:
            return chunks(rows, max(_LEAST, -(-len(rows) // _PARTS)) if whole else config.chunk, *self.special)

        return Batch(
            numbers[mine].tolist(),
            padded([examples.queries[int(number)] for number in numbers[mine]]),
            padded([examples.passages[int(row)] for row in texts]),
            torch.from_numpy(own),
            torch.from_numpy(excluded),
            torch.tensor(np.stack([taught for _, taught in picks[mine]]), dtype=torch.float32),
            whole,
        )

    def backward(self, model: Any, batch: Batch, accelerator: Any) -> tuple[dict[str, Tensor], int]:
        """The loss of this process's queries; what fits one chunk a side is encoded once, all else twice."""
        device = accelerator.device
        if AUTO in (self.temperature, self.lexical_scale):
            self._settle(model, batch, accelerator)
        queries = represent(model, batch.queries, True, batch.whole, device)
        passages = represent(model, batch.passages, False, batch.whole, device)
        losses, halves = self._losses(queries, passages, batch)
        if batch.whole:
            accelerator.backward(losses["loss"])
        else:
            self._replay(model, batch, queries, passages, losses["loss"], accelerator)
        count = sum(int(part.attention_mask.sum()) for part in (*batch.queries, *batch.passages))
        found = losses | halves | self._gradients(accelerator)
        return {name: value.detach() for name, value in found.items()}, count

    def _losses(
        self, queries: Represented, passages: Represented, batch: Batch
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The losses; and of a hybrid how far each half's scores spread, as the softmax sees them."""
        config, device = self.config, queries.dense.device
        alone = config.distil and not config.contrastive_weight  # then nobody else's passages are looked at
        halves = _halves(queries, passages, everybody=not alone)
        found = halves[0] + self.lexical_scale * halves[1]
        own = batch.positives.to(device)
        loss = {}
        if config.distil:
            first = own - (own[0] if alone else 0)
            group = first.unsqueeze(1) + torch.arange(1 + config.negatives, device=device)  # [q,1+n]
            learned = ranking.margin_mse if config.distillation == "margin_mse" else ranking.distillation
            loss["distillation"] = learned(found.gather(1, group), batch.teacher.to(device), self.temperature)
        if not alone:
            excluded = batch.excluded.to(device)
            loss["contrastive"] = ranking.contrastive(found, own, self.temperature, excluded)
            if config.each_half and self.module.encoder.spec.both:
                for name, half in zip(("dense", "lexical"), (halves[0], self.lexical_scale * halves[1]), strict=True):
                    loss[name] = ranking.contrastive(half, own, self.temperature, excluded)
        total = loss["contrastive"] if not config.distil else loss["distillation"]
        if config.distil and not alone:
            total = total + config.contrastive_weight * loss["contrastive"]
        if "dense" in loss:
            total = total + config.each_half * (loss["dense"] + loss["lexical"])
        # a process that looks at its own passages alone does not see the batch's spread
        parts = loss if config.distil or "dense" in loss else {}
        return {"loss": total} | parts, {} if alone else self._spreads(*halves)

    def _spreads(self, dense: Tensor, lexical: Tensor) -> dict[str, Tensor]:
        if not self.module.encoder.spec.both:
            return {}
        return {
            "dense_spread": ranking.spread(dense.detach()) / self.temperature,
            "lexical_spread": self.lexical_scale * ranking.spread(lexical.detach()) / self.temperature,
        }

    def _gradients(self, accelerator: Any) -> dict[str, Tensor]:
        """The norm of the whole batch's gradient at the hidden states, of each half."""
        found = self.module.squares()
        if found is None:
            return {}
        scaler = getattr(accelerator, "scaler", None)  # fp16 alone multiplies its gradients
        factor = float(scaler.get_scale()) if scaler is not None else 1.0
        norms = accelerator.reduce(found, reduction="sum").sqrt() / (factor * self.processes)
        return {"dense_gradient": norms[0], "lexical_gradient": norms[1]}

    def _settle(self, model: Any, batch: Batch, accelerator: Any) -> None:
        """Set what is AUTO, once, from the first batches of all processes, with dropout as in training.

        So many batches as hold 64 queries, or all there are: a scale set by the eight of a small batch has been 100
        times too small.

        Scale and temperature are those under which the loss is then least: the half that tells more has more to say
        from the first step on, and the softmax is as sharp as the scores are good. Scales lie half a power of 2 apart
        around the one that makes both halves spread alike, temperatures likewise from the spread of the sum down.
        Without dropout the scores of an encoder that makes all texts nearly alike would spread too little, and the
        temperature would be far too small for those that training sees. Raises ValueError where scores do not spread.
        """
        enough = -(-min(_ENOUGH, len(self.examples.queries)) // self.config.queries)
        batches = [batch, *(self.prepare(step) for step in range(1, enough))]
        device = accelerator.device
        with torch.no_grad():
            halves = []  # of each batch
            for each in batches:
                queries = represent(model, each.queries, True, False, device)
                passages = represent(model, each.passages, False, False, device)
                halves.append(_halves(queries, passages, everybody=True))

            def mean(values: list[list[Tensor]]) -> list[float]:  # each of them over the batches and the processes
                own = torch.stack([torch.stack(value).mean() for value in values])
                found: list[float] = accelerator.reduce(own, reduction="mean").tolist()
                return found

            scales = [self.lexical_scale]
            if self.lexical_scale == AUTO:
                scales = [1.0]
                if self.module.encoder.spec.both:
                    spreads = mean([[ranking.spread(each) for each in half] for half in zip(*halves, strict=True)])
                    alike = ranking.balance(*spreads)
                    scales = [alike * 2 ** (n / 2) for n in range(-_AROUND, _AROUND + 1)]
            sums = [[dense + scale * lexical for dense, lexical in halves] for scale in scales]
            spreads = mean([[ranking.spread(each) for each in found] for found in sums])
            if not all(0 < spread < float("inf") for spread in spreads):
                raise ValueError(
                    f"the scores spread by {min(spreads):.4g} in the first batches; they must tell passages apart"
                )
            factors = [2 ** (-n / 2) for n in range(_SHARPER + 1)]
            tried = [
                (number, tau)
                for number, spread in enumerate(spreads)
                for tau in ([spread * f for f in factors] if self.temperature == AUTO else [self.temperature])
            ]
            answers = [(each.positives.to(device), each.excluded.to(device)) for each in batches]
            losses = mean(
                [
                    [
                        ranking.contrastive(found, own, tau, out)
                        for found, (own, out) in zip(sums[number], answers, strict=True)
                    ]
                    for number, tau in tried
                ]
            )
            number, self.temperature = tried[losses.index(min(losses))]
            self.lexical_scale = scales[number]

    def _replay(
        self, model: Any, batch: Batch, queries: Represented, passages: Represented, loss: Tensor, accelerator: Any
    ) -> None:
        jobs = [(batch.queries, True, queries, number) for number in range(len(batch.queries))]
        jobs += [(batch.passages, False, passages, number) for number in range(len(batch.passages))]
        grads = {True: queries.gradients_of(loss), False: passages.gradients_of(loss)}
        for parts, query, found, number in exchanging_once(jobs, model, accelerator):
            accelerator.backward(replay(model, parts, query, found, number, grads[query]))

    def name(self, batch: Batch) -> str:
        """The queries' numbers."""
        shown = ", ".join(map(str, batch.numbers[:8]))
        return f"training queries {shown}{' …' if len(batch.numbers) > 8 else ''}, counted from 0"

    def extra(self) -> dict[str, float]:
        """Temperature and scale, as they were settled."""
        return {"temperature": self.temperature, "lexical_scale": self.lexical_scale}

    def restore(self, extra: Mapping[str, float]) -> None:
        """Take them back."""
        self.temperature, self.lexical_scale = extra["temperature"], extra["lexical_scale"]

    def validate(self, accelerator: Any) -> dict[str, float]:  # noqa: ARG002
        """Nothing; a subclass may know a collection to score on."""
        return {}


def _halves(queries: Represented, passages: Represented, everybody: bool) -> tuple[Tensor, Tensor]:
    """Scores [q,N] of this process's queries with everybody's passages, or with its own."""
    parts = [passages.dense, passages.ids, passages.weights]
    dense, ids, weights = [gather(part) for part in parts] if everybody else parts
    return ranking.halves(queries.dense, queries.weights, dense, ids, weights)
