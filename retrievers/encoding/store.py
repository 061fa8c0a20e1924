"""Encoded collections on disk: shards of vectors, memory-mapped, checksummed, each whole or absent.

A store is a folder that holds `store.json` (what it is made of) and `shard-00000.safetensors`, …; a shard holds the
vectors of consecutive documents under these names:

==============  =======  =====  ===================================================
dense           float16  [n,D]
term_ids        uint16   [n,K]  0 where a document has fewer; uint32 beyond 65,536 terms
term_weights    float16  [n,K]  0 there
id_offsets      uint64   [n+1]  where each document id begins in `id_bytes`
id_bytes        uint8    [b]    the document ids in UTF-8, one after another
==============  =======  =====  ===================================================

or, of late interaction, `tokens` (float16, [T,D]) and `token_offsets` (uint64, [n+1]) in place of the first three;
and, in its metadata under `store`, the store's key, its place, a SHA-256 over the arrays, and how many documents
were longer than the encoder reads. The format is
safetensors: a documented header, then the arrays as they lie in memory.
"""

import hashlib
import json
import mmap
import os
import struct
import threading
from collections.abc import Mapping, Sequence
from dataclasses import Field, asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file
from typing_extensions import TypeVar

from harness.retrievers.encoding.vectors import HybridVectors
from harness.retrievers.errors import InputError
from harness.retrievers.types import Strings

SCHEMA = 1
_IDS = ("id_offsets", "id_bytes")
_TYPES = {"F16": np.float16, "U16": np.uint16, "U32": np.uint32, "U64": np.uint64, "U8": np.uint8}


class Vectors(Protocol):
    """A dataclass of arrays that holds n documents, made from these arrays in the order of its fields.

    Making one raises ValueError for arrays that do not fit together.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __init__(self, *arrays: Any) -> None: ...

    def __len__(self) -> int: ...

    def broken(self) -> tuple[int, str] | None:
        """A document that holds a value that is not finite, and the name of the array; None where all are."""
        ...


V = TypeVar("V", bound=Vectors, default=HybridVectors)


@dataclass(frozen=True)
class Header:
    """What decides the bytes of a store; two stores with equal headers are the same."""

    checkpoint_hash: str
    corpus_hash: str
    spec: dict[str, Any]  # pooling, widths, truncation, prefixes
    precision: str  # of the encoder's arithmetic
    libraries: dict[str, str]  # versions of what computes it
    batch_rule: str
    documents: int  # N
    shard_documents: int  # in every shard but the last
    schema: int = SCHEMA

    @property
    def key(self) -> str:
        """Hex SHA-256 of the header."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return -(-self.documents // self.shard_documents)

    def span(self, number: int) -> tuple[int, int]:
        """First document of shard `number`, and the first that is no longer in it."""
        return number * self.shard_documents, min(self.documents, (number + 1) * self.shard_documents)


def describe(header: Header) -> str:
    """`store.json`: for people; each shard carries the key itself."""
    return json.dumps({"key": header.key, **asdict(header)}, indent=1) + "\n"


class ShardError(Exception):
    """A shard cannot be used; the message says which and why. It is made anew, and nothing else is."""


@dataclass(frozen=True, eq=False)
class Shard(Generic[V]):
    """A shard's arrays, memory-mapped read-only."""

    vectors: V
    id_offsets: npt.NDArray[np.uint64]
    id_bytes: npt.NDArray[np.uint8]
    cut: int | None = None  # documents that were longer than the encoder reads, where that is known

    @cached_property
    def _longest(self) -> int:
        return int(np.max(np.diff(self.id_offsets), initial=1))

    def doc_ids(self, rows: npt.NDArray[np.int64]) -> Strings:
        """The ids at `rows` of this shard, as UTF-8 of one width."""
        starts, ends = self.id_offsets[rows].astype(np.int64), self.id_offsets[rows + 1].astype(np.int64)
        reach = starts[:, None] + np.arange(self._longest)  # [n,longest]
        inside = reach < ends[:, None]
        letters = np.where(inside, self.id_bytes[np.where(inside, reach, 0)], 0).astype(np.uint8)
        return np.ascontiguousarray(letters).view(f"S{self._longest}").reshape(-1)


class Ids:
    """Document ids by row of the whole store, read from the shards where they are asked for.

    `shards` are by ascending row of their first document.
    """

    def __init__(self, shards: Mapping[int, Shard[Any]]) -> None:
        self._shards = list(shards.values())
        self._firsts = np.array(list(shards), dtype=np.int64)

    def __call__(self, rows: npt.NDArray[np.int64]) -> Strings:
        """The ids at ascending `rows`."""
        homes = np.searchsorted(self._firsts, rows, side="right") - 1
        return np.concatenate(
            [self._shards[home].doc_ids(rows[homes == home] - self._firsts[home]) for home in np.unique(homes)]
        )


