"""One reader for every text that people hand in: marks, line ends, compression, and what is no UTF-8."""

import bz2
import codecs
import gzip
import lzma
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.retrievers.errors import InputError
from harness.retrievers.text_files import byte_lines, text, text_lines
from tests.support.paths import ROOT

WRITE = {"": lambda data: data, ".gz": gzip.compress, ".xz": lzma.compress}


@pytest.mark.parametrize("end", WRITE)
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_marks_line_ends_and_compression_change_nothing(tmp_path, end, mark, line_end):
    path = tmp_path / f"a.txt{end}"
    path.write_bytes(WRITE[end](mark + line_end.join(["é one", "", "two \ufeff", "three"]).encode()))
    assert list(text_lines(path)) == [(1, "é one"), (3, "two \ufeff"), (4, "three")]
    assert [line for _, line in byte_lines(path)] == ["é one".encode(), b"", "two \ufeff".encode(), b"three"]
    assert text(path) == "é one\n\ntwo \ufeff\nthree\n"


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0"))))
def test_any_text_comes_back_line_by_line(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes(b"".join(f"{line}\n".encode() for line in lines))
    expected = [line.removeprefix("\ufeff") if not number else line for number, line in enumerate(lines)]
    assert [line.decode() for _, line in byte_lines(path)] == expected


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", "one".encode("utf-16"), r"a\.txt is in UTF-16\. Convert it to UTF-8: iconv -f UTF-16"),
        ("a.txt", codecs.BOM_UTF16_BE + "one".encode("utf-16-be"), "is in UTF-16"),
        ("a.txt", "one".encode("utf-32"), "is in UTF-32"),
        ("a.txt", "one\ntwo".encode("utf-16-le"), "line 1: holds a NUL byte, which no text has"),
        ("a.txt", b"one\nt\0wo\n", "line 2: holds a NUL byte"),
        ("a.txt", b"one\ncaf\xe9\n", r"line 2: not UTF-8 \(.*\)\. Convert the file to UTF-8"),
        ("a.txt", bz2.compress(b"one\n" * 9)[:-9], "damaged bzip2 data"),
        ("a.txt", gzip.compress(b"one\n" * 9, mtime=0)[:-9], "damaged gzip data"),
        ("a.txt.gz", gzip.compress(b"one\n" * 9, mtime=0)[:-9], "damaged gzip data"),
        ("a.txt.xz", lzma.compress(b"one\n" * 9)[:-9], "damaged xz data"),
    ],
)
def test_what_is_no_utf8_text_is_named(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
        list(text_lines(tmp_path / name))


@pytest.mark.parametrize("name", ["a", "a.txt", "a.gz", "a.xz"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress, bz2.compress])
def test_data_say_themselves_how_they_are_packed(tmp_path, name, pack):
    """A pipe has no name, and a browser unpacks a download that keeps its name."""
    (tmp_path / name).write_bytes(pack(b"one\ntwo\n"))
    assert [line for _, line in byte_lines(tmp_path / name)] == [b"one", b"two"]


def test_what_cannot_be_opened(tmp_path):
    with pytest.raises(InputError, match="gone cannot be read: No such file"):
        list(text_lines(tmp_path / "gone"))
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        list(text_lines(tmp_path))


def test_nothing_else_opens_what_people_hand_in():
    """A compressed or a plain text is opened in one module; others read what the harness wrote, or say utf-8-sig."""
    # the second writes, the third asks whether an archive is whole
    own = {"retrievers/text_files.py", "retrievers/run_files/trec.py", "harness/datasets/damaged.py"}
    for folder in ("harness", "retrievers"):
        for path in (ROOT / folder).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            if path.resolve() == path and name not in own and not name.startswith("harness/bench/"):
                code = path.read_text(encoding="utf-8")
                assert not re.search(r"(gzip|lzma|bz2)\.open|yaml\.(safe_)?load\(\w+\.read", code), name
