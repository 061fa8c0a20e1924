"""Layouts of the Hugging Face hub, in folders: what is read, which split, and what is refused."""

import sys

import pytest

from harness.datasets.hub.source import HubSource
from harness.datasets.loader import resolve
from harness.retrievers.errors import InputError
from harness.retrievers.types import Document, Query
from tests.support.datasets import DOCS, QRELS, QUERIES, opened, write_beir
from tests.support.hub import (
    documents,
    graded,
    questions,
    write_beir_hub,
    write_mteb,
    write_nano,
    write_readme,
    write_rows,
)

ENDS = ("parquet", "jsonl", "jsonl.gz")
LAYOUTS = {
    **{f"BEIR {end}": lambda folder, end=end: write_beir_hub(folder, end) for end in ENDS},
    **{f"MTEB {end}": lambda folder, end=end: write_mteb(folder, end) for end in ENDS},
    "MTEB id": lambda folder: write_mteb(folder, key="id"),
    "a folder of BEIR": write_beir,
    "a gzipped folder of BEIR": lambda folder: write_beir(folder, gz=True),
}


def source(folder, part="") -> HubSource:
    [dataset] = resolve(f"hf:{folder}{part}")
    assert isinstance(dataset.source, HubSource)
    return dataset.source


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_collection_in_every_layout_has_the_hashes_of_the_beir_folder(layout, tmp_path, job):
    plain = opened(write_beir(tmp_path / "plain"), job)
    found = opened(f"hf:{LAYOUTS[layout](tmp_path / 'x')}", job)
    assert (found.content_hash, found.queries_hash, found.qrels_hash) == (
        plain.content_hash,
        plain.queries_hash,
        plain.qrels_hash,
    )
    assert found.counts == plain.counts
    assert (found.name, found.dataset_id) == ("hf:x/test", f"hf:{tmp_path / 'x'}/test")


def test_nanobeir_has_no_titles_and_every_grade_is_one(tmp_path, job):
    untitled = [(i, "", text) for i, _, text in DOCS]
    ones = [(q, d, 1) for q, d, _ in QRELS]
    plain = opened(write_beir(tmp_path / "plain", docs=untitled, qrels={"test": ones}), job)
    found = opened(f"hf:{write_nano(tmp_path / 'nano')}", job)
    assert (found.content_hash, found.qrels_hash) == (plain.content_hash, plain.qrels_hash)
    assert found.name == "hf:nano/train"
    kept = opened(f"hf:{write_nano(tmp_path / 'scored', score=True)}", job)
    assert kept.qrels == {"q1": {"d1": 2, "d2": 1}, "q2": {"d3": 1}}


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if "folder" not in name])
def test_datasets_reads_the_same_rows(layout, tmp_path, monkeypatch):
    """An independent reader of these folders is the library that the layouts are made for."""
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    folder = LAYOUTS[layout](tmp_path / "x")
    ours = source(folder)

    def load(name, split):
        return datasets.load_dataset(str(folder), name, split=split, cache_dir=str(tmp_path / "cache"))

    key = "id" if layout == "MTEB id" else "_id"
    assert [Document(r[key], r["title"], r["text"]) for r in load("corpus", "corpus")] == list(ours.documents())
    assert [Query(r[key], r["text"]) for r in load("queries", "queries")] == list(ours.queries())


def test_configurations_are_found_by_name_where_no_readme_declares_them(tmp_path):
    nano = source(write_nano(tmp_path / "nano", readme=False))
    assert (nano.found.split, len(list(nano.qrels()))) == ("train", 3)
    old = tmp_path / "old"  # as BeIR's repositories were: gzipped lines and a script
    write_rows(old / "corpus.jsonl.gz", documents(DOCS))
    write_rows(old / "queries.jsonl.gz", questions(QUERIES))
    write_rows(old.with_name("old-qrels") / "test.jsonl", graded(QRELS))
    (old / "old.py").write_text("raise SystemExit\n")
    assert list(source(old).qrels()) == [tuple(row) for row in QRELS]
    converted = tmp_path / "converted"  # as the hub's converter leaves them: CONFIGURATION/SPLIT/0000.parquet
    write_rows(converted / "corpus" / "corpus" / "0000.parquet", documents(DOCS))
    write_rows(converted / "queries" / "queries" / "0000.parquet", questions(QUERIES))
    write_rows(converted / "default" / "test" / "0000.parquet", graded(QRELS))
    write_rows(converted / "default" / "train" / "0000.parquet", graded(QRELS[:1]))
    assert source(converted).found.split == "test"


