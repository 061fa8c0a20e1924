"""Small collections in the layouts of the Hugging Face hub."""

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.support.datasets import DOCS, QRELS, QUERIES

Rows = Sequence[Mapping[str, Any]]
Judged = Mapping[str, Sequence[Sequence[object]]]


def write_rows(path: Path, rows: Rows) -> None:
    """Write rows as Parquet, JSON lines or gzipped JSON lines, by the name's end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows]), path)
        return
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def documents(docs: Sequence[Sequence[str]], key: str = "_id", title: bool = True) -> list[dict[str, str]]:
    return [{key: i, **({"title": t} if title else {}), "text": x} for i, t, x in docs]


def questions(queries: Sequence[Sequence[str]], key: str = "_id") -> list[dict[str, str]]:
    return [{key: i, "text": x} for i, x in queries]


def graded(rows: Sequence[Sequence[object]], score: bool = True) -> list[dict[str, object]]:
    return [{"query-id": q, "corpus-id": d, **({"score": g} if score else {})} for q, d, g in rows]


def write_readme(folder: Path, configs: Mapping[str, Mapping[str, str]]) -> None:
    """Write the README's head: {configuration: {split: glob}}."""
    entries = [
        {"config_name": name, "data_files": [{"split": split, "path": path} for split, path in splits.items()]}
        for name, splits in configs.items()
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(f"---\nlicense: mit\n{yaml.safe_dump({'configs': entries})}---\n# A dataset\n")


def write_beir_hub(
    folder: Path, end: str = "parquet", docs=DOCS, queries=QUERIES, qrels: Judged | None = None, second: bool = True
) -> Path:
    """BEIR's: splits named as their configurations, and a repository of judgments beside it."""
    write_rows(folder / "corpus" / f"corpus-00000-of-00001.{end}", documents(docs))
    write_rows(folder / "queries" / f"queries-00000-of-00001.{end}", questions(queries))
    write_readme(folder, {"corpus": {"corpus": "corpus/corpus-*"}, "queries": {"queries": "queries/queries-*"}})
    if second:
        beside = folder.with_name(f"{folder.name}-qrels")
        beside.mkdir(exist_ok=True)
        (beside / "README.md").write_text("---\nlicense: mit\n---\n")
        for split, rows in (qrels or {"test": QRELS}).items():
            lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in rows)]
            (beside / f"{split}.tsv").write_text("".join(line + "\n" for line in lines))
    return folder


def write_mteb(
    folder: Path, end: str = "jsonl", key: str = "_id", docs=DOCS, queries=QUERIES, qrels: Judged | None = None
) -> Path:
    """MTEB's: `corpus`, `queries` and judgments in `default`."""
    judged = qrels or {"test": QRELS}
    write_rows(folder / f"corpus.{end}", documents(docs, key))
    write_rows(folder / f"queries.{end}", questions(queries, key))
    for split, rows in judged.items():
        write_rows(folder / "qrels" / f"{split}.{end}", [{**row, "score": float(row["score"])} for row in graded(rows)])
    configs = {"corpus": {"corpus": f"corpus.{end}"}, "queries": {"queries": f"queries.{end}"}}
    write_readme(folder, configs | {"default": {split: f"qrels/{split}.{end}" for split in judged}})
    return folder


def write_nano(folder: Path, docs=DOCS, queries=QUERIES, qrels=QRELS, score: bool = False, readme: bool = True) -> Path:
    """NanoBEIR's: three configurations, all of them in the split `train`; no titles and, by default, no scores."""
    for name, rows in (
        ("corpus", documents(docs, title=False)), ("queries", questions(queries)), ("qrels", graded(qrels, score)),
    ):  # fmt: skip
        write_rows(folder / name / "train-00000-of-00001.parquet", rows)
    if readme:
        write_readme(folder, {name: {"train": f"{name}/train-*"} for name in ("corpus", "queries", "qrels")})
    return folder
