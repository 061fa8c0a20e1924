"""Texts of unequal length in batches: sorted by length, cut into batches of a few tokens, padded."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def by_length(
    lengths: Sequence[int] | npt.NDArray[np.int64],
    tokens: int | None = None,
    texts: int | None = None,
    longest: int | None = None,
) -> Iterator[list[int]]:
    """Yield the places of each batch's texts, longest first: what does not fit into memory fails early.

    A batch holds at most `tokens` padded tokens and `texts` texts (None: any number), but at least one text; texts of
    equal length keep their order. `longest` is the length at which texts are cut when they are padded, if they are.
    """
    known = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-known, kind="stable")
    start = 0
    while start < len(order):
        width = max(1, int(known[order[start]]))
        fit = len(order) if tokens is None else tokens // (width if longest is None else min(width, longest))
        places = order[start : start + max(1, fit if texts is None else min(texts, fit))].tolist()
        start += len(places)
        yield places


def pad(rows: Sequence[Any], fill: int) -> tuple[Tensor, Tensor]:
    """Pad rows of token ids to the longest: the ids [B,L], filled up with `fill`, and the mask [B,L], 1 at tokens."""
    if not len(rows):
        raise ValueError("an empty batch has no width")
    lengths = np.array([len(row) for row in rows])
    there = np.arange(lengths.max()) < lengths[:, None]  # [B,L]
    ids = np.full(there.shape, fill, dtype=np.int64)
    ids[there] = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
    return torch.from_numpy(ids), torch.from_numpy(there.astype(np.int64))


class Texts(NamedTuple):
    """A padded chunk of texts and where they stand in the batch."""

    places: Tensor  # [b]
    input_ids: Tensor  # [b,L]
    attention_mask: Tensor  # [b,L]


def chunks(texts: Sequence[Any], size: int, cls_id: int, sep_id: int, pad_id: int) -> list[Texts]:
    """Texts (token ids without special tokens) of near length together, at most `size` a chunk, longest first."""
    found = []
    for places in by_length([len(text) for text in texts], texts=size):
        rows = [np.concatenate(([cls_id], texts[place].astype(np.int64), [sep_id])) for place in places]
        found.append(Texts(torch.tensor(places), *pad(rows, pad_id)))
    return found
