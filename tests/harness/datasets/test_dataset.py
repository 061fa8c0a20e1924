"""The loader: names, rules, counts, hashes, and what is fatal or tolerated."""

import tracemalloc

import pytest

from harness.datasets import survey as survey_module
from harness.datasets.ir_datasets_source import known_ids
from harness.datasets.loader import names, resolve
from harness.datasets.rules import ALIASES, BEIR_18, LICENSED, RULES, canonical, rules_for
from harness.retrievers.errors import InputError
from harness.retrievers.types import Document, Query
from tests.support.datasets import DOCS, QRELS, QUERIES, opened, write_beir


def test_every_name_of_ours_stands_for_something_ir_datasets_has():
    ids = set(known_ids())
    for name in names():
        if name == "mini" or name in LICENSED:
            continue
        rules = rules_for(canonical(name))
        assert set(rules.mean_of or [canonical(name)]) <= ids, name
    assert {name for name in RULES if not RULES[name].mean_of} <= ids
    assert len(BEIR_18) == 18


@pytest.mark.parametrize(
    ("name", "dataset_id"),
    [
        ("msmarco-dev", "msmarco-passage/dev/small"),
        ("dl19", "msmarco-passage/trec-dl-2019/judged"),
        ("dl20", "msmarco-passage/trec-dl-2020/judged"),
        ("beir/scifact", "beir/scifact/test"),
        ("beir/scifact/train", "beir/scifact/train"),
        ("beir/webis-touche2020", "beir/webis-touche2020/v2"),
        ("beir/touche2020", "beir/webis-touche2020/v2"),
        ("beir/arguana", "beir/arguana"),
        ("cranfield", "cranfield"),
    ],
)
def test_names(name, dataset_id):
    [dataset] = resolve(name)
    assert (dataset.name, dataset.dataset_id) == (name, dataset_id)


def test_rules_follow_the_name():
    assert resolve("beir/arguana")[0].rules.drop_self
    assert resolve("beir/quora")[0].rules.drop_self
    assert not resolve("beir/scifact")[0].rules.drop_self
    assert [resolve(name)[0].rules.binary_level for name in ALIASES] == [1, 2, 2]
    assert len(resolve("beir/cqadupstack")) == 12


@pytest.mark.parametrize("name", sorted(LICENSED))
def test_licensed_collections_come_from_a_folder_of_the_user(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path))
    place = tmp_path / "datasets" / name
    with pytest.raises(InputError, match="is not distributed with ir_datasets") as error:
        resolve(name)
    assert str(place) in str(error.value)
    assert "http" in str(error.value)
    write_beir(place)
    [dataset] = resolve(name)
    assert (dataset.name, dataset.source.kind) == (name, "folder")


def test_a_folder_stands_in_for_a_beir_name_and_keeps_its_rules(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path))
    write_beir(tmp_path / "datasets" / "beir" / "quora")
    [dataset] = resolve("beir/quora")
    assert dataset.source.kind == "folder"
    assert dataset.rules.drop_self


def test_an_unknown_name_gets_the_nearest_and_what_there_is():
    with pytest.raises(InputError, match=r"unknown dataset 'beir/scifct'\. Did you mean .*beir/scifact") as error:
        resolve("beir/scifct")
    assert all(name in str(error.value) for name in names())
    with pytest.raises(InputError, match="PATH"):
        resolve("no/such/folder")


def test_an_id_without_judgments_names_its_parts():
    with pytest.raises(InputError, match=r"msmarco-passage has no queries and no qrels.*msmarco-passage/dev/small"):
        resolve("msmarco-passage")


def test_a_folder_that_is_no_collection(tmp_path):
    with pytest.raises(InputError, match=r"has no corpus\.jsonl"):
        resolve(str(tmp_path))


def test_a_folder_and_its_split(beir, job, monkeypatch):
    folder = beir("here", qrels={"test": QRELS, "dev": [("q2", "d1", 1)]})
    assert opened(folder, job).name == "here/test"
    dev = opened(folder / "dev", job)
    assert dev.queries == [Query("q2", "sea water")]
    monkeypatch.chdir(folder.parent)
    assert resolve("here/dev")[0].dataset_id == dev.dataset_id


def test_counts_of_what_is_tolerated(beir, job):
    dataset = opened(
        beir(
            docs=[*DOCS, DOCS[0], ("d4", "", " "), DOCS[0]],
            queries=[*QUERIES, QUERIES[1], ("q3", "never judged"), *((f"m{n}", "more") for n in range(7))],
            qrels={"test": [*QRELS, QRELS[0], ("q1", "gone", 1), *((f"m{n}", "d1", 1) for n in range(8))]},
        ),
        job,
    )
    counts = dataset.counts
    assert [doc.doc_id for doc in dataset.documents()] == ["d1", "d2", "d3", "d4"]
    assert (counts.documents, counts.duplicate_documents, counts.empty_texts) == (4, 2, 1)
    assert (counts.queries, counts.duplicate_queries, counts.queries_without_judgments) == (9, 1, 1)
    assert (counts.judgments, counts.duplicate_judgments) == (12, 1)
    assert (counts.judged_documents_missing, counts.judged_queries_without_text) == (1, 1)
    assert counts.documents_without_title == 1
    assert len(dataset.warnings) == 7
    assert dataset.qrels["q1"]["gone"] == 1  # it stays in the denominator


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"docs": [*DOCS, ("d1", "Apples", "other")]}, r"id 'd1' has two different texts, documents 1 and 4"),
        ({"docs": [*DOCS, ("d1", "Other", DOCS[0][2])]}, r"id 'd1' has two different texts"),
        ({"queries": [*QUERIES, ("q1", "other")]}, r"query id 'q1' has two different texts"),
        ({"qrels": {"test": [*QRELS, ("q1", "d1", 1)]}}, r"'d1' has two grades for query 'q1', 2 and 1"),
        ({"qrels": {"test": [("q7", "d1", 1)]}}, r"not one of its 2 queries is among the 1 judged"),
        ({"qrels": {"test": []}}, r"there are no judgments"),
        ({"docs": []}, r"the corpus of tiny/test .* is empty"),
        ({"queries": []}, r"not one of its 0 queries"),
    ],
)
def test_what_is_fatal(beir, job, parts, message):
    with pytest.raises(InputError, match=message):
        opened(beir(**parts), job)


