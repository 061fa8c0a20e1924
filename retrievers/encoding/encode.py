"""Text → vectors: batched by length, sharded to disk, resumable shard by shard."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import torch
from filelock import FileLock, Timeout

from harness.models.checkpoints.checkpoint import Loaded
from harness.models.layers.encoder import top_terms
from harness.models.training.batching import by_length, pad
from harness.models.training.precision import IMITATED, imitated
from harness.retrievers.encoding import store
from harness.retrievers.encoding.huge_pages import roomy
from harness.retrievers.encoding.store import Header, Shard, ShardError, V, Vectors
from harness.retrievers.encoding.text_form import Form, Text, passage_texts, prefixed
from harness.retrievers.encoding.vectors import HybridQueries, HybridVectors, term_id_type
from harness.retrievers.errors import InputError
from harness.retrievers.types import Corpus, Document, Job, Query

# A batch holds texts of near length, at most so many padded tokens. It never crosses a shard, so that a shard's bytes
# do not depend on which shards were there already.
TOKENS_PER_BATCH = {"cpu": 2_048, "cuda": 65_536}
_MOST_LOST = 0.01  # of a vector's length, by rounding it to 16 bits; of values that are not tiny it is 0.0005
MOST_PER_BATCH = {"cpu": 64, "cuda": 1_024}
# places; input_ids, attention_mask and, where there are any but 0, token_type_ids, all [B,L]
Batch = tuple[list[int], torch.Tensor, torch.Tensor, torch.Tensor | None]
Tokens = Mapping[str, list[list[int]]]  # what a tokenizer makes of texts


V_co = TypeVar("V_co", bound=Vectors, covariant=True)


class DocumentEncoder(Protocol[V_co]):
    """What makes the vectors of a store."""

    @property
    def kind(self) -> type[V_co]:
        """The class of the vectors."""
        ...

    def documents(self, docs: Sequence[Document], done: Callable[[int], None]) -> V_co:
        """Encode passages; `done` hears of each batch how many it held."""
        ...


@dataclass(frozen=True)
class TextEncoder:
    """A loaded checkpoint on a device; `titles` says how a passage's title comes before its text, see `text_form`.

    `cut` takes, of each call of `documents`, how many passages were longer than the encoder reads.
    """

    loaded: Loaded
    device: torch.device
    titles: Form = "space"
    missing_title: str = ""
    cut: list[int] = field(default_factory=list, compare=False)
    kind: ClassVar[type[HybridVectors]] = HybridVectors

    def documents(self, docs: Sequence[Document], done: Callable[[int], None]) -> HybridVectors:
        """Encode passages: [n,D] and the K largest terms of each; a smaller K where none of them has so many."""
        spec, n = self.loaded.spec, len(docs)
        dense = np.zeros((n, spec.dense or 0), dtype=np.float16)
        found: list[tuple[list[int], Any, Any]] = []
        greatest, kind = 0.0, term_id_type(self.loaded.vocabulary)
        separator = self.loaded.tokenizer.sep_token
        texts = passage_texts(docs, self.titles, self.missing_title, separator, spec.passage_prefix)
        tokens = self._tokens(texts, spec.passage_length)
        self.cut.append(longer(self.loaded.tokenizer, texts, tokens["input_ids"], spec.passage_length))
        for places, cls, pooled in self._encode(tokens):
            if spec.dense:
                dense[places] = halves(cls, [docs[place].doc_id for place in places])
            if spec.lexical:
                most = int(pooled.count_nonzero(dim=1).max())  # V of them where nothing makes zeros
                best, values = top_terms(pooled, min(spec.lexical, most))
                greatest = max(greatest, float(values.max()) if values.numel() else 0.0)
                weights = values.to(torch.float16).cpu().numpy()
                found.append((places, best.cpu().numpy().astype(kind), weights))
            done(len(places))
        if greatest > 0 and not any(values.any() for _, _, values in found):
            raise InputError(
                f"no term weight of {n:,} documents from {docs[0].doc_id!r} on is left in 16 bits: the greatest is "
                f"{greatest:.1e}, and float16 begins at 6.0e-08. Scale the checkpoint's logits."
            )
        width = max((best.shape[1] for _, best, _ in found), default=0)
        ids, weights = np.zeros((n, width), dtype=kind), np.zeros((n, width), dtype=np.float16)
        for places, best, values in found:
            ids[places, : best.shape[1]], weights[places, : best.shape[1]] = best, values
        return HybridVectors(dense, ids, weights)

    def queries(self, queries: Sequence[Query]) -> HybridQueries:
        """Encode queries: [Q,D] and all V weights, the lexical half's scale applied."""
        spec, n = self.loaded.spec, len(queries)
        dense = np.zeros((n, spec.dense or 0), dtype=np.float32)
        lexical = roomy((n, self.loaded.vocabulary if spec.lexical else 0), np.float32)
        texts = prefixed(spec.query_prefix, [query.text for query in queries])
        for places, cls, pooled in self._encode(self._tokens(texts, spec.query_length)):
            if spec.dense:
                dense[places] = cls.cpu().numpy()
            if spec.lexical:
                lexical[places] = (pooled * spec.lexical_scale).cpu().numpy()
        for name, values in (("dense", dense), ("lexical", lexical)):
            wrong = ~np.isfinite(values).all(axis=1)
            if wrong.any():
                query_id = queries[int(np.flatnonzero(wrong)[0])].query_id
                raise InputError(f"the {name} half of query {query_id!r} is not finite. Is the checkpoint damaged?")
        return HybridQueries(dense, lexical)

    @torch.inference_mode()
    def _encode(self, tokens: Tokens) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
        """Yield (places, dense half [B,D], μ [B,V]) of each batch; a half that the spec lacks is empty."""
        encoder, spec = self.loaded.encoder, self.loaded.spec
        for places, input_ids, mask, types in self._batches(tokens):
            hidden = encoder(input_ids, mask, types)  # [B,L,H]
            nothing = hidden.new_empty(len(places), 0)
            cls = encoder.dense(hidden, mask) if spec.dense else nothing
            pooled = encoder.lexical(hidden, encoder.ordinary(input_ids, mask)) if spec.lexical else nothing
            yield places, cls, pooled

    def _tokens(self, texts: list[Text], length: int) -> Tokens:
        tokenizer: Any = self.loaded.tokenizer
        typed = self.titles == "typed pair"
        found: Tokens = tokenizer(
            texts, truncation=True, max_length=length, return_attention_mask=False, return_token_type_ids=typed
        )
        return found

    def _batches(self, found: Tokens) -> Iterator[Batch]:
        tokens, kinds = found["input_ids"], found.get("token_type_ids") if self.titles == "typed pair" else None
        for places in batches(tokens, self.device.type):
            fill = self.loaded.tokenizer.pad_token_id or 0
            input_ids, mask = pad([tokens[place] for place in places], fill)  # [B,L]
            types = pad([kinds[place] for place in places], 0)[0].to(self.device) if kinds is not None else None
            yield places, input_ids.to(self.device), mask.to(self.device), types


