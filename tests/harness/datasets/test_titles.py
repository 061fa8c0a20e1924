"""Titles joined from a file."""

from pathlib import Path

import pytest

from harness.datasets.loader import resolve
from harness.retrievers.errors import InputError
from harness.retrievers.types import Document
from tests.support.datasets import DOCS

BARE = [(doc_id, "", text) for doc_id, _, text in DOCS]


def opened(folder, titles, job):
    [dataset] = resolve(str(folder), Path(titles))
    dataset.open(job)
    return dataset


def test_titles_are_joined_in_any_order_and_change_the_hash(beir, tmp_path, job):
    folder = beir(docs=BARE)
    file = tmp_path / "titles.tsv"
    file.write_text("d3\tRivers\nd1\tApples\td'Or\nnobody\tx\nd3\tRivers\n")
    titled = opened(folder, file, job)
    assert [doc.title for doc in titled.documents()] == ["Apples\td'Or", "", "Rivers"]
    assert next(titled.documents()) == Document("d1", "Apples\td'Or", "red apples grow on trees")
    assert titled.counts.documents_without_title == 1
    assert titled.warnings == ["tiny/test: 1 documents got no title from titles.tsv"]
    [plain] = resolve(str(folder))
    plain.open(job)
    assert plain.content_hash != titled.content_hash


def test_a_changed_file_is_read_again(beir, tmp_path, job):
    folder, file = beir(docs=BARE), tmp_path / "titles.tsv"
    file.write_text("d1\tone\n")
    first = opened(folder, file, job).content_hash
    file.write_text("d1\tthree\n")
    assert opened(folder, file, job).content_hash != first


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("d1\tone\nd2 two\n", r"titles\.tsv, line 2: no tab"),
        ("d1\tone\nd1\ttwo\n", r"titles\.tsv, line 2: the id 'd1' has two titles, 'one' and 'two'"),
        ("other\tone\n", r"titles\.tsv has a title for none of the documents"),
        ("", r"titles\.tsv has a title for none of the documents"),
    ],
)
def test_malformed_files(beir, tmp_path, job, content, message):
    (tmp_path / "titles.tsv").write_text(content)
    with pytest.raises(InputError, match=message):
        opened(beir(docs=BARE), tmp_path / "titles.tsv", job)
    assert not list(job.cache.rglob("*.tmp"))


def test_a_missing_file_and_a_corpus_that_has_titles(beir, tmp_path, job):
    with pytest.raises(InputError, match=r"gone\.tsv does not exist"):
        opened(beir(docs=BARE), tmp_path / "gone.tsv", job)
    (tmp_path / "titles.tsv").write_text("d1\tone\n")
    with pytest.raises(InputError, match=r"'d1' .* has a title already"):
        opened(beir("titled"), tmp_path / "titles.tsv", job)
