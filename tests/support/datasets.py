"""Small collections in BEIR layout."""

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.datasets.loader import resolve

DOCS = [
    ("d1", "Apples", "red apples grow on trees"),
    ("d2", "Pears", "green pears grow on trees"),
    ("d3", "Rivers", "water runs to the sea"),
]
QUERIES = [("q1", "red apples"), ("q2", "sea water")]
QRELS = [("q1", "d1", 2), ("q1", "d2", 1), ("q2", "d3", 1)]


def write_beir(
    folder: Path,
    docs: Sequence[Sequence[str]] = DOCS,
    queries: Sequence[Sequence[str]] = QUERIES,
    qrels: Mapping[str, Sequence[Sequence[object]]] | None = None,
    gz: bool = False,
) -> Path:
    """Write a collection in BEIR layout."""
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    files = {
        "corpus.jsonl": [json.dumps({"_id": i, "title": t, "text": x}) for i, t, x in docs],
        "queries.jsonl": [json.dumps({"_id": i, "text": x}) for i, x in queries],
    }
    for split, rows in (qrels or {"test": QRELS}).items():
        files[f"qrels/{split}.tsv"] = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in rows)]
    for name, lines in files.items():
        data = "".join(line + "\n" for line in lines).encode()
        if gz:
            (folder / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (folder / name).write_bytes(data)
    return folder


def opened(name, job):
    [dataset] = resolve(str(name))
    dataset.open(job)
    return dataset
