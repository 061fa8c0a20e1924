"""Text files as people have them: UTF-8 with or without a byte order mark, any line ending, plain or compressed."""

import bz2
import codecs
import gzip
import hashlib
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from harness.retrievers.errors import InputError


def _zstd(file: IO[bytes]) -> io.BufferedReader:
    try:
        import zstandard
    except ImportError as error:
        raise InputError(
            f"{getattr(file, 'name', 'the file')} is packed with zstd, which needs a package: pip install "
            "'dupmae-harness[zst]'. Or unpack it."
        ) from error
    return io.BufferedReader(_Zstd(file, zstandard), 1 << 16)


class _Zstd(io.RawIOBase):
    """The frames of a zstd file; one that is damaged or cut short is an OSError, as of bz2."""

    def __init__(self, file: IO[bytes], library: Any) -> None:
        self._file, self._library = file, library
        self._frame = self._new()
        self._fed, self._left, self._ready = False, b"", b""  # bytes of this frame; not yet unpacked; unpacked

    def _new(self) -> Any:
        return self._library.ZstdDecompressor().decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            data = self._left or self._file.read(1 << 16)
            if not data:
                if self._fed and not self._frame.eof:
                    raise OSError("it ends in the middle")
                return 0
            if self._frame.eof:
                self._frame, self._fed = self._new(), False
            try:
                self._ready = self._frame.decompress(data)
            except self._library.ZstdError as error:
                raise OSError(str(error)) from error
            self._fed, self._left = True, self._frame.unused_data
        taken = self._ready[: len(buffer)]
        self._ready = self._ready[len(taken) :]
        buffer[: len(taken)] = taken
        return len(taken)


# by how the data begins, since a pipe has no name that says so, and a name may be wrong
_UNPACK: tuple[tuple[bytes, str, Callable[..., Any]], ...] = (
    (b"\x1f\x8b", "gzip", gzip.open),
    (b"\xfd7zXZ\0", "xz", lzma.open),
    (b"BZh", "bzip2", bz2.open),
    (b"\x28\xb5\x2f\xfd", "zstd", _zstd),
)
ENDS = ("", ".gz", ".xz", ".zst")  # of the names under which a file is looked for
# UTF-32's begin with UTF-16's
_MARKS = (
    (codecs.BOM_UTF8, ""),
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


class Digest:
    """The SHA-256 of the bytes that were read of a file, which may be a pipe and so be read once."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()

    @property
    def hex(self) -> str:
        """Of what was read up to now."""
        return self._sha.hexdigest()

    def of(self, file: IO[bytes]) -> io.BufferedReader:
        """A file that reads from `file` and counts what it reads."""
        return io.BufferedReader(_Counted(file, self._sha.update), 1 << 16)


class _Counted(io.RawIOBase):
    def __init__(self, file: IO[bytes], done: Callable[[Any], None]) -> None:
        self._file, self._done = file, done

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._done(data)
        return len(data)


def byte_lines(path: Path, digest: Digest | None = None) -> Iterator[tuple[int, bytes]]:
    """Yield (number from 1, line) of a file, without a byte order mark and the lines' ends.

    The file is opened once and read to its end, so that it may be a pipe; `digest` takes the bytes that it holds.
    Raises InputError, with file and line, for a file that cannot be opened, is damaged, holds a NUL byte, or says that
    it is in another encoding than UTF-8.
    """
    number, kind = 0, ""
    try:
        with path.open("rb") as opened:
            plain = opened if digest is None else digest.of(opened)
            begins = plain.peek(6)
            kind, unpack = next(((kind, way) for mark, kind, way in _UNPACK if begins.startswith(mark)), ("", None))
            for number, raw in enumerate(plain if unpack is None else unpack(plain), 1):  # read again in the handlers
                line = _without_mark(path, raw) if number == 1 else raw
                if b"\0" in line:
                    raise InputError(
                        f"{path}, line {number}: holds a NUL byte, which no text has. Is the file damaged, or UTF-16? "
                        "Convert it to UTF-8."
                    )
                yield number, line.rstrip(b"\r\n")
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise _damaged(path, number, kind, error) from error
    except OSError as error:
        if kind and error.errno is None:  # what bz2 says of its data
            raise _damaged(path, number, kind, error) from error
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error


def _damaged(path: Path, number: int, kind: str, error: Exception) -> InputError:
    return InputError(f"{path}, after line {number}: damaged {kind} data ({error}). Fetch the file again.")


def _without_mark(path: Path, line: bytes) -> bytes:
    for mark, encoding in _MARKS:
        if line.startswith(mark):
            if encoding:
                raise InputError(f"{path} is in {encoding}. Convert it to UTF-8: iconv -f {encoding} -t UTF-8.")
            return line.removeprefix(mark)
    return line


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line) of a UTF-8 text; blank lines are passed over.

    Raises InputError as `byte_lines`, and for bytes that are not UTF-8.
    """
    for number, raw in byte_lines(path):
        try:
            line = raw.decode()
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}, line {number}: not UTF-8 ({error.reason}). Convert the file to UTF-8."
            ) from error
        if line.strip():
            yield number, line


def without_quotes(value: str) -> str:
    """A value as it was before a csv writer put quotes around it; one without such quotes as it is."""
    inner = value[1:-1]
    quoted = len(value) > 2 and value[0] == value[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if quoted else value


def text(path: Path) -> str:
    """A whole text, its lines ended by a line feed. Raises InputError as `text_lines`."""
    found: list[str] = []
    for number, line in text_lines(path):
        found += [""] * (number - 1 - len(found)) + [line]  # blank lines, so that lines keep their numbers
    return "".join(f"{line}\n" for line in found)
