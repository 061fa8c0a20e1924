"""Which row of the paper a record may fill, and what is against it: by its manifest alone."""

import pytest

from harness.datasets.rules import BEIR_18, LICENSED, rules_for
from harness.reports.paper import rows
from harness.reports.paper.collections import COLLECTIONS, against
from tests.support.records import BOTH, FULL, data, system

TABLE_3 = [
    ("CLS decoding", 768, 0, ("RetroMAE",)),
    ("CLS decoding", 384, 384, ("CLS decoding only",)),
    ("OT decoding", 384, 384, ("OT decoding only",)),
    (BOTH, 384, 384, (BOTH, "CLS:384, OT:384")),
    (BOTH, 768, 0, ("CLS:768",)),
    (BOTH, 0, 768, ("OT:768",)),
    (BOTH, 384, 260, ("CLS:384, OT:260",)),
]


@pytest.mark.parametrize(("tasks", "dense", "lexical", "expected"), TABLE_3)
def test_table_3_is_pre_training_and_representation(tasks, dense, lexical, expected):
    one = system(dense, lexical, tasks)
    assert rows.rows_of(3, one) == expected
    assert rows.against(3, expected[0], one) == []


@pytest.mark.parametrize(("tasks", "dense", "lexical", "expected"), TABLE_3)
def test_a_miniature_fills_the_same_row_and_is_not_comparable(tasks, dense, lexical, expected):
    """At H = 128 the widths are 64 and 128; (128 - 64) * 4 bytes hold 256 / 5.875 = 43.6 terms."""
    small = {768: 128, 384: 64, 260: 43, 0: 0}
    model = {"layers": 4, "hidden": 128, "vocabulary": 4_096}
    one = system(small[dense], small[lexical], tasks, model=model)
    assert rows.rows_of(3, one) == expected
    assert rows.against(3, expected[0], one) == [
        "miniature model (4 layers, H 128, V 4,096; the paper: 12, 768, 30,522)"
    ]


@pytest.mark.parametrize(
    ("dense", "lexical"), [(384, 128), (384, 0), (768, 384), (0, 384), (384, 262), (384, 259), (256, 512)]
)
def test_other_widths_fill_nothing(dense, lexical):
    """4 * 384 bytes hold 1536 / 5.875 = 261.4 terms: 260 and 261 are the paper's variant, 259 and 262 are not."""
    for table in (1, 2, 3):
        assert rows.rows_of(table, system(dense, lexical)) == ()


@pytest.mark.parametrize(
    ("trained", "row"),
    [
        ({}, ("DupMAE (stage 2)",)),
        ({"distil": True}, ("DupMAE (stage 3)",)),
        ({"negatives": None}, ()),
        ({"kind": "pretrain"}, ()),
    ],
)
def test_table_1_is_the_stage(trained, row):
    one = system(**trained)
    assert rows.rows_of(1, one) == row
    assert all(rows.against(1, name, one) == [] for name in row)
    assert rows.rows_of(2, one) == ("DupMAE",)  # whatever the stage; what the paper's had is said
    assert bool(rows.against(2, "DupMAE", one)) == (row != ("DupMAE (stage 2)",))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"finetuned_on": ["collections/squad/train"]}, "other fine-tuning data (collections/squad/train)"),
        ({"finetuned_on": None}, "the checkpoint does not say what it was fine-tuned on"),
        ({"pretrained_on": None}, "the checkpoint does not say what it was pre-trained on"),
        ({"pretrained_on": ["wiki, first 64,000"]}, "other pre-training data (wiki, first 64,000)"),
        ({"pretrained_on": ["kilt", "bookcorpus"]}, "other pre-training data (kilt, bookcorpus)"),
        ({"pretrained_on": ["msmarco-passage"]}, "other pre-training data (msmarco-passage)"),
        ({"pretrained_on": []}, "other pre-training data (none)"),
        ({"distil": True}, "other fine-tuning (distilled; the paper's: hard negatives)"),
        ({"negatives": None}, "other fine-tuning (in-batch; the paper's: hard negatives)"),
        ({"kind": "pretrain"}, "other fine-tuning (not fine-tuned; the paper's: hard negatives)"),
        ({"finetuned_as": [768, 0]}, "other fine-tuning (as CLS:768, OT:0, run as CLS:384, OT:384)"),
        ({"model": {}}, "the record does not say how large the model is"),
        ({"model": FULL | {"layers": 6}}, "miniature model (6 layers, H 768, V 30,522; the paper: 12, 768, 30,522)"),
        ({"model": FULL | {"layers": 24}}, "other model (24 layers, H 768, V 30,522; the paper: 12, 768, 30,522)"),
    ],
)
def test_what_is_against_it_is_named(changes, reason):
    assert rows.against(3, BOTH, system(**changes)) == [reason]


def test_the_general_pre_training_alone_is_table_2s():
    assert rows.against(2, "DupMAE", system(pretrained_on=["kilt", "corpora/bookcorpus"])) == []
    assert rows.against(2, "DupMAE", system(pretrained_on=["kilt"])) == ["other pre-training data (kilt)"]


