"""The one collator: from token ids to a `PretrainBatch`, in torch over the whole batch (paper, section 3.1).

Masks are drawn for whole words: each word by itself with the configured rate, so that it holds in expectation; or, as
in the authors' code, words in random order until so many tokens are masked. A batch is a pure function of its texts and
of (seed, step): a resumed run sees the masks it would have seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.models.losses.pretraining import IGNORED
from harness.models.pretraining.config import PretrainConfig
from harness.models.pretraining.mae import PretrainBatch, ordinary
from harness.models.training.seeds import mixed

Ids = Sequence[int] | npt.NDArray[Any]  # token ids of one text
_LEVELS = 1 << 16  # of a rate: words are drawn with 16 random bits each
_MASKS = 256  # of a text, at most, among which the decoder's rows choose where counts are exact


@dataclass(frozen=True)
class Vocabulary:
    """What masking must know of a tokenizer: V entries, four special ids, and which entries continue a word."""

    size: int
    cls_id: int
    sep_id: int
    pad_id: int
    mask_id: int
    continues: Tensor | None  # [V] bool; None where an entry does not say: the tokenizer must, token by token

    @classmethod
    def of(cls, tokenizer: Any, prefix: str = "##") -> "Vocabulary":
        """Read a tokenizer of `transformers`; WordPiece marks what goes on with `prefix`, others mark nothing so.

        Raises ValueError where it lacks a special token.
        """
        ids = {name: getattr(tokenizer, f"{name}_token_id") for name in ("cls", "sep", "pad", "mask")}
        missing = [name for name, value in ids.items() if value is None]
        if missing:
            raise ValueError(f"the tokenizer has no {', '.join(missing)} token; masking needs cls, sep, pad and mask")
        tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        marked = torch.tensor([token.startswith(prefix) for token in tokens])
        wordpiece = type(getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)).__name__ == "WordPiece"
        continues = marked if wordpiece or not getattr(tokenizer, "is_fast", False) else None
        return cls(len(tokenizer), ids["cls"], ids["sep"], ids["pad"], ids["mask"], continues)


@dataclass(frozen=True)
class Collator:
    """Makes batches of at most `max_length` tokens a text, [CLS] and [SEP] included."""

    vocabulary: Vocabulary
    config: PretrainConfig
    max_length: int
    seed: int = 0

    def __call__(self, texts: Sequence[Ids], step: int, starts: Sequence[Any] | None = None) -> PretrainBatch:
        """Return the batch of `texts` (token ids without special tokens) at `step`.

        `starts` says of each text which tokens begin a word; without it the vocabulary does. Raises ValueError for a
        text without a token, or where neither says it.
        """
        config = self.config
        draw = torch.Generator().manual_seed(mixed(self.seed, step))
        ids, attended = self._pad(texts)  # [B,L]
        words = ordinary(attended)
        number = _word_numbers(words, self._starts(ids, starts))  # [B,L], the last number for what is no word
        slots = int(number.max()) + 1
        exact = config.masks == "exact"

        if exact:
            chosen = _exact(1, number, words, attended, config.encoder_mask_rate, draw)[:, 0]  # [B,W]
        else:
            chosen = _draw((len(ids), slots), config.encoder_mask_rate, draw)
        if not exact or config.bow_positions == "unmasked":  # something must remain to pool
            chosen = _some(chosen, number, words, draw)
        chosen = chosen.gather(1, number) & words  # [B,L]
        if exact:
            blocked = _of_some(_MASKS, number, words, attended, config.decoder_mask_rate, draw)
        else:
            blocked = _draw((*ids.shape, slots), config.decoder_mask_rate, draw)  # [B,L,W], of each row its own words
        blocked = blocked.gather(2, number.unsqueeze(1).expand(-1, ids.shape[1], -1)) & words.unsqueeze(1)  # [B,L,L]
        visible = ~blocked & attended.unsqueeze(1) & attended.unsqueeze(2)
        visible.diagonal(dim1=1, dim2=2).fill_(False)  # no token sees itself (equation 5)

        labelled = attended if config.decoder_labels == "all" else words
        return PretrainBatch(
            encoder_input_ids=self._corrupt(ids, chosen, draw),
            attention_mask=attended.long(),
            encoder_labels=ids.masked_fill(~chosen, IGNORED),
            decoder_input_ids=ids,
            decoder_mask=visible,
            decoder_labels=ids.masked_fill(~labelled, IGNORED),
        )

    def _pad(self, texts: Sequence[Ids]) -> tuple[Tensor, Tensor]:
        room = self.max_length - 2
        lengths = np.array([min(len(text), room) for text in texts])
        if not lengths.all():
            raise ValueError(f"text {int(np.argmin(lengths))} of the batch has no token; leave empty texts out")
        flat = np.concatenate([np.asarray(text[:room], dtype=np.int64) for text in texts])
        place = torch.arange(int(lengths.max()) + 2)
        ends = torch.from_numpy(lengths).unsqueeze(1)  # [B,1]
        ids = torch.full((len(texts), len(place)), self.vocabulary.pad_id)
        ids[(place >= 1) & (place <= ends)] = torch.from_numpy(flat)
        ids[:, 0] = self.vocabulary.cls_id
        ids.scatter_(1, ends + 1, self.vocabulary.sep_id)
        return ids, place <= ends + 1

    def _starts(self, ids: Tensor, starts: Sequence[Any] | None) -> Tensor:
        """Which positions [B,L] begin a word."""
        if starts is None:
            if self.vocabulary.continues is None:
                raise ValueError("this tokenizer does not mark words in its entries: say which tokens begin one")
            return ~self.vocabulary.continues[ids]
        found = torch.zeros(ids.shape, dtype=torch.bool)
        for row, own in enumerate(starts):
            kept = torch.from_numpy(np.asarray(own, dtype=np.bool_)[: self.max_length - 2])
            found[row, 1 : 1 + len(kept)] = kept
        return found

    def _corrupt(self, ids: Tensor, chosen: Tensor, draw: torch.Generator) -> Tensor:
        """Replace chosen tokens by [MASK], by a random token, or not, in the configured shares."""
        masked, random, _ = self.config.corruption
        corrupted = ids.masked_fill(chosen, self.vocabulary.mask_id)
        if masked == 1:
            return corrupted
        share = torch.rand(ids.shape, generator=draw)
        strangers = torch.randint(self.vocabulary.size, ids.shape, generator=draw)
        corrupted = torch.where(chosen & (share >= masked), strangers, corrupted)
        return torch.where(chosen & (share >= masked + random), ids, corrupted)


def _word_numbers(words: Tensor, starts: Tensor) -> Tensor:
    """Number the words of each sequence from 0; special tokens and padding share the number after the last."""
    starts = words & starts
    starts[:, 1] = words[:, 1]  # a text cut in the middle of a word begins one all the same
    number = starts.long().cumsum(1) - 1  # [B,L]
    return torch.where(words, number, number.max() + 1)


def _draw(shape: tuple[int, ...], rate: float, draw: torch.Generator) -> Tensor:
    """True with probability `rate`, to 1 / 65,536; four draws from each random 64-bit number."""
    count = int(np.prod(shape))
    wide = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None, generator=draw)
    bits = wide.view(torch.int16)[:count]
    return (bits < round(rate * _LEVELS) - _LEVELS // 2).view(shape)


def _exact(count: int, number: Tensor, words: Tensor, attended: Tensor, rate: float, draw: torch.Generator) -> Tensor:
    """`count` masks of each text over its words [B,M,W]: words in random order, as long as they fit into a number.

    That is max(1, round(rate · L)) tokens, L of them attended. A word that would exceed it is passed over, as in the
    authors' `_whole_word_mask` (src/pretrain, from transformers' DataCollatorForWholeWordMask).
    """
    slots = int(number.max()) + 1
    sizes = torch.zeros(len(number), slots, dtype=torch.long).scatter_add_(1, number, words.long())  # [B,W] tokens
    budget = torch.tensor([max(1, round(int(length) * rate)) for length in attended.sum(1)])  # [B]
    order = torch.rand(len(number), count, slots, generator=draw).argsort(dim=2)  # [B,M,W]
    ordered = sizes.unsqueeze(1).expand(-1, count, -1).gather(2, order)
    left = budget.unsqueeze(1).repeat(1, count)  # [B,M]
    taken = torch.zeros_like(order, dtype=torch.bool)
    for place in range(slots):
        size = ordered[..., place]
        fits = (size <= left) & (size > 0)
        taken[..., place] = fits
        left -= size * fits
    return torch.zeros_like(taken).scatter_(2, order, taken)


def _of_some(most: int, number: Tensor, words: Tensor, attended: Tensor, rate: float, draw: torch.Generator) -> Tensor:
    """For each row of the decoder [B,L,W] one of its text's masks, of which there are as many as tokens, or `most`."""
    lengths = attended.sum(1).clamp(max=most)  # [B]
    masks = _exact(int(lengths.max()), number, words, attended, rate, draw)  # [B,M,W]
    row = (torch.rand(number.shape, generator=draw) * lengths.unsqueeze(1)).long()  # [B,L]
    return masks.gather(1, row.unsqueeze(2).expand(-1, -1, masks.shape[2]))


def _some(chosen: Tensor, number: Tensor, words: Tensor, draw: torch.Generator) -> Tensor:
    """Mend sequences in which no word, or every word, was chosen [B,W]: one at random is chosen, or released.

    A text of one word is left whole: something must remain to pool. Beyond a dozen words this hardly ever happens.
    """
    counts = torch.where(words, number + 1, 0).amax(1)  # [B] words
    real = torch.arange(chosen.shape[1]) < counts.unsqueeze(1)  # [B,W]
    chosen = chosen & real
    taken = chosen.sum(1)
    lucky = (torch.rand(len(chosen), generator=draw) * counts).long().clamp(max=chosen.shape[1] - 1)  # [B]
    wrong = (taken == 0) | (taken == counts)
    value = torch.where(wrong, (taken == 0) & (counts > 1), chosen.gather(1, lucky.unsqueeze(1)).squeeze(1))
    return chosen.scatter(1, lucky.unsqueeze(1), value.unsqueeze(1))