def longer(tokenizer: Any, texts: Sequence[Text], tokens: Sequence[Sequence[int]], length: int) -> int:
    """How many texts have more tokens than `length`, to which `tokens` are cut."""
    full = [text for text, ids in zip(texts, tokens, strict=True) if len(ids) >= length]
    if not full:
        return 0
    whole = tokenizer(full, truncation=False, verbose=False, return_attention_mask=False, return_token_type_ids=False)
    return sum(len(ids) > length for ids in whole["input_ids"])


def batch_rule(device: str) -> str:
    """What `batches` does, in words; named in a store's header, since equal rules give equal batches."""
    return f"by length within a shard, {TOKENS_PER_BATCH[device]} padded tokens, {MOST_PER_BATCH[device]} texts"


def batches(tokens: Sequence[Sequence[int]], device: str) -> Iterator[list[int]]:
    """Yield the places of each batch's texts in `tokens`, as many as suit the kind of device."""
    return by_length([len(row) for row in tokens], TOKENS_PER_BATCH[device], MOST_PER_BATCH[device])


def halves(vectors: torch.Tensor, doc_ids: Sequence[str]) -> Any:
    """Vectors [n,D] in 16 bits, as a store keeps them.

    Raises InputError for one that is so small that more than a hundredth of it is lost; what is too large is found when
    the store is written.
    """
    vectors = vectors.float()
    kept = vectors.to(torch.float16)
    lost = (kept.float() - vectors).norm(dim=1) > _MOST_LOST * vectors.norm(dim=1)
    if bool((lost & kept.isfinite().all(dim=1)).any()):
        place = int(lost.nonzero()[0])
        raise InputError(
            f"the vector of document {doc_ids[place]!r} is too small for 16 bits: its greatest value is "
            f"{float(vectors[place].abs().max()):.1e}, and float16 is exact from 6.1e-05 up. Scale the checkpoint's "
            "output, or compare by cosine (similarity cosine)."
        )
    return kept.cpu().numpy()


