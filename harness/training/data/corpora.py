"""Texts to learn from, wherever they lie: JSON lines, plain lines, and the documents of any collection."""

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
    sources = _sources(place)
    files = [[source.name, sha256(source)] for source in sources if isinstance(source, Path)]
    ids = [source for source in sources if isinstance(source, str)]
    return [*files, *ids, *([version("ir_datasets")] if ids else []), part.documents, part.join]


def check(place: str) -> None:
    """Raise InputError for a corpus that is not there; none is read."""
    _sources(place)


def _all(name: str) -> Iterator[Document]:
    from harness.datasets.ir_datasets_source import documents_of

    for source in _sources(name):
        if isinstance(source, str):
            yield from documents_of(source)
            continue
        plain = source.name.removesuffix(source.suffix) if source.suffix in ENDS else source.name
        if plain.endswith(".txt"):
            yield from (Document("", "", line.strip()) for _, line in text_lines(source))
        else:
            yield from _json_lines(source)


def _sources(name: str) -> list[Path | str]:
    """The files that a corpus is made of, or ids of ir_datasets; a collection stands for its documents.

    Raises InputError for a name that is none of these.
    """
    from harness.datasets.beir_folder import FolderSource
    from harness.datasets.ir_datasets_source import known_ids
    from harness.datasets.loader import resolve
    from harness.datasets.rules import LICENSED

    files = _files(name)
    if files is not None:
        return [*files]
    if name in known_ids():
        return [name]
    try:
        found = resolve(name)
    except InputError as error:
        if name in LICENSED:
            raise
        raise InputError(
            f"there is no corpus {name}: no file or folder here or under the recipe's root (HARNESS_DATA, ./data, "
            "../shared, or --set root=FOLDER), and no collection that `harness run` knows. Texts are .jsonl with "
            "`text` (and `title`), or .txt with one a line, plain, .gz or .xz."
        ) from error
    sources: list[Path | str] = []
    for dataset in found:
        folder = dataset.source.folder if isinstance(dataset.source, FolderSource) else None
        sources += [dataset.dataset_id] if folder is None else _files(str(folder)) or []
    return sources


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
