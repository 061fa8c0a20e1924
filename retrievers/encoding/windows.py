"""Long documents as windows of their tokens: each window is encoded, and a document scores by its windows.

MaxP, the score of the best window, is of Dai and Callan (SIGIR 2019), and so is FirstP, that of the first.
"""

import hashlib
import os
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from harness.retrievers.encoding.text_form import Form
from harness.retrievers.errors import InputError
from harness.retrievers.types import Corpus, Document, Job

WindowScore = Literal["max", "first", "sum", "top3"]
SMALLEST = 16  # tokens
_AT_ONCE = 256  # documents
Span = tuple[int, int]  # of characters


@dataclass(frozen=True)
class Windows:
    """Windows of `size` tokens, each `stride` tokens behind the one before."""

    size: int
    stride: int

    @classmethod
    def of(cls, text: str) -> "Windows":
        """From `256/128`. Raises ValueError for anything else, and where words between two windows would be lost."""
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        if match is None:
            raise ValueError(f"windows is {text!r}; want tokens/stride, such as 256/128")
        found = cls(int(match[1]), int(match[2]))
        if found.size < SMALLEST or not 0 < found.stride <= found.size:
            raise ValueError(
                f"windows is {text!r}; want at least {SMALLEST} tokens, and a stride from 1 to as many as a window has"
            )
        return found


class Splitter:
    """Divides documents into windows by a tokenizer, at the beginnings of words.

    A window is as many tokens with its title, its prefix and the special tokens as `windows.size`; a title takes half
    of that at most. Raises InputError for a tokenizer that does not say where its tokens are in a text.
    """

    def __init__(self, tokenizer: Any, windows: Windows, form: Form, prefix: str, marker: int = 0) -> None:
        """`marker` are the tokens that the encoder puts before each text beside those of its tokenizer."""
        if not getattr(tokenizer, "is_fast", False):
            raise InputError(
                "windows needs a tokenizer that says where each token is in the text (one of the library tokenizers); "
                "this checkpoint's does not."
            )
        self._tokenizer, self._windows, self._form = tokenizer, windows, form
        pair = form in ("pair", "typed pair")
        self._special = tokenizer.num_special_tokens_to_add(pair=pair) + (form == "separator") + marker
        self._special += len(self._tokens([prefix])[0]) if prefix else 0
        if self._special + SMALLEST // 2 > windows.size:
            raise InputError(
                f"windows of {windows.size} tokens have no room beside {self._special} special ones and the prefix."
            )

    def _tokens(self, texts: Sequence[str]) -> Any:
        found = self._tokenizer(
            list(texts), add_special_tokens=False, truncation=False, return_offsets_mapping=True, verbose=False,
            return_attention_mask=False, return_token_type_ids=False,
        )  # fmt: skip
        return found.encodings

    def split(self, documents: Iterable[Document]) -> Iterator[tuple[Document, list[Span]]]:
        """Yield each document, its title cut to half a window, and where in its text its windows are, one at least."""
        stream = iter(documents)
        while docs := list(islice(stream, _AT_ONCE)):
            titled = self._form != "none"
            titles = self._tokens([doc.title if titled else "" for doc in docs])
            for doc, title, text in zip(docs, titles, self._tokens([doc.text for doc in docs]), strict=True):
                room = self._windows.size - self._special
                most = room // 2
                if titled and len(title) > most:
                    doc = doc._replace(title=doc.title[: title.offsets[most - 1][1]])  # noqa: PLW2901
                room -= min(len(title), most)
                yield doc, spans(text.offsets, text.word_ids, room, min(self._windows.stride, room))


def spans(offsets: Sequence[Span], words: Sequence[int | None], size: int, stride: int) -> list[Span]:
    """Where windows of `size` tokens are, from each token's characters and word.

    Each begins `stride` tokens behind the one before, or at the beginning of the word there; a word longer than a
    window is divided. A text without tokens is one empty window.
    """
    count, found, start = len(offsets), list[Span](), 0
    while True:
        end = start + size
        if end >= count:
            found.append((offsets[start][0], offsets[-1][1]) if count else (0, 0))
            return found
        found.append((offsets[start][0], offsets[_word(words, end, start) - 1][1]))
        start = _word(words, start + stride, start)