def test_the_split_is_test_or_the_only_one_or_must_be_named(tmp_path):
    rows = [("q1", "d1", 1)]
    assert source(write_mteb(tmp_path / "a", qrels={"train": rows, "test": rows})).found.split == "test"
    assert source(write_mteb(tmp_path / "b", qrels={"dev": rows})).found.split == "dev"
    several = write_mteb(tmp_path / "c", qrels={"dev": rows, "train": QRELS})
    assert list(source(several, "/train").qrels()) == [tuple(row) for row in QRELS]
    with pytest.raises(InputError, match=r"several splits and none is 'test': dev, train\. Name one: hf:…/SPLIT"):
        source(several)
    with pytest.raises(InputError, match=r"unknown split of .*c 'tran'\. Did you mean train\? There is: dev, train"):
        source(several, "/tran")


@pytest.mark.parametrize(("there", "asked"), [("dev", "validation"), ("validation", "dev")])
def test_dev_and_validation_are_one_split(there, asked, tmp_path):
    beir = write_beir_hub(tmp_path / "a", qrels={"test": QRELS, there: QRELS[:1]})
    found = source(beir, f"/{asked}")
    assert (found.found.split, list(found.qrels())) == (there, [("q1", "d1", 2)])


def test_queries_of_several_splits_are_taken_from_the_one_that_is_asked_for(tmp_path):
    folder = tmp_path / "x"
    write_rows(folder / "corpus" / "train.jsonl", documents(DOCS))
    for split, query in (("test", "red apples"), ("dev", "sea water")):
        write_rows(folder / "queries" / f"{split}.jsonl", [{"_id": "q1", "text": query}])
        write_rows(folder / "qrels" / f"{split}.jsonl", graded([("q1", "d1", 1)]))
    assert list(source(folder).queries()) == [Query("q1", "red apples")]
    assert list(source(folder, "/dev").queries()) == [Query("q1", "sea water")]


def test_a_subset_is_the_configurations_with_its_name_before_them(tmp_path):
    folder, configs = tmp_path / "x", {}
    for language, text in (("de", "rote Äpfel"), ("en", "red apples")):
        write_rows(folder / language / "c.jsonl", documents(DOCS))
        write_rows(folder / language / "q.jsonl", [{"_id": "q1", "text": text}])
        write_rows(folder / language / "r.jsonl", graded([("q1", "d1", 1)]))
        for name, file in (("corpus", "c"), ("queries", "q"), ("qrels", "r")):
            configs[f"{language}-{name}"] = {"dev": f"{language}/{file}.jsonl"}
    write_readme(folder, configs)
    assert list(source(folder, "/de").queries()) == [Query("q1", "rote Äpfel")]
    [dataset] = resolve(f"hf:{folder}/en/dev")
    assert (dataset.name, list(dataset.source.queries())) == ("hf:x/en/dev", [Query("q1", "red apples")])
    with pytest.raises(InputError, match=r"has subsets\. Name one: hf:…/SUBSET\[/SPLIT\]\. There is: de, en"):
        source(folder)
    with pytest.raises(InputError, match=r"unknown subset of .* 'fr'\. There is: de, en"):
        source(folder, "/fr/dev")


def test_shards_are_read_in_order_and_one_that_is_absent_is_an_error(tmp_path):
    folder = write_nano(tmp_path / "x")
    (folder / "corpus" / "train-00000-of-00001.parquet").unlink()
    for number, doc in enumerate(DOCS):
        write_rows(folder / "corpus" / f"train-0000{number}-of-00003.parquet", documents([doc], title=False))
    assert [doc.doc_id for doc in source(folder).documents()] == ["d1", "d2", "d3"]
    assert source(folder).count_hint == 3
    (folder / "corpus" / "train-00001-of-00003.parquet").unlink()
    with pytest.raises(InputError, match=r"corpus: 2 of the 3 files .*train-\*-of-00003 are here\. Fetch the others"):
        source(folder)


def test_whole_numbers_are_ids_and_nulls_are_empty(tmp_path):
    folder = write_nano(tmp_path / "x")
    rows = [{"_id": 1, "title": None, "text": "red"}, {"_id": 2, "title": "t", "text": None}]
    write_rows(folder / "corpus" / "train-00000-of-00001.parquet", rows)
    write_rows(folder / "queries" / "train-00000-of-00001.parquet", [{"_id": 7, "text": "red"}])
    write_rows(folder / "qrels" / "train-00000-of-00001.parquet", [{"query-id": 7, "corpus-id": 1, "score": 3}])
    found = source(folder)
    assert list(found.documents()) == [Document("1", "", "red"), Document("2", "t", "")]
    assert list(found.qrels()) == [("7", "1", 3)]


