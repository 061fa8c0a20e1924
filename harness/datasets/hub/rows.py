"""The rows of a file, Parquet or JSON lines, one at a time: memory does not grow with the file."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.datasets.beir_folder import json_rows
from harness.retrievers.errors import InputError
from harness.retrievers.ids import checked

_PARQUET = b"PAR1"
_BATCH = 1024  # rows
_BUFFER = 1 << 20  # bytes of a column that are read at once, however long its row group is


def rows(path: Path, wanted: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (place, row); of a Parquet file with those of the columns `wanted` alone that it has.

    Raises InputError for a file that is neither Parquet nor JSON lines, or is damaged.
    """
    if is_parquet(path):
        yield from _parquet_rows(path, wanted)
    else:
        yield from json_rows(path)


def is_parquet(path: Path) -> bool:
    """Whether a file holds Parquet, whatever its name says."""
    try:
        with path.open("rb") as file:
            return file.read(len(_PARQUET)) == _PARQUET
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error


def count(path: Path) -> int | None:
    """How many rows a Parquet file says that it has; None for any other."""
    if not is_parquet(path):
        return None
    with _opened(path) as file:
        return int(file.metadata.num_rows)


def columns(path: Path) -> list[str]:
    """The columns of a file: of JSON lines those of the first. Raises InputError as `rows`."""
    if is_parquet(path):
        with _opened(path) as file:
            return [str(name) for name in file.schema_arrow.names]
    return next((list(row) for _, row in json_rows(path)), [])


def _parquet_rows(path: Path, wanted: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with _opened(path) as file:
        names = file.schema_arrow.names
        there = [name for name in wanted if name in names]
        if not there:
            raise InputError(f"{path} has none of the columns {', '.join(wanted)}; there is {', '.join(names)}.")
        number = 0
        batches = file.iter_batches(_BATCH, columns=there)
        while (batch := _next(batches, path)) is not None:
            for row in batch:
                number += 1
                yield f"{path}, row {number}", row


def _next(batches: Iterator[Any], path: Path) -> list[dict[str, Any]] | None:
    try:
        batch = next(batches, None)
        return None if batch is None else batch.to_pylist()
    except Exception as error:  # Arrow's own, OSError for pages cut short, UnicodeDecodeError
        raise _damaged(path, error) from error


def _opened(path: Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(f"{path} needs pyarrow: pip install 'dupmae-harness[hf]'") from error
    try:
        # without a buffer a whole row group would be read at once, which may be the whole file
        return pyarrow.parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False)
    except Exception as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} is damaged Parquet ({' '.join(str(error).split())[:120]}). Fetch the file again.")


def identifier(row: Mapping[str, Any], names: Sequence[str], place: str) -> str:
    """The id in the first of the columns `names` that is there; a whole number stands for its digits.

    Raises InputError where none is there, or what it holds is no id.
    """
    for name in names:
        if name in row:
            return checked(row[name], f"{place}: the id")
    wanted = " or ".join(map(repr, names))
    raise InputError(f"{place}: the field {wanted} is missing; there is {', '.join(sorted(row)) or 'nothing'}.")