def path_of(folder: Path, number: int) -> Path:
    """Where shard `number` lies."""
    return folder / f"shard-{number:05}.safetensors"


def pack_ids(doc_ids: list[str]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint8]]:
    """Offsets [n+1] and bytes of document ids."""
    encoded = [doc_id.encode() for doc_id in doc_ids]
    offsets = np.zeros(len(encoded) + 1, dtype=np.uint64)
    np.cumsum([len(e) for e in encoded], out=offsets[1:])
    return offsets, np.frombuffer(b"".join(encoded), dtype=np.uint8)


def forget(*arrays: npt.NDArray[Any]) -> None:
    """Let go of the memory of arrays that are mapped; what is read again comes from the disk or its cache."""
    for array in arrays:
        mapped = getattr(array, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)


def _digest(arrays: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return digest.hexdigest()


def write(
    folder: Path, header: Header, number: int, vectors: Vectors, doc_ids: list[str], cut: int | None = None
) -> None:
    """Write shard `number` under a temporary name and rename it; `cut` documents were longer than the encoder reads.

    Raises InputError for values that float16 cannot hold, OSError for a full disk; nothing half written stays.
    """
    if (wrong := vectors.broken()) is not None:
        row, name = wrong
        raise InputError(
            f"the vector of document {doc_ids[row]!r} holds values that are not finite in 16 bits ({name}). Is the "
            "checkpoint damaged, or its scale beyond 65,504?"
        )
    arrays: dict[str, Any] = {field.name: getattr(vectors, field.name) for field in fields(vectors)}
    arrays |= dict(zip(_IDS, pack_ids(doc_ids), strict=True))
    # one entry: safetensors writes several in any order, and equal shards are equal bytes
    stamp = {"key": header.key, "shard": number, "sha256": _digest(arrays)} | ({} if cut is None else {"cut": cut})
    metadata = {"store": json.dumps(stamp, sort_keys=True)}
    path = path_of(folder, number)
    new = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tmp")  # several processes may make the same shard
    try:
        save_file(arrays, new, metadata)
        with new.open("rb") as file:
            os.fsync(file.fileno())
        new.chmod(0o644)  # safetensors keeps it to its owner; a cache may be shared
        new.replace(path)
    except Exception as error:
        new.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise
        raise InputError(f"could not write {path}: {error}. Is there space on that disk?") from error


def read(folder: Path, header: Header, number: int, kind: type[V]) -> Shard[V]:
    """Map shard `number`, which holds vectors of `kind`, and check that it is this store's and undamaged.

    Raises ShardError for a shard that is missing, cut short, of another store, or whose bytes have changed.
    """
    path = path_of(folder, number)
    if not path.exists():
        raise ShardError(f"{path.name} is missing")
    try:
        arrays, stamp = _map(path, [*(field.name for field in fields(kind)), *_IDS])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, struct.error) as error:
        raise ShardError(f"{path.name} is damaged or half written ({error})") from error
    if (stamp.get("key"), stamp.get("shard")) != (header.key, number):
        raise ShardError(f"{path.name} belongs to another store or place")
    if stamp.get("sha256") != _digest(arrays):
        raise ShardError(f"{path.name} is damaged: its bytes are not those that were written")
    forget(*arrays.values())
    low, high = header.span(number)
    try:
        vectors = kind(*(arrays[field.name] for field in fields(kind)))
    except ValueError as error:
        raise ShardError(f"{path.name} is damaged ({error})") from error
    if len(vectors) != high - low or len(arrays["id_offsets"]) != high - low + 1:
        raise ShardError(f"{path.name} holds {len(vectors)} documents, want {high - low}")
    cut = stamp.get("cut")
    return Shard(vectors, arrays["id_offsets"], arrays["id_bytes"], cut if isinstance(cut, int) else None)


def _map(path: Path, names: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays `names` of a safetensors file as memory maps, and what its metadata say of the store."""
    size = path.stat().st_size
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > size:
            raise ValueError("its header is longer than the file")
        header = json.loads(file.read(length))
    stamp: dict[str, Any] = dict(json.loads(header.pop("__metadata__")["store"]))
    arrays = {}
    for name in names:
        entry = header[name]
        low, high = entry["data_offsets"]
        dtype, shape = np.dtype(_TYPES[entry["dtype"]]), tuple(entry["shape"])
        if not 0 <= low <= high or high - low != dtype.itemsize * int(np.prod(shape)) or 8 + length + high > size:
            raise ValueError(f"{name} reaches beyond the file")
        arrays[name] = (
            np.memmap(path, dtype=dtype, mode="r", offset=8 + length + low, shape=shape)
            if high > low
            else np.empty(shape, dtype)
        )
    return arrays, stamp
