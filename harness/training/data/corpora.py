"""Texts to pre-train on, from wherever they lie: ir_datasets, BEIR folders, JSON lines, plain lines."""

import json
from collections.abc import Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from harness.reports.records.records import sha256
from harness.retrievers.errors import InputError
from harness.retrievers.places import expanded
from harness.retrievers.text_files import ENDS, text_lines
from harness.retrievers.types import Document
from harness.training.recipe_data import CorpusPart

_KINDS = (".jsonl", ".txt")
_ENDS = tuple(kind + end for kind in _KINDS for end in ENDS)


def texts(part: CorpusPart, place: str) -> Iterator[str]:
    """Yield the texts of a corpus that lies at `place`, each with its title before it.

    Raises InputError for a corpus that is not there, or a line that is malformed.
    """
    if not part.join:
        yield from (document.joined for document in documents(part, place))
        return
    yield from islice(_joined((found.joined for found in _all(place)), part.join), part.documents)


def documents(part: CorpusPart, place: str) -> Iterator[Document]:
    """Yield the texts of a corpus at `place` with their titles, which `join` leaves as they are; ids are empty.

    Raises InputError as `texts`.
    """
    yield from islice(_all(place), part.documents)


def _joined(found: Iterator[str], words: int) -> Iterator[str]:
    block: list[str] = []
    count = 0
    for text in found:
        block.append(text)
        count += text.count(" ") + 1
        if count >= words:
            yield " ".join(block)
            block, count = [], 0
    if block:
        yield " ".join(block)


def stamp(part: CorpusPart, place: str) -> list[Any]:
    """What changes when a corpus does: the hashes of its files, or the id and the library's version.

    Raises InputError for a corpus that is not there.
    """
    files = _files(place)
    if files is None:
        _check_known(part.name)
        return [part.name, version("ir_datasets"), part.documents, part.join]
    return [[path.name, sha256(path)] for path in files] + [part.documents, part.join]


def check(part: CorpusPart, place: str) -> None:
    """Raise InputError for a corpus that is not there; none is read."""
    if _files(place) is None:
        _check_known(part.name)


def _all(name: str) -> Iterator[Document]:
    files = _files(name)
    if files is None:
        yield from _from_library(name)
        return
    for path in files:
        plain = path.name.removesuffix(path.suffix) if path.suffix in ENDS else path.name
        if plain.endswith(".txt"):
            yield from (Document("", "", line.strip()) for _, line in text_lines(path))
        else:
            yield from _json_lines(path)


def _files(name: str) -> list[Path] | None:
    """The files of a corpus on disk in order of their names; None for a name that is no path."""
    path = expanded(name)
    if path.is_file():
        if not path.name.endswith(_ENDS):
            raise InputError(f"the corpus {path} is no .jsonl or .txt file, plain, .gz or .xz.")
        return [path]
    if not path.is_dir():
        return None
    corpus = [path / f"corpus.jsonl{end}" for end in ENDS]
    files = [p for p in corpus if p.is_file()][:1] or sorted(p for p in path.iterdir() if p.name.endswith(_ENDS))
    if not files:
        raise InputError(f"the corpus {path} holds no .jsonl or .txt file, plain, .gz or .xz.")
    return files


def _json_lines(path: Path) -> Iterator[Document]:
    for number, line in text_lines(path):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{path}, line {number}: not JSON ({error}). Each line must be one JSON object."
            ) from error
        text = row.get("text") if isinstance(row, dict) else None
        if not isinstance(text, str) or not isinstance(row.get("title") or "", str):
            raise InputError(f"{path}, line {number}: no string `text` (and perhaps `title`). Got {line[:80]!r}.")
        document = Document("", row.get("title") or "", text)
        try:
            document.joined.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{path}, line {number}: holds half of a surrogate pair, which is no text.") from error
        yield document


def _from_library(name: str) -> Iterator[Document]:
    from harness.datasets.ir_datasets_source import documents_of

    _check_known(name)
    yield from documents_of(name)


def _check_known(name: str) -> None:
    from harness.datasets.ir_datasets_source import known_ids

    if name not in known_ids():
        raise InputError(
            f"there is no corpus {name}: no file or folder here or under the recipe's root (HARNESS_DATA, ./data, "
            "../shared, or --set root=FOLDER), and no ir_datasets id. Texts are .jsonl with `text` (and `title`), or "
            ".txt with one a line, plain, .gz or .xz."
        )