def test_a_large_row_group_is_not_held_whole(tmp_path):
    """200,000 documents of 400 bytes in one row group are 80 MB; a batch and the buffers are far below that."""
    pyarrow = pytest.importorskip("pyarrow")
    folder = write_nano(tmp_path / "x")
    write_rows(
        folder / "corpus" / "train-00000-of-00001.parquet",
        [{"_id": f"d{n}", "text": f"{n:0400}"} for n in range(200_000)],
    )
    before, most = pyarrow.total_allocated_bytes(), 0
    for number, _ in enumerate(source(folder).documents()):
        if number % 5000 == 0:
            most = max(most, pyarrow.total_allocated_bytes() - before)
    assert most < 20_000_000


@pytest.mark.parametrize(
    ("file", "rows", "message"),
    [
        ("corpus", [{"text": "x"}], r"row 1: the field '_id' or 'id' is missing; there is text"),
        ("corpus", [{"_id": "a b", "text": "x"}], r"row 1: the id 'a b' holds white space"),
        ("corpus", [{"_id": "a", "body": "x"}], r"row 1: the field 'text' is missing; there is _id"),
        ("corpus", [{"_id": "a", "text": 5}], r"row 1: the field 'text' is 5\. It must be a string"),
        ("corpus", [{"key": "a"}], r"has none of the columns _id, id, title, text; there is key"),
        ("queries", [{"_id": "q1", "text": None}], r"row 1: the field 'text' is None"),
        ("qrels", [{"query-id": "q1", "corpus-id": "d1", "score": 0.5}], r"row 1: the score '0\.5' is not a whole"),
        ("qrels", [{"query-id": "q1", "score": 1}], r"the field 'corpus-id' or 'corpus_id' is missing"),
    ],
)
def test_malformed_rows_are_named_by_file_and_row(file, rows, message, tmp_path, job):
    folder = write_nano(tmp_path / "x")
    write_rows(folder / file / "train-00000-of-00001.parquet", rows)
    with pytest.raises(InputError, match=message):
        opened(f"hf:{folder}", job)


def test_damaged_files_are_named(tmp_path, job):
    folder = write_nano(tmp_path / "x")
    path = folder / "corpus" / "train-00000-of-00001.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    with pytest.raises(InputError, match=r"train-00000-of-00001\.parquet is damaged Parquet .*Fetch the file again"):
        opened(f"hf:{folder}", job)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(InputError, match=r"is a Git LFS pointer, not the data\. Run `git lfs pull` there"):
        source(folder)
    path.unlink()
    with pytest.raises(InputError, match="the README names files of the corpus that are not here"):
        source(folder)


def test_what_is_in_no_layout_says_what_there_is(tmp_path):
    folder = tmp_path / "x"
    write_rows(folder / "data" / "train.jsonl", [{"a": 1}])
    with pytest.raises(InputError, match=r"in none of the layouts .* There is: data \(train\)"):
        source(folder)
    alone = write_beir_hub(tmp_path / "alone", second=False)
    with pytest.raises(InputError, match=r"has no judgments: .* no alone-qrels beside it\. There is: corpus"):
        source(alone)
    with pytest.raises(InputError, match=r"there is no folder .*nowhere"):
        source(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("configs: [", r"README\.md: its head is not YAML"),
        ("configs: 3", r"README\.md: its `configs` are not a list of entries with a config_name"),
        ("configs: [{config_name: corpus, data_files: ../../x}]", r"names files elsewhere \(\.\./\.\./x\)"),
        ("configs: [{config_name: corpus, data_files: 'https://x/y'}]", r"names files elsewhere \(https://x/y\)"),
    ],
)
def test_a_readme_that_cannot_be_followed(head, message, tmp_path):
    folder = write_nano(tmp_path / "x")
    (folder / "README.md").write_text(f"---\n{head}\n---\n")
    with pytest.raises(InputError, match=message):
        source(folder)


def test_other_forms_of_a_readme(tmp_path):
    """`data_files` as one glob, a list or by split, and `data_dir`, as `datasets` takes them."""
    folder = write_nano(tmp_path / "x")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- {config_name: corpus, data_files: 'corpus/*.parquet'}\n"
        "- {config_name: queries, data_dir: queries}\n"
        "- {config_name: qrels, data_files: {test: ['qrels/train-*']}}\n---\n"
    )
    found = source(folder)
    assert (found.found.split, len(list(found.documents())), len(list(found.queries()))) == ("test", 3, 2)


def test_jsonl_needs_no_pyarrow_and_parquet_says_so(tmp_path, monkeypatch, job):
    lines, binary = write_mteb(tmp_path / "lines"), write_nano(tmp_path / "x")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    opened(f"hf:{lines}", job)
    with pytest.raises(InputError, match=r"needs pyarrow: pip install 'dupmae-harness\[hf\]'"):
        opened(f"hf:{binary}", job)
