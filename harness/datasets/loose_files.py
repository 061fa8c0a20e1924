"""A collection of loose files: documents, queries and judgments, each in whatever common format it has.

Its id is `files:` with a JSON object behind it that names them, so that a record can be read again; a person names the
files by options (`--docs`, `--queries`, `--qrels`) or in a YAML file.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.datasets import rows, trec_text
from harness.datasets.fields import Fields
from harness.datasets.qrels_file import judgments
from harness.datasets.rows import DOCUMENTS, TOPICS, Columns, Row
from harness.retrievers.errors import InputError
from harness.retrievers.ids import fault
from harness.retrievers.places import expanded
from harness.retrievers.text_files import text_lines
from harness.retrievers.types import Document, Query
from harness.retrievers.yaml_files import read_yaml

PREFIX = "files:"
PARTS = ("docs", "queries", "qrels")
_PACKED = (".gz", ".xz", ".bz2", ".zst")
_BEGINS = 4  # letters by which formats are told apart


def identifier(files: Mapping[str, Any]) -> str:
    """The id of the collection that `files` names: docs, queries, qrels, and perhaps name.

    Raises InputError for a part that is missing, unknown or no path.
    """
    lost = [part for part in PARTS if not files.get(part)]
    odd = sorted(set(files) - {*PARTS, "name"})
    if lost or odd:
        what = f"lacks {', '.join(lost)}" if lost else f"has {', '.join(odd)}, which is unknown"
        raise InputError(f"a collection of files {what}; want docs, queries and qrels, a file each, and perhaps name.")
    found = {}
    for part in PARTS:
        if not isinstance(files[part], str | Path):
            raise InputError(f"{part} is {files[part]!r:.60}; want the path of a file.")
        found[part] = str(expanded(files[part]).absolute())
    name = files.get("name") or _stem(Path(found["docs"]))
    if not isinstance(name, str) or fault(name) or name.startswith((".", "/")):
        raise InputError(f"the collection's name is {name!r:.60}; want a word without spaces, such as my-collection.")
    return PREFIX + json.dumps(found | {"name": name}, sort_keys=True, ensure_ascii=False)


def described(path: Path) -> str:
    """The id of the collection that a YAML file describes; paths in it are from where it lies.

    Raises InputError as `identifier`, and for a file that is no YAML.
    """
    found = read_yaml(path, "docs: FILE")
    try:
        there = {p: path.parent / found[p] for p in PARTS if isinstance(found.get(p), str) and found[p]}
        return identifier({**found, **there})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _stem(path: Path) -> str:
    """The name of a file without what says how it is packed and of what kind it is."""
    name = "-".join(path.name.split())
    for end in _PACKED:
        name = name.removesuffix(end)
    return name.rpartition(".")[0] or name


class LooseSource:
    """Documents, queries and judgments, each from a file of its own.

    Raises InputError for a file that is not there, of no known format, or malformed.
    """

    kind = "files"

    def __init__(self, dataset_id: str, fields: Fields) -> None:
        named = json.loads(dataset_id.removeprefix(PREFIX))
        self.name: str = named["name"]
        self.paths = {part: Path(named[part]) for part in PARTS}
        for part, path in self.paths.items():
            if not path.is_file():
                what = "is a folder" if path.is_dir() else "is no regular file" if path.exists() else "is not there"
                raise InputError(f"{part} is {path}, which {what}. Name a file.")
        self.location = str(self.paths["docs"])
        self.fields = fields
        self.count_hint: int | None = None

    def stamp(self) -> list[Any]:
        """What changes when a file does, or other fields are read."""
        stats = [(str(path), path.stat()) for path in self.paths.values()]
        return [[(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats], self.fields.query, self.fields.docs]

    @cached_property
    def formats(self) -> dict[str, str]:
        """What each file was recognised as."""
        found = {part: _format(path, part) for part, path in self.paths.items() if part != "qrels"}
        return found | {"qrels": _judged(self.paths["qrels"])}

    @cached_property
    def _judged_ids(self) -> tuple[set[str], set[str]]:
        queries, docs = set(), set()
        for query_id, doc_id, _ in judgments(self.paths["qrels"]):
            queries.add(query_id)
            docs.add(doc_id)
        return queries, docs

    def documents(self) -> Iterator[Document]:
        """Yield the documents."""
        for row in self._rows("docs", DOCUMENTS, lambda doc_id: doc_id in self._judged_ids[1]):
            title, text = self.fields.title_and_text(row.fields, row.place)
            yield Document(row.identifier, title, text)

    def queries(self) -> Iterator[Query]:
        """Yield the queries."""
        for row in self._rows("queries", TOPICS, lambda query_id: query_id in self._judged_ids[0]):
            yield Query(row.identifier, self.fields.query_text(row.fields, row.place))

    def qrels(self) -> Iterator[tuple[str, str, int]]:
        """Yield the judgments."""
        return judgments(self.paths["qrels"])

    def _rows(self, part: str, columns: Columns, used: Callable[[str], bool]) -> Iterator[Row]:
        path, kind = self.paths[part], self.formats[part]
        if kind == "TSV":
            return rows.tab_separated(path, columns, used)
        if kind == "CSV":
            return rows.comma_separated(path, columns, used)
        return _READERS[kind](path)


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "JSON lines": rows.json_lines,
    "TREC documents": trec_text.documents,
    "TREC topics": trec_text.topics,
    "XML topics": trec_text.xml_topics,
}


def _format(path: Path, part: str) -> str:
    """The format of a file by its first line, and by its name where that says nothing."""
    line = next((line for _, line in text_lines(path)), "").lstrip(" ")
    if not line:
        raise InputError(f"{path} is empty; want {part}.")
    if line.startswith("{"):
        return "JSON lines"
    if line[:_BEGINS].casefold() == "<doc" and part == "docs":
        return "TREC documents"
    if line[:_BEGINS].casefold() == "<top" and part == "queries":
        return "XML topics" if line.casefold().startswith("<topics") else "TREC topics"
    if line.startswith("<?xml") and part == "queries":
        return "XML topics"
    if line.startswith(("<", "[")):
        wanted = "TREC documents (<DOC>)" if part == "docs" else "TREC topics (<top>) or XML topics (<topic number=…>)"
        raise InputError(
            f"{path} begins with {line[:30]!r}, and is of no known format; want TSV, CSV, JSON lines or {wanted}."
        )
    named_csv = any(suffix.casefold() == ".csv" for suffix in path.suffixes[-2:])
    if "\t" in line and not named_csv:
        return "TSV"
    if named_csv or "," in line:
        return "CSV"
    raise InputError(
        f"{path} begins with {line[:30]!r}, without a tab or a comma; want {part} as TSV, CSV or JSON lines."
    )


def _judged(path: Path) -> str:
    """Of a file of judgments the number of its columns."""
    line = next((line for _, line in text_lines(path)), "")
    return f"judgments, {len(line.split())} columns"
