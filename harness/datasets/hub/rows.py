"""The rows of a file, Parquet or JSON lines, one at a time: memory does not grow with the file."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.datasets.beir_folder import json_rows
from harness.datasets.parquet import is_parquet, opened, parquet_rows
from harness.retrievers.errors import InputError
from harness.retrievers.ids import checked


def rows(path: Path, wanted: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (place, row); of a Parquet file with those of the columns `wanted` alone that it has.

    Raises InputError for a file that is neither Parquet nor JSON lines, or is damaged.
    """
    if is_parquet(path):
        yield from parquet_rows(path, wanted)
    else:
        yield from json_rows(path)


def count(path: Path) -> int | None:
    """How many rows a Parquet file says that it has; None for any other."""
    if not is_parquet(path):
        return None
    with opened(path) as file:
        return int(file.metadata.num_rows)


def columns(path: Path) -> list[str]:
    """The columns of a file: of JSON lines those of the first. Raises InputError as `rows`."""
    if is_parquet(path):
        with opened(path) as file:
            return [str(name) for name in file.schema_arrow.names]
    return next((list(row) for _, row in json_rows(path)), [])


def identifier(row: Mapping[str, Any], names: Sequence[str], place: str) -> str:
    """The id in the first of the columns `names` that is there; a whole number stands for its digits.

    Raises InputError where none is there, or what it holds is no id.
    """
    for name in names:
        if name in row:
            return checked(row[name], f"{place}: the id")
    wanted = " or ".join(map(repr, names))
    raise InputError(f"{place}: the field {wanted} is missing; there is {', '.join(sorted(row)) or 'nothing'}.")
