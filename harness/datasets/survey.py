"""One streaming pass over a collection: is it sound, how large is it, and what are its hashes."""

import hashlib
import itertools
import json
import os
import tempfile
import threading
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from harness.retrievers.errors import InputError
from harness.retrievers.ids import fault
from harness.retrievers.types import Document, Job, Query

_FORMAT = 2  # of a finding that is kept
_HASHES_IN_MEMORY = 1 << 20
_BUCKETS = 256
Hashes = npt.NDArray[np.uint64]  # [n]


class Source(Protocol):
    """Where a collection comes from: `FolderSource`, `IrDatasetsSource`, or one that joins titles to another."""

    kind: str
    location: str

    @property
    def count_hint(self) -> int | None:
        """How many documents there should be, where known."""
        ...

    def stamp(self) -> list[Any]:
        """What changes when the contents may have."""
        ...

    def documents(self) -> Iterator[Document]:
        """Yield the corpus as it is stored."""
        ...

    def queries(self) -> Iterator[Query]:
        """Yield the queries as they are stored."""
        ...

    def qrels(self) -> Iterator[tuple[str, str, int]]:
        """Yield the judgments as they are stored."""
        ...


class CorpusSurvey(BaseModel):
    """What one pass over the documents found."""

    documents: int  # N, each id once
    content_hash: str
    empty_texts: int
    without_title: int
    repeated_ids: list[str]  # ids that occur more than once, always with the same text
    duplicates: int  # rows dropped for that
    missing: list[str]  # of the judged ids that were looked for, those that the corpus lacks


