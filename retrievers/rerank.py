"""Re-ranking: a cross-encoder reads each query with the first documents of a run, and puts these into a new order."""

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from harness.retrievers import devices
from harness.retrievers.encoding.windows import Splitter, Windows, WindowScore, combined
from harness.retrievers.errors import InputError
from harness.retrievers.registry import Options
from harness.retrievers.torch_threads import torch_threads
from harness.retrievers.types import Corpus, Document, Floats, Job, Meter, Query, Run

if TYPE_CHECKING:
    import torch

    from harness.models.cross_encoder.reranker import About

DEPTH = 100
_QUERIES_AT_ONCE = 32  # the unit in which scoring resumes; batches never cross it, so its scores depend on it alone


class RerankOptions(Options):
    """What a user may say of a re-ranking."""

    checkpoint: str = Field(min_length=1, description="folder or hub id of a cross-encoder")
    depth: int = Field(DEPTH, ge=1, le=1_000_000, strict=True, description="documents of each query that are re-ranked")
    length: int | None = Field(None, ge=8, strict=True, description="tokens of a pair; None: as the checkpoint says")
    titles: bool = Field(True, description="whether a passage's title comes before its text")
    windows: str | None = Field(None, description="TOKENS/STRIDE of a passage, such as 256/128; its best window counts")
    window_score: WindowScore | None = Field(None, description="max (unless given), first, sum, top3")
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @model_validator(mode="after")
    def _by_windows(self) -> "RerankOptions":
        if self.windows is not None:
            Windows.of(self.windows)
        elif self.window_score is not None:
            raise ValueError("window_score says how windows make a score, and there are none: give windows as well")
        return self


