"""Pre-training as the loop sees it: from tokens to the gradients of one global batch (paper, section 3)."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from harness.models.pretraining.mae import PretrainBatch, PretrainLoss, RetroMAE
from harness.models.pretraining.masking import Collator
from harness.models.training.gather import exchanging_once
from harness.models.training.tokens import Starts, Tokens, chosen, chosen_by_length

_PROBED = 256  # texts that tell how far vectors are from collapse
Pieces = list[tuple[PretrainBatch, list[int]]]  # the micro-batches of this process, and the numbers of their texts


class PretrainTask:
    """A global batch of `batch` texts a step, in micro-batches of `micro_batch`, shared out among the processes.

    The micro-batch, not the process, is what masks are drawn for and losses are averaged over. So the same global batch
    gives the same losses and gradients on one process or on many, whichever number divides it.

    With `group_by_length` the texts of so many batches are sorted by length, and those of near length share a
    micro-batch (`harness.models.training.tokens.chosen_by_length`): fewer pads, and each text still once an epoch.
    `starts` says which tokens begin a word, where the tokenizer's entries do not.

    Raises ValueError where `batch` is not a multiple of `micro_batch` times the number of processes, or is more than
    there are texts.
    """

    def __init__(
        self,
        module: RetroMAE,
        tokens: Tokens,
        collator: Collator,
        batch: int,
        micro_batch: int,
        rank: int = 0,
        processes: int = 1,
        group_by_length: int | None = None,
        starts: Starts | None = None,
    ) -> None:
        if batch % (micro_batch * processes):
            raise ValueError(
                f"a batch of {batch} is no multiple of micro-batches of {micro_batch} on {processes} processes"
            )
        if batch > len(tokens):
            raise ValueError(f"a batch of {batch:,} was asked for, and there are {len(tokens):,} texts")
        self.module, self.tokens, self.collator = module, tokens, collator
        self.batch, self.micro_batch, self.rank, self.processes = batch, micro_batch, rank, processes
        self.group_by_length, self.starts = group_by_length, starts

    def prepare(self, step: int) -> Pieces:
        """Collate this process's micro-batches of the step."""
        rows = self._rows(step)
        pieces = self.batch // self.micro_batch
        mine = range(self.rank, pieces, self.processes)
        found = []
        for piece in mine:
            numbers = rows[piece * self.micro_batch : (piece + 1) * self.micro_batch].tolist()
            found.append((self._collated(numbers, step * pieces + piece), numbers))
        return found

    def _collated(self, numbers: Sequence[int], step: int) -> PretrainBatch:
        starts = None if self.starts is None else [self.starts[i] for i in numbers]
        return self.collator([self.tokens[i] for i in numbers], step, starts)

    def _rows(self, step: int) -> Any:
        """The numbers of the step's texts [B], micro-batch by micro-batch."""
        seed = self.collator.seed
        if self.group_by_length is None:
            return chosen(seed, step, self.batch, len(self.tokens))
        return chosen_by_length(seed, step, self.batch, self.micro_batch, self.group_by_length, self.tokens)

    def backward(self, model: Any, batch: Pieces, accelerator: Any) -> tuple[dict[str, Tensor], int]:
        """Mean losses of the micro-batches, gradients summed in the parameters; tokens are the attended ones."""
        sums: dict[str, Tensor] = {}
        count = 0
        for collated, _ in exchanging_once(batch, model, accelerator):
            piece = PretrainBatch(*(part.to(accelerator.device, non_blocking=True) for part in collated))
            losses = _named(model(piece))
            accelerator.backward(losses["loss"] / len(batch))
            for name, value in losses.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value.detach() / len(batch)
            count += int(piece.attention_mask.sum())
        return sums, count

    def name(self, batch: Pieces) -> str:
        """The texts' numbers in the tokenised corpus."""
        numbers = [number for _, texts in batch for number in texts]
        return f"texts {', '.join(map(str, numbers[:8]))}{' …' if len(numbers) > 8 else ''} of the tokenised corpus"

    def extra(self) -> dict[str, float]:
        """Nothing."""
        return {}

    def restore(self, extra: Mapping[str, float]) -> None:
        """Nothing."""

    @cached_property
    def _probe(self) -> PretrainBatch:
        """The last texts, collated."""
        count = len(self.tokens)
        return self._collated(range(max(0, count - _PROBED), count), 0)

    def validate(self, accelerator: Any) -> dict[str, float]:
        """How far the vectors of some texts are from collapse (`spread`)."""
        return spread(self.module, self._probe, accelerator)


def _named(found: PretrainLoss) -> dict[str, Tensor]:
    parts = {"loss": found.total, "mlm": found.mlm, "reconstruction": found.reconstruction, "bow": found.bow}
    return {name: value for name, value in parts.items() if value is not None}


@torch.no_grad()
def spread(module: RetroMAE, batch: PretrainBatch, accelerator: Any) -> dict[str, float]:
    """How far the CLS vectors of the batch's uncorrupted texts are from collapse: [B,H] → two numbers.

    `cosine` is the mean over pairs: 1 is full collapse. `rank` is the effective rank, the exponential of the entropy of
    the normalised singular values of the centred vectors (Roy and Vetterli 2007): 1 is collapse onto a line, min(B,H)
    no direction preferred.
    """
    lm = accelerator.unwrap_model(module).lm
    ids, mask = (part.to(accelerator.device) for part in (batch.decoder_input_ids, batch.attention_mask))
    cls = lm.base_model(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0].float()  # [B,H]
    unit = torch.nn.functional.normalize(cls, dim=1)
    n = len(unit)
    cosine = ((unit @ unit.T).sum() - n) / (n * (n - 1))
    return {"cosine": cosine.item(), "rank": effective_rank(cls)}


def effective_rank(vectors: Tensor) -> float:
    """exp(-Σ p log p) with p the singular values of the centred `vectors` [n,H], made to sum to 1."""
    values = torch.linalg.svdvals(vectors - vectors.mean(dim=0))
    share = values / values.sum()
    share = share[share > 0]
    return float(torch.exp(-(share * share.log()).sum()))
