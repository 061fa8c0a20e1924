"""Files named for output: whole, through links, into devices, and refused before the work where they cannot be."""

import os
import stat
import threading

import pytest

from harness.reports.errors import RecordError
from harness.reports.files import check_folder, check_output, write_whole


def test_a_file_is_written_once(tmp_path):
    path = tmp_path / "a.md"
    assert write_whole(path, "größer")
    assert path.read_bytes() == "größer".encode()
    assert not write_whole(path, "größer")
    assert write_whole(path, b"other")
    assert [p.name for p in tmp_path.iterdir()] == ["a.md"]


def test_a_link_stays_and_its_target_is_written(tmp_path):
    target, link, open_end = tmp_path / "target", tmp_path / "link", tmp_path / "open"
    target.write_text("old")
    link.symlink_to(target)
    open_end.symlink_to(tmp_path / "later")
    write_whole(link, "new")
    write_whole(open_end, "made")
    assert link.is_symlink()
    assert (target.read_text(), (tmp_path / "later").read_text()) == ("new", "made")


def test_a_pipe_is_written_to(tmp_path):
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    check_output(pipe)
    write_whole(pipe, "through")
    reader.join(5)
    assert got == [b"through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_what_cannot_be_written_is_told_before_and_after(tmp_path):
    (tmp_path / "file").write_text("kept")
    for path, message in (
        (tmp_path, "is a folder"),
        (tmp_path / "no" / "a.md", "there is no folder"),
        (tmp_path / "file" / "a.md", "there is no folder"),
    ):
        with pytest.raises(RecordError, match=message):
            check_output(path)
    check_output(tmp_path / "no" / "deeper" / "a.md", make=True)
    with pytest.raises(RecordError, match="is a file"):
        check_folder(tmp_path / "file" / "deeper")
    check_folder(tmp_path / "no" / "deeper")
    with pytest.raises(RecordError, match="cannot be written"):
        write_whole(tmp_path / ("x" * 300), "too long a name")
    with pytest.raises(RecordError, match="cannot be written"):
        write_whole(tmp_path / "file" / "a.md", "x")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