def build(folder: Path, header: Header, encoder: DocumentEncoder[V], corpus: Corpus, job: Job) -> dict[int, Shard[V]]:
    """Return the shards of a store by number, encoding those that are missing or damaged and only those.

    Where several processes work together, process r of p makes and returns the shards r, r + p, r + 2p and so on. Of
    two equal commands one waits, then finds the store whole, or takes over what a killed one left. Raises InputError
    for vectors that are not finite or a disk without space.
    """
    numbers = range(job.rank, header.shards, job.processes)
    if all(store.path_of(folder, number).exists() for number in numbers):
        with contextlib.suppress(ShardError):  # a whole store needs no lock, and may lie where nothing can be written
            return {number: store.read(folder, header, number, encoder.kind) for number in numbers}
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / (".lock" if job.processes == 1 else f".lock-{job.rank}-of-{job.processes}"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        job.note(f"waiting for another process that is encoding into {folder}")
        lock.acquire()
    try:
        if job.rank == 0 or not (folder / "store.json").exists():  # another machine has a folder of its own
            (folder / "store.json").write_text(store.describe(header))
        found = {number: _whole(folder, header, number, encoder.kind, job) for number in numbers}
        missing = [number for number, shard in found.items() if shard is None]
        if missing:
            _encode(folder, header, missing, len(numbers), encoder, corpus, job)
        return {n: shard or store.read(folder, header, n, encoder.kind) for n, shard in found.items()}
    except ShardError as error:
        raise InputError(f"{folder}: {error}, though it was just written. Is the disk sound?") from error
    finally:
        lock.release()


def _whole(folder: Path, header: Header, number: int, kind: type[V], job: Job) -> Shard[V] | None:
    try:
        return store.read(folder, header, number, kind)
    except ShardError as error:
        if store.path_of(folder, number).exists():
            job.warn(f"{error}; only this shard is encoded again ({folder})")
        return None


def _encode(
    folder: Path,
    header: Header,
    missing: Sequence[int],
    wanted: int,
    encoder: DocumentEncoder[V],
    corpus: Corpus,
    job: Job,
) -> None:
    precision, _, device = header.precision.partition(" on ")
    if imitated(device, precision):
        job.warn(IMITATED)
    if len(missing) < wanted:
        job.note(f"{wanted - len(missing)} of {wanted} shards are encoded already and are kept")
    total = sum(high - low for low, high in map(header.span, missing))
    documents, at = corpus.documents(), 0
    with job.phase("encode", total, "documents") as meter:
        for place, number in enumerate(missing, 1):
            low, high = header.span(number)
            docs = list(itertools.islice(documents, low - at, high - at))
            at = high
            vectors = encoder.documents(docs, meter.advance)
            counts: list[int] = getattr(encoder, "cut", [])  # of an encoder that can say
            cut = counts.pop() if counts else None
            store.write(folder, header, number, vectors, [doc.doc_id for doc in docs], cut)
            job.note(f"encoded shard {place} of {len(missing)}: documents {low:,} to {high - 1:,}")
