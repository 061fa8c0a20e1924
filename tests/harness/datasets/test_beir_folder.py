"""Collections in BEIR layout: what is read, and what is refused with file and line."""

import gzip
import json

import pytest

from harness.datasets.beir_folder import FolderSource
from harness.retrievers.errors import InputError
from harness.retrievers.types import Document, Query


@pytest.mark.parametrize("gz", [False, True])
def test_plain_and_gzipped_read_alike(beir, gz):
    source = FolderSource(beir(gz=gz))
    assert next(source.documents()) == Document("d1", "Apples", "red apples grow on trees")
    assert list(source.queries()) == [Query("q1", "red apples"), Query("q2", "sea water")]
    assert list(source.qrels()) == [("q1", "d1", 2), ("q1", "d2", 1), ("q2", "d3", 1)]


def test_judgments_without_a_header_and_a_file_with_a_byte_order_mark(beir):
    folder = beir()
    (folder / "qrels" / "test.tsv").write_bytes(b"\xef\xbb\xbfq1\td1\t2\r\n\r\nq2\td3\t1\r\n")
    assert list(FolderSource(folder).qrels()) == [("q1", "d1", 2), ("q2", "d3", 1)]


def test_a_missing_title_is_empty(beir):
    folder = beir()
    (folder / "corpus.jsonl").write_text('{"_id": "d", "text": "t"}\n{"_id": "e", "title": null, "text": ""}\n')
    assert list(FolderSource(folder).documents()) == [Document("d", "", "t"), Document("e", "", "")]


def test_the_split_is_test_or_the_only_one_or_must_be_named(beir):
    rows = [("q1", "d1", 1)]
    assert FolderSource(beir("a", qrels={"test": rows, "dev": rows})).split == "test"
    assert FolderSource(beir("b", qrels={"dev": rows})).split == "dev"
    several = beir("c", qrels={"dev": rows, "train": rows})
    assert FolderSource(several, "train").split == "train"
    with pytest.raises(InputError, match=r"several splits and none is 'test': dev, train"):
        FolderSource(several)
    with pytest.raises(InputError, match=r"unknown split of .* 'tran'\. Did you mean train\? There is: dev, train"):
        FolderSource(several, "tran")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"corpus\.jsonl, line 2: not JSON"),
        ("[1]", r"line 2: a JSON list; each line must be a JSON object"),
        ('{"text": "x"}', r"line 2: the field '_id' is missing; there is text"),
        ('{"_id": 7, "text": "x"}', r"line 2: the field '_id' is 7\. It must be a string"),
        ('{"_id": "a b", "text": "x"}', r"line 2: the id 'a b' holds white space"),
        ('{"_id": "", "text": "x"}', r"line 2: the id '' is empty"),
        ('{"_id": "a"}', r"line 2: the field 'text' is missing"),
        ('{"_id": "a", "text": null}', r"line 2: the field 'text' is None"),
        ('{"_id": "a", "title": 3, "text": "x"}', r"line 2: the field 'title' is 3"),
        ("[" * 100_000, r"line 2: not JSON"),
        ('{"_id": "' + "x" * 600 + '", "text": "x"}', r"line 2: the id 'x+'… is longer than 512 bytes"),
        ('{"_id": "a", "text": "\\ud800"}', r"line 2: .*half of a surrogate pair"),
    ],
)
def test_malformed_json_is_named_by_file_and_line(beir, line, message):
    folder = beir()
    (folder / "corpus.jsonl").write_text(json.dumps({"_id": "d1", "text": "x"}) + "\n" + line + "\n")
    with pytest.raises(InputError, match=message):
        list(FolderSource(folder).documents())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q1\td1", r"test\.tsv, line 2: 2 columns, want 3"),
        ("q1 d1 1", r"line 2: 1 column, want 3"),
        ("q1\td1\tone", r"line 2: the score 'one' is not a whole number"),
        ("q1\td1\t1.5", r"line 2: the score '1.5' is not a whole number"),
        ("q1\td1\t1_0", r"line 2: the score '1_0' is not a whole number"),
        ("q1\td1\t4000000000", r"line 2: the score '4000000000' is not a whole number between -1000 and 1000"),
        ("q1 \td1\t1", r"line 2: the id 'q1 ' holds white space"),
        ("q1\td1\0\t1", "line 2: holds a NUL byte, which no text has"),
    ],
)
def test_malformed_judgments_are_named_by_file_and_line(beir, line, message):
    folder = beir()
    (folder / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{line}\n")
    with pytest.raises(InputError, match=message):
        list(FolderSource(folder).qrels())


@pytest.mark.parametrize("first", ["1.0", "x1", "99999999999999999999"])
def test_a_first_line_with_a_figure_is_no_header(beir, first):
    """A judgment is never lost as a header; a header may follow blank lines."""
    folder = beir()
    (folder / "qrels" / "test.tsv").write_text(f"q1\td1\t{first}\nq1\td1\t1\n")
    with pytest.raises(InputError, match=r"test\.tsv, line 1: the score"):
        list(FolderSource(folder).qrels())
    (folder / "qrels" / "test.tsv").write_text("\n\nquery\tdoc\tgrade\nq1\td1\t1\n")
    assert list(FolderSource(folder).qrels()) == [("q1", "d1", 1)]


def test_bytes_that_are_no_text(beir):
    folder = beir()
    (folder / "queries.jsonl").write_bytes(b'{"_id": "q", "text": "ok"}\n{"_id": "p", "text": "\xff"}\n')
    with pytest.raises(InputError, match=r"queries\.jsonl, line 2: not UTF-8"):
        list(FolderSource(folder).queries())


@pytest.mark.parametrize("damage", [lambda b: b[:-12], lambda b: b[:40] + b"\0\0\0\0" + b[44:], lambda b: b"no gzip"])
def test_damaged_gzip(beir, damage):
    folder = beir(gz=True)
    path = folder / "corpus.jsonl.gz"
    lines = "".join(json.dumps({"_id": f"d{n}", "text": f"{n * 7919}"}) + "\n" for n in range(200))
    path.write_bytes(damage(gzip.compress(lines.encode())))
    with pytest.raises(InputError, match=r"corpus\.jsonl\.gz, (after )?line \d+: "):
        list(FolderSource(folder).documents())


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"])
def test_a_missing_file_is_named(beir, name):
    folder = beir()
    (folder / name).unlink()
    with pytest.raises(InputError, match=name.split("/", maxsplit=1)[0]):
        FolderSource(folder)
