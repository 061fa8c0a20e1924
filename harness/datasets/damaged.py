"""Which files of a folder are not what their names say: archives cut short, and web pages in the place of data."""

import bz2
import gzip
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

_STREAMS: dict[str, Callable[..., IO[Any]]] = {".gz": gzip.open, ".tgz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_PAGE = (b"<!doctype html", b"<html")
_AT_ONCE = 1 << 20


def files(folder: Path) -> list[str]:
    """What is wrong with each damaged file in a folder and below it, in words; it may take as long as to read them."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and os.access(path, os.R_OK))
    return [f"{path} {fault}" for path in found if (fault := _fault(path))]


def _fault(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            begins = file.read(512)
        if begins.lstrip().lower().startswith(_PAGE) and path.suffix not in (".html", ".htm"):
            return "is a web page"
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                if (name := archive.testzip()) is not None:
                    return f"is damaged (at {name})"
        if ".tar" in path.suffixes or path.suffix == ".tgz":
            with tarfile.open(path) as archive:
                archive.getmembers()
        if path.suffix in _STREAMS:  # to its end, which a tar may not need
            with _STREAMS[path.suffix](path) as stream:
                while stream.read(_AT_ONCE):
                    pass
    except OSError as error:
        if error.errno is not None:
            return f"cannot be read ({error.strerror})"
        return f"is damaged ({error})"  # what gzip and bz2 say of their data
    except Exception as error:  # zlib, lzma, zipfile and tarfile have each their own
        return f"is damaged ({' '.join(str(error).split()) or type(error).__name__})"
    return None
