"""Tokenised texts on disk: flat token ids and offsets, memory-mapped, so that a corpus need not fit into memory."""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_IDS, _OFFSETS, _STARTS, _HEADER = "ids.bin", "offsets.bin", "starts.bin", "tokens.json"
_TEXTS_AT_ONCE = 1_000


class Ragged:
    """N rows of unequal length in one flat array: row i is `flat[offsets[i]:offsets[i+1]]`."""

    def __init__(self, flat: npt.NDArray[Any], offsets: npt.NDArray[np.int64]) -> None:
        self.flat, self.offsets = flat, offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> npt.NDArray[Any]:
        return self.flat[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """The length of each row [N]."""
        return np.diff(self.offsets)

    @classmethod
    def of(cls, rows: Iterable[Iterable[Any]], dtype: Any = np.int64) -> "Ragged":
        """Pack rows."""
        packed = [np.asarray(list(row), dtype=dtype) for row in rows]
        offsets = np.concatenate(([0], np.cumsum([len(row) for row in packed]))).astype(np.int64)
        return cls(np.concatenate([*packed, np.empty(0, dtype)]), offsets)


# the token ids of N texts, without special tokens
Tokens = Ragged


class Starts:
    """Which tokens begin a word, of N texts: a bit for each token of `Tokens` with the same offsets."""

    def __init__(self, bits: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> None:
        self._bits, self._offsets = bits, offsets

    def __getitem__(self, index: int) -> npt.NDArray[np.bool_]:
        first, end = int(self._offsets[index]), int(self._offsets[index + 1])
        own = np.unpackbits(self._bits[first // 8 : -(-end // 8)])
        return own[first % 8 : first % 8 + end - first].astype(np.bool_)


class Written(NamedTuple):
    """A store that `write` made or found, the texts it left out as too short, and word starts where they were asked."""

    tokens: Tokens
    left_out: int
    starts: Starts | None = None


def write(
    folder: Path,
    tokenizer: Any,
    texts: Iterable[str],
    length: int,
    *,
    shortest: int = 0,
    split: bool = False,
    words: bool = False,
    done: Callable[[int], None] = lambda _count: None,
) -> Written:
    """Tokenise `texts` into `folder`, at most `length` tokens each (special ones not counted); found again if there.

    A longer text is cut, or, with `split`, goes on as a text of its own. Pieces of fewer than `shortest` tokens are
    left out and counted. With `words` it is kept as well which tokens begin a word, as the tokenizer says. The folder
    is written beside itself and renamed: it is whole or not there. `done` hears of every thousand texts.
    """
    if (folder / _HEADER).is_file():
        return read(folder)
    kind = np.dtype(np.uint16 if len(tokenizer) <= np.iinfo(np.uint16).max else np.uint32)
    new = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    lengths: list[npt.NDArray[np.int64]] = [np.zeros(1, dtype=np.int64)]
    left_out = 0
    bits = _Bits()
    with (new / _IDS).open("wb") as file, (new / _STARTS).open("wb") as begun:
        for count, rows, starts in _tokenised(tokenizer, texts, length, split, words):
            long = [len(row) >= shortest for row in rows]
            kept = [row for row, there in zip(rows, long, strict=True) if there]
            left_out += len(rows) - len(kept)
            file.write(np.array([token for row in kept for token in row], dtype=kind).tobytes())
            begun.write(bits.bytes_of(start for own, there in zip(starts, long, strict=True) if there for start in own))
            lengths.append(np.array([len(row) for row in kept], dtype=np.int64))
            done(count)
        begun.write(bits.rest())
    if not words:
        (new / _STARTS).unlink()
    np.concatenate(lengths).cumsum().tofile(new / _OFFSETS)
    (new / _HEADER).write_text(json.dumps({"dtype": kind.name, "left_out": left_out}))
    new.rename(folder)
    return read(folder)


class _Bits:
    """Packs bits into bytes, across calls."""

    def __init__(self) -> None:
        self._over: list[bool] = []  # fewer than eight

    def bytes_of(self, more: Iterable[bool]) -> bytes:
        """The whole bytes that there are now."""
        every = [*self._over, *more]
        whole = len(every) - len(every) % 8
        self._over = every[whole:]
        return np.packbits(np.array(every[:whole], dtype=np.bool_)).tobytes()

    def rest(self) -> bytes:
        """The last ones, filled up."""
        return np.packbits(np.array(self._over, dtype=np.bool_)).tobytes()


def _tokenised(
    tokenizer: Any, texts: Iterable[str], length: int, split: bool, words: bool
) -> Iterator[tuple[int, list[list[int]], list[list[bool]]]]:
    """Yield how many texts were read at once, the rows of token ids that they gave, and which begin a word.

    The last is empty for each row unless `words`.
    """
    source = iter(texts)
    while part := list(islice(source, _TEXTS_AT_ONCE)):
        limits = {} if split else {"truncation": True, "max_length": length}
        answer = tokenizer(
            part,
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
            **limits,
        )
        found = answer["input_ids"]
        starts = [begins(answer.word_ids(n)) for n in range(len(part))] if words else [[] for _ in part]
        if split:
            pieces = [(n, at) for n, row in enumerate(found) for at in range(0, max(1, len(row)), length)]
            found = [found[n][at : at + length] for n, at in pieces]
            starts = [starts[n][at : at + length] for n, at in pieces]
        yield len(part), found, starts


def begins(numbers: list[int | None]) -> list[bool]:
    """Which tokens begin a word, of the words' numbers as a tokenizer gives them."""
    return [n == 0 or number != numbers[n - 1] for n, number in enumerate(numbers)]


def read(folder: Path) -> Written:
    """Open what `write` left in `folder`."""
    header = json.loads((folder / _HEADER).read_text())
    path = folder / _IDS
    # an empty file cannot be mapped
    ids = np.memmap(path, dtype=header["dtype"], mode="r") if path.stat().st_size else np.empty(0, header["dtype"])
    offsets = np.fromfile(folder / _OFFSETS, dtype=np.int64)
    path = folder / _STARTS
    starts = None
    if path.is_file():
        starts = Starts(np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8), offsets)
    return Written(Tokens(ids, offsets), header["left_out"], starts)


def chosen(seed: int, step: int, batch: int, count: int) -> npt.NDArray[np.int64]:
    """Which `batch` of `count` items step number `step` sees: each epoch is a permutation, cut into whole batches.

    A pure function of its arguments, so that a resumed run goes on where it stopped. Raises ValueError where there are
    fewer items than a batch wants.
    """
    if batch > count:
        raise ValueError(f"a batch of {batch:,} was asked for, and there are {count:,} items")
    steps = count // batch  # of an epoch; the rest is another one next time
    epoch, place = divmod(step, steps)
    return _permutation(seed, epoch, count)[place * batch : (place + 1) * batch]


def chosen_by_length(
    seed: int, step: int, batch: int, micro_batch: int, group: int, texts: Ragged
) -> npt.NDArray[np.int64]:
    """Which `batch` texts step number `step` sees, in micro-batches of near length, the longest micro-batch first.

    The texts that `chosen` gives to `group` steps one after another are sorted by length and cut into micro-batches,
    which are dealt to those steps at random. A pure function of its arguments; each text is seen once an epoch.
    """
    steps = max(1, len(texts) // batch)  # of an epoch
    epoch, place = divmod(step, steps)
    first = place - place % group
    size = min(group, steps - first)  # an epoch's last group may be smaller
    rows = np.concatenate([chosen(seed, epoch * steps + n, batch, len(texts)) for n in range(first, first + size)])
    lengths = texts.offsets[rows + 1] - texts.offsets[rows]
    pieces = rows[np.argsort(-lengths, kind="stable")].reshape(-1, micro_batch)
    dealt = np.random.default_rng([seed, epoch, first]).permutation(len(pieces)).reshape(size, -1)
    found: npt.NDArray[np.int64] = pieces[np.sort(dealt[place - first])].reshape(-1)
    return found


_LAST: dict[tuple[int, int, int], npt.NDArray[np.int64]] = {}


def _permutation(seed: int, epoch: int, count: int) -> npt.NDArray[np.int64]:
    key = seed, epoch, count
    found = _LAST.get(key)
    if found is None:
        found = np.random.default_rng([seed, epoch]).permutation(count)
        _LAST.clear()  # the one of the epoch that is running
        _LAST[key] = found
    return found