class Reranker:
    """A cross-encoder over the first `depth` documents of each query.

    The scores of a re-ranked document are those of `harness.models.cross_encoder.reranker`, in float32 on any device.
    Documents below keep their order below: their scores are the least re-ranked one less 1, 2, 3 and so on, and mean
    nothing else.
    """

    packages = ("tokenizers", "torch", "transformers")

    def __init__(self, options: RerankOptions) -> None:
        self.options = options

    @cached_property
    def folder(self) -> Path:
        """The checkpoint's folder. Raises CheckpointError where it cannot be found."""
        from harness.models.checkpoints import hub

        return hub.locate(self.options.checkpoint)

    @cached_property
    def checkpoint_hash(self) -> str:
        """Over the files that decide the scores."""
        from harness.models.checkpoints import hub

        return hub.content_hash(self.folder)

    @cached_property
    def about(self) -> "About":
        """What the checkpoint's small files say. Raises CheckpointError where it scores no pairs."""
        from harness.models.cross_encoder import reranker

        return reranker.read(self.folder, self.options.length)

    @cached_property
    def device(self) -> "torch.device":
        """Where pairs are scored. Raises InputError for a GPU that is not there."""
        return devices.chosen(self.options.device, "rerank.device is cuda")

    def check(self) -> None:
        """Raise CheckpointError or InputError for what is known to be wrong before a collection is read."""
        self.fingerprint()

    def fingerprint(self) -> dict[str, Any]:
        """Whatever decides the new order, beside the first stage's run and the collection."""
        cut = {"windows": self.options.windows, "window_score": self.options.window_score or "max"}
        return (cut if self.options.windows else {}) | {
            "checkpoint": self.checkpoint_hash,
            "length": self.about.length,
            "depth": self.options.depth,
            "titles": self.options.titles,
            "precision": self.precision,
            "packages": {name: version(name) for name in self.packages},
        }

    @property
    def precision(self) -> str:
        """As the record names it."""
        return f"fp32 on {self.device.type}"

    def rerank(self, run: Run, corpus: Corpus, queries: Sequence[Query], job: Job) -> Run:
        """Return `run`, whose queries are `queries` in their order, with the first `depth` documents of each re-ranked.

        What is scored is kept under the job's cache by blocks of queries: killed halfway it goes on with the next
        block. Memory holds the texts of at most Q x depth documents. Raises InputError for a document that the corpus
        lacks, or a score that is not finite; CheckpointError as `harness.models.cross_encoder.reranker.PairScorer`.
        """
        depth = self.options.depth
        first = [run.rows(number)[0][:depth] for number in range(len(run))]
        ids = [[doc_id.decode() for doc_id in rows.tolist()] for rows in first]
        folder = job.cache / "rerank" / _digest(self.fingerprint(), corpus.content_hash)[:20]
        blocks = [range(low, min(low + _QUERIES_AT_ONCE, len(run))) for low in range(0, len(run), _QUERIES_AT_ONCE)]
        names = [_digest([(queries[n].text, ids[n]) for n in block]) for block in blocks]
        sizes = [sum(len(ids[n]) for n in block) for block in blocks]
        known = {
            place: found
            for place, name in enumerate(names)
            if (found := _kept(folder / f"{name[:40]}.npy", sizes[place])) is not None
        }
        missing = [place for place in range(len(blocks)) if place not in known and sizes[place]]
        if known and missing:
            job.note(f"{len(known)} of {len(blocks)} blocks of queries are re-ranked already and are kept")
        if missing:
            wanted = {doc_id for place in missing for n in blocks[place] for doc_id in ids[n]}
            texts = self._texts(wanted, corpus, job)
            folder.mkdir(parents=True, exist_ok=True)
            with job.phase("rerank", sum(sizes[place] for place in missing), "pairs") as meter:
                for place in missing:
                    pairs = [(queries[n].text, texts[doc_id]) for n in blocks[place] for doc_id in ids[n]]
                    known[place] = self._by_passage(pairs, job.threads, meter)
                    _keep(folder / f"{names[place][:40]}.npy", known[place])
        scores = np.concatenate([np.empty(0, np.float32), *(known[place] for place in sorted(known))])
        return _composed(run, [len(rows) for rows in ids], scores)

    def _texts(self, wanted: set[str], corpus: Corpus, job: Job) -> dict[str, str]:
        found: dict[str, str] = {}
        with job.phase("fetch", corpus.count, "documents") as meter:
            for doc in corpus.documents():
                if doc.doc_id in wanted:
                    found[doc.doc_id] = doc.joined if self.options.titles else doc.text
                meter.advance()
        if lost := sorted(wanted - found.keys()):
            raise InputError(
                f"{len(lost):,} documents of the run to re-rank are not in {corpus.name} ({', '.join(lost[:3])}). "
                "The retriever that named them is at fault."
            )
        return found

    @cached_property
    def _scorer(self) -> Any:
        from harness.models.cross_encoder.reranker import PairScorer

        return PairScorer(self.about, self.device)

    def _by_passage(self, pairs: list[tuple[str, str]], threads: int, meter: Meter) -> Floats:
        """The score of each (query, passage), by the passage's windows where there are any."""
        if self.options.windows is None:
            return self._scores(pairs, threads, meter.advance)
        splitter = Splitter(self._scorer.tokenizer, Windows.of(self.options.windows), "none", "")
        score = self.options.window_score or "max"
        divided = [
            [(query, passage[low:high]) for low, high in (found[:1] if score == "first" else found)]
            for (query, passage), (_, found) in zip(
                pairs, splitter.split(Document("", "", passage) for _, passage in pairs), strict=True
            )
        ]
        scores = self._scores([pair for some in divided for pair in some], threads, lambda _: None)
        ends = np.cumsum([len(some) for some in divided])
        meter.advance(len(pairs))
        return np.array([combined(part, score) for part in np.split(scores, ends[:-1])], dtype=np.float32)

    def _scores(self, pairs: list[tuple[str, str]], threads: int, done: Callable[[int], None]) -> Floats:
        import torch

        try:
            with torch_threads(threads):
                found: Floats = self._scorer.score(pairs, done)
        except torch.OutOfMemoryError as error:
            raise InputError(f"the GPU has no room for {self.folder}. Free it, or set rerank.device to cpu.") from error
        if not np.isfinite(found).all():
            query, _ = pairs[int(np.flatnonzero(~np.isfinite(found))[0])]
            raise InputError(f"{self.folder} gives query {query!r:.60} a score that is not finite. Is it damaged?")
        return found


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode(errors="surrogatepass")).hexdigest()


def _kept(path: Path, size: int) -> Floats | None:
    """The scores that an earlier run left; None where there are none, or they are damaged."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.dtype == np.float32 and found.shape == (size,) and np.isfinite(found).all() else None


def _keep(path: Path, scores: Floats) -> None:
    new = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.new")
    with new.open("wb") as file:
        np.save(file, scores)
    new.replace(path)


def _composed(run: Run, counts: Sequence[int], scores: Floats) -> Run:
    """The run with the scores of each query's first `counts`, and what is below them pushed down."""
    made = np.empty(len(run.doc_ids), dtype=np.float32)
    starts = [0, *np.cumsum(counts).tolist()]
    for number, ((low, high), at) in enumerate(zip(pairwise(run.offsets.tolist()), starts, strict=False)):
        middle = low + counts[number]
        made[low:middle] = scores[at : at + counts[number]]
        if middle < high:
            made[middle:high] = below(float(made[low:middle].min()), high - middle)
    rows_query = np.repeat(np.arange(len(run)), np.diff(run.offsets))
    return Run.from_rows(run.query_ids, rows_query, run.doc_ids, made)


def below(least: float, count: int) -> npt.NDArray[np.float32]:
    """`count` falling scores below `least`: 1 apart, or as far as float32 needs to tell them apart."""
    reach = abs(least) + count
    step = max(1.0, 4 * float(np.spacing(np.float32(reach))))
    return (least - step * np.arange(1, count + 1)).astype(np.float32)
