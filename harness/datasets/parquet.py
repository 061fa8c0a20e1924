"""Parquet files a row at a time: memory does not grow with the file."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.retrievers.errors import InputError

_MAGIC = b"PAR1"
_BATCH = 1024  # rows
_BUFFER = 1 << 20  # bytes of a column that are read at once, however long its row group is


def is_parquet(path: Path) -> bool:
    """Whether a file holds Parquet, whatever its name says."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error


def parquet_rows(path: Path, wanted: Sequence[str] | None = None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (place, row), of the columns `wanted` that it has, or of all.

    Raises InputError where pyarrow is missing, and for a file that is damaged or has none of the columns.
    """
    with opened(path) as file:
        names = file.schema_arrow.names
        there = [name for name in names if wanted is None or name in wanted]
        if not there and wanted is not None:
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


def opened(path: Path) -> Any:
    """The file, to be closed by whoever asked. Raises InputError as `parquet_rows`."""
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