def test_without_a_claim_or_a_word_of_training_nothing_is_filled():
    silent = system(tasks=None)
    assert [rows.rows_of(table, silent) for table in (1, 2, 3)] == [(), (), ()]
    for name in ("BM25", "hf:somebody/DupMAE", "BERT"):
        assert rows.rows_of(2, system(name=name)) == ()


def test_a_claim_is_what_other_systems_fill_a_row_by():
    claimed = system(name="BM25", tasks=None, claims=[(2, "BM25"), (2, "no such column")])
    assert (rows.rows_of(2, claimed), rows.rows_of(1, claimed)) == (("BM25",), ())
    assert rows.against(2, "BM25", claimed) == []


def test_the_authors_checkpoint_is_comparable_where_its_stage_is():
    """As `retromae` of the catalog: it says nothing of itself, and its entry says the stage."""
    one = system(768, 0, tasks=None, name="RetroMAE", claims=[(1, "RetroMAE")], stage="distilled")
    assert rows.rows_of(1, one) == ("RetroMAE",)
    assert rows.against(1, "RetroMAE", one) == []
    assert rows.against(3, "RetroMAE", one) == ["other fine-tuning (distilled; the paper's: hard negatives)"]


def test_plain_bert_is_not_the_papers():
    one = system(768, 0, tasks=None, name="BERT", claims=[(2, "BERT")], stage="not fine-tuned")
    assert rows.against(2, "BERT", one) == ["other fine-tuning (not fine-tuned; the paper's: hard negatives)"]


@pytest.mark.parametrize("name", COLLECTIONS)
def test_the_collection_as_the_field_knows_it_has_nothing_against_it(name):
    assert against(COLLECTIONS[name], data(COLLECTIONS[name])) == []


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("SciFact", {"documents": 5_000}, "other corpus (5,000 documents, not 5,183)"),
        ("SciFact", {"queries": 299, "judgments": 338}, "other corpus (299 queries, not 300; 338 judgments, not 339)"),
        ("Robust04", {"queries": 250}, "other corpus (250 queries, not 249)"),
        ("SciFact", {"titles": "none"}, "no titles"),
        ("MS MARCO Dev", {"titles": "none, though the paper's systems had them"}, "no titles"),
        ("ArguAna", {"drop_self": False}, "other rules (a query's own document is kept)"),
        ("SciFact", {"drop_self": True}, "other rules (a query's own document is dropped)"),
        ("CQADupStack", {"mean_of": 0}, "other rules (a mean over 0 parts, not 12)"),
    ],
)
def test_other_data_are_named(name, changes, reason):
    assert against(COLLECTIONS[name], data(COLLECTIONS[name], **changes)) == [reason]


def test_tolerated_rows_are_no_other_corpus_and_a_corpus_without_titles_has_none():
    """5,180 documents once and 3 again are the 5,183; FiQA carries no titles anywhere."""
    kept = data(COLLECTIONS["SciFact"], documents=5_180, duplicate_documents=3)
    assert against(COLLECTIONS["SciFact"], kept) == []
    assert against(COLLECTIONS["FiQA-2018"], data(COLLECTIONS["FiQA-2018"], titles="none")) == []


def test_the_collections_are_those_of_the_rules():
    of_beir = [one for one in COLLECTIONS.values() if one.dataset_id.startswith("beir/")]
    assert [one.dataset_id for one in of_beir] == [known or name for name, known in BEIR_18.items()]
    assert {one.dataset_id for one in of_beir if one.licensed} == set(LICENSED)
    for one in COLLECTIONS.values():
        rules = rules_for(one.dataset_id)
        assert (one.drop_self, one.parts) == (rules.drop_self, len(rules.mean_of))


@pytest.mark.filterwarnings("ignore")
def test_the_sizes_are_those_of_ir_datasets():
    import ir_datasets

    for one in COLLECTIONS.values():
        if one.licensed:
            continue
        ids = rules_for(one.dataset_id).mean_of or (one.dataset_id,)
        found = [ir_datasets.load(name).metadata() for name in ids]
        for kind, size in (("docs", one.documents), ("queries", one.queries), ("qrels", one.judgments)):
            assert sum(part[kind]["count"] for part in found) == size, (one.name, kind)


@pytest.mark.parametrize(
    ("tasks", "lexical", "why"),
    [
        (BOTH, 64, None),
        (BOTH, 32, "none of the paper's representations"),
        (None, 64, "does not say which decoding tasks"),
    ],
)
def test_a_checkpoint_that_is_no_row_says_why(tasks, lexical, why):
    """By its widths (at H = 128 there is 64 + 64, not 64 + 32), or by a pre-training that it does not name."""
    told = rows.silence(system(64, lexical, tasks, model={"layers": 4, "hidden": 128, "vocabulary": 4096}))
    assert told == "" if why is None else why in told