def _word(words: Sequence[int | None], place: int, after: int) -> int:
    """The token at which the word of token `place` begins, if that is behind `after`; else `place`."""
    begin = place
    while begin > after and words[begin] is not None and words[begin - 1] == words[begin]:
        begin -= 1
    return begin if begin > after else place


class WindowedCorpus:
    """A corpus whose documents are the windows of another's, `ID#0`, `ID#1`, …, in order; each has the title."""

    def __init__(self, corpus: Corpus, splitter: Splitter, key: str, first_only: bool, job: Job) -> None:
        """`key` says whatever decides the windows; with `first_only` a document has its first window alone."""
        self._corpus, self._splitter, self._first_only = corpus, splitter, first_only
        self.name = corpus.name
        digest = hashlib.sha256(f"{corpus.content_hash} windows {key} {first_only}".encode())
        self.content_hash = digest.hexdigest()
        kept = job.cache / "windows" / f"{self.content_hash[:32]}.npy"
        found = _kept(kept, corpus.count)
        if found is None:
            with job.phase("windows", corpus.count, "documents") as meter:
                found = np.fromiter(_counted(self, meter), dtype=np.int64, count=corpus.count)
            kept.parent.mkdir(parents=True, exist_ok=True)
            new = kept.with_suffix(f".{os.getpid()}-{threading.get_ident()}.npy")
            np.save(new, found)
            new.replace(kept)
        self.counts = found  # [N] windows of each document

    @property
    def count(self) -> int:
        """How many windows there are."""
        return int(self.counts.sum())

    def spans(self) -> Iterator[tuple[Document, list[Span]]]:
        """Yield each document and its windows."""
        for doc, found in self._splitter.split(self._corpus.documents()):
            yield doc, found[:1] if self._first_only else found

    def documents(self) -> Iterator[Document]:
        """Yield the windows."""
        for doc, found in self.spans():
            for number, (low, high) in enumerate(found):
                yield Document(f"{doc.doc_id}#{number}", doc.title, doc.text[low:high])


def _counted(corpus: WindowedCorpus, meter: Any) -> Iterator[int]:
    for _, found in corpus.spans():
        yield len(found)
        meter.advance()


def _kept(path: Any, count: int) -> npt.NDArray[np.int64] | None:
    """The windows of each document, as an earlier run counted them."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.shape == (count,) and found.dtype == np.int64 and bool((found > 0).all()) else None


def document_of(window_id: bytes) -> bytes:
    """The id of the document that a window is of."""
    return window_id.rpartition(b"#")[0]


@dataclass(frozen=True)
class Grouping:
    """Which rows of a store are whose windows, and how a document scores by them."""

    starts: npt.NDArray[np.int64]  # [N+1] the first row of each document
    score: WindowScore

    @classmethod
    def of(cls, counts: npt.NDArray[np.int64], score: WindowScore) -> "Grouping":
        """From how many windows each document has."""
        return cls(np.concatenate(([0], np.cumsum(counts))), score)

    def owners(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The document of each row."""
        return np.searchsorted(self.starts, rows, side="right") - 1

    def distinct(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The documents of rows that are in order, each once, in the order of its first row."""
        owners = self.owners(rows)
        _, firsts = np.unique(owners, return_index=True)
        return owners[np.sort(firsts)]

    def rows_of(self, documents: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """All rows of ascending documents, ascending."""
        spans = [np.arange(self.starts[n], self.starts[n + 1]) for n in documents]
        return np.concatenate([np.empty(0, np.int64), *spans])

    def scores(self, documents: npt.NDArray[np.int64], scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The score of each of ascending documents, from those of all their rows, ascending."""
        ends = np.cumsum(self.starts[documents + 1] - self.starts[documents])
        parts = [scores[low:high] for low, high in pairwise([0, *ends.tolist()])]
        return np.array([combined(part, self.score) for part in parts], dtype=np.float32)


def combined(scores: npt.NDArray[np.float32], how: WindowScore) -> float:
    """One score of those of a document's windows: the best, the first, their sum, or the mean of the best three."""
    if how == "first":
        return float(scores[0])
    if how == "sum":
        return float(scores.sum(dtype=np.float64))
    if how == "top3":
        return float(np.sort(scores)[-3:].mean(dtype=np.float64))
    return float(scores.max())