def test_hashes_change_with_contents_and_with_nothing_else(beir, job):
    first, same = opened(beir("a"), job), opened(beir("b", gz=True), job)
    other = opened(beir("c", docs=[*DOCS[:2], ("d3", "Rivers", "water runs to the lake")]), job)
    retitled = opened(beir("d", docs=[("d1", "", "Apples red apples grow on trees"), *DOCS[1:]]), job)
    regraded = opened(beir("e", qrels={"test": [*QRELS[:2], ("q2", "d3", 2)]}), job)
    assert first.content_hash == same.content_hash == regraded.content_hash
    assert len({first.content_hash, other.content_hash, retitled.content_hash}) == 3
    assert first.qrels_hash == same.qrels_hash != regraded.qrels_hash
    assert first.queries_hash == other.queries_hash


def test_a_survey_is_kept_until_a_file_changes(beir, job, monkeypatch):
    folder = beir()
    first = opened(folder, job)
    with monkeypatch.context() as patch:
        patch.setattr(survey_module, "_read", lambda *a: pytest.fail("read again"))
        assert opened(folder, job).content_hash == first.content_hash
    write_beir(folder, docs=[*DOCS, ("d4", "", "new")])
    assert opened(folder, job).count == 4


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"[]", b"{"])
def test_a_damaged_survey_is_made_anew(beir, job, damage):
    folder = beir()
    opened(folder, job)
    [kept] = (job.cache / "surveys").glob("*.json")
    kept.write_bytes(damage)
    assert opened(folder, job).count == 3
    assert kept.read_bytes() != damage


def test_a_corpus_of_any_size_is_read_in_the_same_memory(job, monkeypatch):
    """Ten times the documents: the peak of Python's own memory stays, since nothing is kept for each of them."""

    class Endless:
        kind, location, count_hint = "made up", "nowhere", None

        def __init__(self, n):
            self.n = n

        def documents(self):
            return (Document(f"d{n}", "", f"text {n}") for n in range(self.n))

        def stamp(self):
            return [self.n]

    def peak(n):
        tracemalloc.start()
        assert survey_module.survey(Endless(n), "endless", {"d1"}, job).documents == n
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    monkeypatch.setattr(survey_module, "_HASHES_IN_MEMORY", 1000)
    monkeypatch.setattr(survey_module, "_BUCKETS", 64)
    peak(1000)
    assert peak(200_000) < 1.5 * peak(20_000)


@pytest.mark.parametrize("in_memory", [1, 2, 7, 1000])
def test_duplicates_are_found_however_little_fits_in_memory(beir, job, monkeypatch, in_memory):
    """With room for few hashes they go to buckets on disk; the finding is the same."""
    monkeypatch.setattr(survey_module, "_HASHES_IN_MEMORY", in_memory)
    docs = [(f"d{n}", "", f"text {n}") for n in range(50)]
    dataset = opened(beir(docs=[*docs, docs[3], docs[40], docs[3]], qrels={"test": [("q1", "d3", 1)]}), job)
    assert (dataset.count, dataset.counts.duplicate_documents) == (50, 3)
    assert [doc.doc_id for doc in dataset.documents()] == [f"d{n}" for n in range(50)]


def test_the_counts_of_the_real_collections(ir_home, job):
    scifact, nfcorpus, cranfield = (opened(n, job) for n in ("beir/scifact", "beir/nfcorpus", "cranfield"))
    assert (scifact.count, len(scifact.queries), scifact.counts.judgments) == (5183, 300, 339)
    assert (nfcorpus.count, len(nfcorpus.queries)) == (3633, 323)
    assert (cranfield.count, len(cranfield.queries), cranfield.counts.empty_texts) == (1400, 225, 2)
    assert len(opened("beir/scifact/train", job).queries) == 809
    assert [len(opened(f"beir/nfcorpus/{split}", job).queries) for split in ("dev", "train")] == [324, 2590]


def test_the_counts_of_the_real_folders(real, job):
    dl19 = opened(real / "msmarco-dl19-mini", job)
    assert (dl19.count, len(dl19.queries), dl19.counts.queries_without_judgments) == (5000, 43, 7)
    dev = opened(real / "msmarco-dev-mini", job)
    assert (dev.count, len(dev.queries)) == (2286, 2287)
    squad = opened(real / "squad-dev-mini" / "train", job)
    assert squad.count == 2067
    with pytest.raises(InputError, match="several splits and none is 'test': dev, train"):
        resolve(str(real / "insuranceqa"))


def test_a_file_that_cannot_be_fetched_says_what_to_do(monkeypatch, job):
    """Nothing answers on this address, so it is the same with and without a network."""
    monkeypatch.setenv("IR_DATASETS_DL_TRIES", "1")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"could not read vaswani \(.*\)\. .*IR_DATASETS_HOME"):
        opened("vaswani", job)
