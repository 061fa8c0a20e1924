"""From which grade up a document is relevant: every id of ir_datasets that has judgments, with the level it gets."""

import csv
from pathlib import Path

import pytest

from harness.datasets.ir_datasets_source import _library, official_measures
from harness.datasets.loader import resolve
from harness.datasets.rules import RULES, levels_of, rules_for
from harness.metrics.measure import Levels

LISTED = Path(__file__).with_name("levels.csv")  # id, level of R, P and MAP, level of MRR, official measures


@pytest.mark.parametrize(
    ("measures", "levels"),
    [
        ((), Levels(1)),
        (("nDCG@10", "RR", "AP"), Levels(1)),
        (("nDCG@10", "RR(rel=2)", "AP(rel=2)"), Levels(2)),
        (("nDCG@10", "RR(rel=2)"), Levels(2)),  # nothing is said of recall
        (("AP@100", "nDCG@10", "P@10", "RR(rel=2)"), Levels(1, mrr=2)),
        (("AP@100", "nDCG@10", "P(rel=2)@10", "RR(rel=2)"), Levels(2)),
        (("P(rel=2)@10",), Levels(2)),
        (("Judged@10", "ERR@20", "R@1000"), Levels(1)),
        (("SetF(beta=2,rel=3)", "RBP(p=0.8,rel=1)"), Levels(1)),
    ],
)
def test_levels_that_measures_imply(measures, levels):
    assert levels_of(measures) == levels


def test_the_tracks_that_count_from_grade_2():
    """Reported of trec_eval and ranx alike: MRR and recall of TREC DL were too high, since 1 is "related" there."""
    for year in (2019, 2020, "hard"):
        assert rules_for(f"msmarco-passage/trec-dl-{year}").levels == Levels(2)
    for year in (2021, 2022, 2023):
        for part in ("", "/judged"):
            assert rules_for(f"msmarco-passage-v2/trec-dl-{year}{part}").levels == Levels(2)
    assert rules_for("msmarco-passage/trec-dl-hard/fold1").binary_level == 2
    assert rules_for("msmarco-document-v2/trec-dl-2021").levels == Levels(1, mrr=2)
    [dataset] = resolve("msmarco-passage-v2/trec-dl-2021/judged")
    assert dataset.rules.key == [False, 2]
    assert "RR(rel=2)" in dataset.rules.source
    assert rules_for("beir/scifact/test") == rules_for("nobody/knows")


def test_every_id_with_judgments_is_listed_with_its_level():
    """A new release of ir_datasets may add ids: look at what they get, then list them."""
    library = _library()
    with LISTED.open(newline="", encoding="utf-8") as file:
        listed = {row["id"]: row for row in csv.DictReader(file)}
    found = {}
    for name in library.registry:
        if library.load(name).has_qrels():
            rules = rules_for(name)
            mrr = rules.binary_level if rules.mrr_level is None else rules.mrr_level
            found[name] = (str(rules.binary_level), str(mrr), "; ".join(official_measures(name)))
    assert len(found) > 500
    known = {name: (row["level"], row["mrr"], row["measures"]) for name, row in listed.items()}
    both = found.keys() & known.keys()
    assert {name: found[name] for name in both} == {name: known[name] for name in both}
    fresh = {name: levels for name, levels in found.items() if name not in known and levels[:2] != ("1", "1")}
    assert not fresh, "look at these and list them"


def test_our_own_table_adds_to_what_ir_datasets_says():
    """An id of ours with a level is one that ir_datasets is silent on, or agrees with."""
    for name, rules in RULES.items():
        if rules.binary_level > 1 and official_measures(name):
            assert levels_of(official_measures(name)) == rules.levels, name