class _SeenIds:
    """Finds ids that occur twice, in bounded memory: beyond a million documents, hashes go to buckets on disk."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack, self._folder = stack, folder
        self._hashes: Hashes = np.empty(_HASHES_IN_MEMORY, dtype=np.uint64)
        self._filled = 0
        self._buckets: list[IO[bytes]] = []

    def add(self, doc_id: str) -> None:
        if self._filled == len(self._hashes):
            self._spill()
        self._hashes[self._filled] = _id_hash(doc_id)
        self._filled += 1

    def _spill(self) -> None:
        if not self._buckets:
            place = Path(self._stack.enter_context(tempfile.TemporaryDirectory(dir=self._folder, prefix="survey-")))
            self._buckets = [self._stack.enter_context((place / f"{n:03}").open("w+b")) for n in range(_BUCKETS)]
        hashes = np.sort(self._hashes[: self._filled])
        starts = np.searchsorted(hashes, np.arange(1, _BUCKETS, dtype=np.uint64) * np.uint64(2**64 // _BUCKETS))
        for file, part in zip(self._buckets, np.split(hashes, starts), strict=True):
            file.write(part.tobytes())
        self._filled = 0

    def all(self) -> Hashes | None:
        """The hashes of all ids, each once and in order; None where they are beyond what is held in memory."""
        return None if self._buckets else np.unique(self._hashes[: self._filled])

    def repeated(self) -> set[int]:
        """Hashes of the ids that occur more than once."""
        if not self._buckets:
            return _repeats(self._hashes[: self._filled])
        self._spill()
        found: set[int] = set()
        for file in self._buckets:
            file.seek(0)
            found |= _repeats(np.frombuffer(file.read(), dtype=np.uint64))
        return found


def _id_hash(doc_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(doc_id.encode(), digest_size=8).digest())


def _repeats(hashes: Hashes) -> set[int]:
    ids, counts = np.unique(hashes, return_counts=True)
    return {int(x) for x in ids[counts > 1]}


def survey(source: Source, name: str, judged: set[str], job: Job) -> CorpusSurvey:
    """Read the corpus once and check it; the finding is kept in the cache until the source's stamp changes.

    `judged` are the ids to look for. Raises InputError for an empty corpus, an id that no run can carry, or one id with
    two different texts.
    """
    kept = _kept(source, judged, job)
    if (found := _read_again(kept)) is not None:
        return found
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        writable = os.access(kept.parent, os.W_OK)
    except OSError:
        writable = False
    found, ids = _read(source, name, judged, job, kept.parent if writable else Path(tempfile.gettempdir()))
    if not writable:  # read again the next time
        return found
    if ids is not None:
        new = kept.with_suffix(f".{os.getpid()}-{threading.get_ident()}.npy")
        np.save(new, ids)
        new.replace(kept.with_suffix(".npy"))
    new = kept.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tmp")
    new.write_text(found.model_dump_json(indent=1))
    new.replace(kept)
    return found


def kept_survey(source: Source, judged: set[str], job: Job) -> CorpusSurvey | None:
    """What `survey` found before; None where the corpus would have to be read."""
    return _read_again(_kept(source, judged, job))


def lacking(source: Source, judged: set[str], job: Job, doc_ids: Collection[str]) -> list[str] | None:
    """Those of `doc_ids` that the corpus has not, by what `survey` kept of its ids; None where that kept none.

    It keeps those of corpora of up to a million documents, as hashes of 64 bits.
    """
    try:
        known = np.load(_kept(source, judged, job).with_suffix(".npy"))
    except (OSError, ValueError):
        return None
    wanted = list(doc_ids)
    hashes = np.fromiter((_id_hash(doc_id) for doc_id in wanted), dtype=np.uint64, count=len(wanted))
    there = np.isin(hashes, known)
    return [doc_id for doc_id, found in zip(wanted, there.tolist(), strict=True) if not found]


def _kept(source: Source, judged: set[str], job: Job) -> Path:
    key = json.dumps(
        [_FORMAT, source.kind, source.stamp(), hashlib.sha256("\n".join(sorted(judged)).encode()).hexdigest()]
    )
    return job.cache / "surveys" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def _read_again(kept: Path) -> CorpusSurvey | None:
    try:
        return CorpusSurvey.model_validate_json(kept.read_bytes())
    except (OSError, ValueError):  # absent or damaged: the corpus is read again
        return None


def _read(source: Source, name: str, judged: set[str], job: Job, scratch: Path) -> tuple[CorpusSurvey, Hashes | None]:
    """What one pass finds, and the hashes of the ids, unless they are too many."""
    documents = source.documents()
    first = next(documents, None)  # outside the phase: whatever ir_datasets fetches now shows its own bar
    if first is None:
        raise InputError(f"the corpus of {name} ({source.location}) is empty: there is nothing to search.")
    total = empty = untitled = 0
    missing = set(judged)
    content = hashlib.sha256()
    with ExitStack() as stack:
        seen = _SeenIds(stack, scratch)
        meter = stack.enter_context(job.phase("survey", source.count_hint, "documents"))
        for doc in itertools.chain([first], documents):
            total += 1
            if wrong := fault(doc.doc_id):
                raise InputError(f"{name}, document {total:,} of {source.location}: the id {wrong}.")
            empty += not (doc.title.strip() or doc.text.strip())
            untitled += not doc.title
            missing.discard(doc.doc_id)
            content.update(f"{doc.doc_id}\0{doc.title}\0{doc.text}\0".encode(errors="surrogatepass"))
            seen.add(doc.doc_id)
            meter.advance()
        suspects, ids = seen.repeated(), seen.all()
    if source.count_hint not in (None, total):
        raise InputError(
            f"{name}: {source.location} holds {total:,} documents of it, and it has {source.count_hint:,}. What was "
            "unpacked there is damaged: delete the files of this collection and run again."
        )
    repeated, duplicates = _duplicates(source, name, suspects) if suspects else ([], 0)
    found = CorpusSurvey(
        documents=total - duplicates,
        content_hash=content.hexdigest(),
        empty_texts=empty,
        without_title=untitled,
        repeated_ids=repeated,
        duplicates=duplicates,
        missing=sorted(missing),
    )
    return found, ids


def _duplicates(source: Source, name: str, suspects: set[int]) -> tuple[list[str], int]:
    """Second pass, over suspected ids alone: the same text again is dropped, another text is an error."""
    first: dict[str, tuple[int, Document]] = {}
    repeated: set[str] = set()
    dropped = 0
    for number, doc in enumerate(source.documents(), 1):
        if _id_hash(doc.doc_id) not in suspects:
            continue
        where, kept = first.setdefault(doc.doc_id, (number, doc))
        if kept != doc:
            raise InputError(
                f"{name}: the id {doc.doc_id!r} has two different texts, documents {where} and {number} of the corpus "
                f"in {source.location}. Ids must be unique; remove or rename one."
            )
        if where != number:
            dropped += 1
            repeated.add(doc.doc_id)
    return sorted(repeated), dropped
