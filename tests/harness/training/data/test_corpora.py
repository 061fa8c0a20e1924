"""Pre-training texts from every kind of place."""

import gzip
import json
import lzma

import pytest

from harness.retrievers.errors import InputError
from harness.training.data.corpora import stamp, texts
from harness.training.recipe_data import CorpusPart

ROWS = [{"title": "Rain", "text": "falls"}, {"_id": "x", "text": "alone"}]


def read(name, **settings):
    return list(texts(CorpusPart(name="as the recipe calls it", **settings), str(name)))


@pytest.mark.parametrize(("end", "write"), [("", open), (".gz", gzip.open), (".xz", lzma.open)])
def test_json_lines_and_plain_lines(tmp_path, end, write):
    with write(tmp_path / f"a.jsonl{end}", "wt") as file:
        file.write("".join(json.dumps(row) + "\n" for row in ROWS))
    with write(tmp_path / f"b.txt{end}", "wt") as file:
        file.write("one\n\ntwo words\n")
    assert read(tmp_path / f"a.jsonl{end}") == ["Rain falls", "alone"]
    assert read(tmp_path) == ["Rain falls", "alone", "one", "two words"]  # a folder, in order of its files' names
    assert read(tmp_path, documents=3) == ["Rain falls", "alone", "one"]


def test_joined_until_they_have_so_many_words(tmp_path):
    (tmp_path / "book.txt").write_text("a b\nc\nd e f\ng\n")
    assert read(tmp_path, join=3) == ["a b c", "d e f", "g"]


def test_a_collection_in_beir_layout_gives_its_corpus_only(beir):
    assert read(beir())[0] == "Apples red apples grow on trees"
    assert len(read(beir())) == 3


def test_an_ir_datasets_id_needs_documents_only(ir_home):
    found = read("beir/scifact", documents=2)
    assert len(found) == 2
    assert all(len(text) > 100 for text in found)


def test_the_stamp_changes_with_the_contents(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one\n")
    part = CorpusPart(name=str(path))
    before = stamp(part, part.name)
    assert stamp(part, part.name) == before
    path.write_text("two\n")
    assert stamp(part, part.name) != before


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match="there is no corpus nowhere"):
        read("nowhere")
    with pytest.raises(InputError, match=r"holds no \.jsonl or \.txt file"):
        read(tmp_path)
    for content, part in (
        ('{"text": "\\ud800"}', "holds half"),
        ("[1]", "no string `text`"),
        ("{", "not JSON"),
        ('{"text": 3}', "no string `text`"),
    ):
        (tmp_path / "a.jsonl").write_text(f'{{"text": "fine"}}\n{content}\n')
        with pytest.raises(InputError, match=f"line 2: {part}"):
            read(tmp_path)
    (tmp_path / "a.jsonl").unlink()
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"some text\n" * 99)[:-9])
    with pytest.raises(InputError, match="damaged gzip data"):
        read(tmp_path)


def test_any_collection_that_the_loader_knows(beir, ir_home, monkeypatch, tmp_path):
    """By the names of `harness run`: the embedded one, an alias, a folder with its split, one under HARNESS_HOME."""
    assert len(read("mini")) == 300
    folder = beir()
    assert read(folder / "test") == read(folder)
    assert read("beir/scifact", documents=2) == read("beir/scifact/test", documents=2)
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path))
    folder.parent.joinpath("datasets/beir").mkdir(parents=True)
    folder.rename(tmp_path / "datasets/beir/robust04")
    assert read("beir/robust04")[0] == "Apples red apples grow on trees"
    part = CorpusPart(name="mini")
    assert stamp(part, "mini")[0][0] == "corpus.jsonl"
    with pytest.raises(InputError, match="is not distributed with ir_datasets"):
        read("beir/bioasq")
