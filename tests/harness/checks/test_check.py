"""`harness check`: the embedded baseline holds, every kind of change is found, and bad input is named."""

import csv
import hashlib
import json
import re
import shutil
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import yaml

import harness
import harness.datasets.loader
import harness.retrievers.types
from harness.checks import baseline_file
from harness.checks.baseline import Entry
from harness.reports import checks
from harness.reports.checks import Checked, Finding, Flip, Status
from harness.retrievers.lexical import lucene
from harness.retrievers.lexical.bm25 import BM25
from harness.retrievers.lexical.coordination import Coordination
from tests.support import tiny
from tests.support.datasets import write_beir
from tests.support.paths import ROOT

# d4, d3 and d2 share one word with q1, so they tie; by the tie rule the greater id comes first
DOCS = [("d1", "", "red apples and pears"), ("d2", "", "red wine"), ("d3", "", "red sea water"), ("d4", "", "apples")]
QUERIES = [("q1", "red apples"), ("q2", "sea water wine"), ("q3", "pears")]
QRELS = {"test": [("q1", "d1", 1), ("q2", "d3", 1), ("q3", "d1", 1)]}


def write_tiny(folder, **parts):
    return write_beir(folder, **{"docs": DOCS, "queries": QUERIES, "qrels": QRELS, **parts})


@pytest.fixture
def overlap(cli, tmp_path):
    """A baseline of word overlap on a collection of four documents; returns its path."""
    write_tiny(tmp_path / "tiny")
    made = cli("check", "--update", "-B", "tiny.yaml", "-r", "coordination", "-d", "tiny", "-m", "MRR@10")
    assert made.code == 0, made.err
    return tmp_path / "tiny.yaml"


def edit(path, change, number=0):
    values = yaml.safe_load(path.read_text())
    change(values["entries"][number])
    path.write_text(yaml.safe_dump(values))


def rows(answer):
    """{(entry, check): (status, detail)} of the first table, and the lines of the second."""
    first, _, second = answer.out.partition("\n\n")
    cells = [line[2:-2].split(" | ") for line in first.splitlines()[2:]]
    return {(row[0], row[1]): " ".join(row[5:]).strip() for row in cells}, second.splitlines()[2:]


def reverse_tie_rule(monkeypatch):
    """Break ties by ascending ids, by the plain definition; scores descend as before."""

    def ascending(rows_query, doc_ids, scores):
        return np.lexsort((doc_ids, -scores.astype(np.float64), rows_query))

    monkeypatch.setattr(harness.retrievers.types, "best_first", ascending)


def test_the_untouched_tree_passes(cli, tmp_path):
    answer = cli("check", "--junit", "out/check.xml", "--results", "kept")
    assert answer.code == 0, answer.out
    found, flips = rows(answer)
    assert {key[0] for key in found} == {
        "mini bm25 flat", "mini bm25 multifield", "mini coordination", "mini dupmae-mini", "mini dupmae-mini lexical=0",
        "mini retromae-mini",
    }  # fmt: skip
    assert len(found) == 3 * 7 + 3 * 6  # a top 10 is not expected of vectors
    assert not flips
    assert "39 checks of 6 entries" in answer.err
    assert "all as expected" in answer.err
    root = ET.parse(tmp_path / "out" / "check.xml").getroot()
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("39", "0", "0")
    assert len(list((tmp_path / "kept").glob("mini/*/*/manifest.json"))) == 6
    assert not list((tmp_path / "out").glob(".*"))


def test_b_at_nine_tenths_is_a_change(cli, monkeypatch, tmp_path):
    """As if the default had been edited: whatever BM25 is made with, it searches with b = 0.9."""
    made = BM25.__init__
    monkeypatch.setattr(BM25, "__init__", lambda self, options: made(self, options.model_copy(update={"b": 0.9})))
    answer = cli("check", "--junit", "check.xml")
    assert answer.code == 1
    found, flips = rows(answer)
    for variant in ("flat", "multifield"):
        assert found[f"mini bm25 {variant}", "NDCG@10"].startswith("changed drop of 0.00")
        assert "is not significant at 0.05 (paired randomisation p 0." in found[f"mini bm25 {variant}", "NDCG@10"]
        assert "of 100 queries flipped" in found[f"mini bm25 {variant}", "top 10"]
    assert all(row.startswith("ok") for (entry, _), row in found.items() if entry == "mini coordination")
    assert len(flips) == 40  # 20 of each, and a note of the rest
    assert "more queries flipped" in answer.err
    [q038] = [line for line in flips if line.startswith("| mini bm25 flat | q038 |")]
    assert "entered p280 (rank 9); left p106 (was 10)" in q038

    root = ET.parse(tmp_path / "check.xml").getroot()
    failed = {(case.get("classname"), case.get("name")): case.find("failure") for case in root.iter("testcase")}
    assert "q038: entered p280 (rank 9)" in failed["mini bm25 flat", "top 10"].text
    assert failed["mini coordination", "top 10"] is None
    assert root.get("failures") == str(answer.out.count("| changed |"))


def test_the_tie_rule_reversed_is_a_change_of_the_embedded_baseline(cli, monkeypatch):
    """Only word overlap has ties there; trec_eval, with a tie rule of its own, notices as well."""
    reverse_tie_rule(monkeypatch)
    answer = cli("check")
    assert answer.code == 1
    found, flips = rows(answer)
    assert found["mini coordination", "top 10"].startswith("changed 99 of 100 queries flipped")
    assert "ranx and trec_eval disagree" in found["mini coordination", "NDCG@10"]
    assert flips[0].startswith("| mini coordination | q001 | entered ")
    assert all(row.startswith("ok") for (entry, _), row in found.items() if "bm25" in entry)


def test_the_tie_rule_reversed_is_found_by_the_hash_alone(cli, overlap, monkeypatch):
    """No relevant document ties, so every score is as before."""
    reverse_tie_rule(monkeypatch)
    answer = cli("check", "-B", overlap)
    found, flips = rows(answer)
    assert answer.code == 1
    assert {check: row.split()[0] for (_, check), row in found.items()} == {
        "corpus": "ok", "queries": "ok", "judgments": "ok", "MRR@10": "ok", "top 10": "changed",
    }  # fmt: skip
    assert "1 of 3 queries flipped, 1 of them in order only" in found["tiny coordination", "top 10"]
    assert flips == ["| tiny coordination | q1 | order from rank 2: d2 d3 d4 (was d4 d3 d2) |  |"]
    edit(overlap, lambda entry: entry.update(check_top_10=False))
    assert cli("check", "-B", overlap).code == 0
    assert cli("check", "--update", "-B", overlap).code == 0
    assert yaml.safe_load(overlap.read_text())["entries"][0]["check_top_10"] is False  # an update keeps a choice


@pytest.mark.parametrize(
    ("parts", "name", "said"),
    [
        ({"qrels": {"test": [("q1", "d1", 1), ("q2", "d3", 2), ("q3", "d1", 1)]}}, "judgments", "other: q2"),
        ({"qrels": {"test": QRELS["test"][:2]}}, "judgments", "gone: q3"),
        ({"queries": [*QUERIES[:2], ("q3", "pear")]}, "queries", "other: q3"),
        ({"docs": [*DOCS[:3], ("d4", "", "apple")]}, "corpus", "nothing was run"),
    ],
)
def test_other_inputs_are_no_regression(cli, overlap, monkeypatch, parts, name, said):
    shutil.rmtree(overlap.parent / "tiny")
    write_tiny(overlap.parent / "tiny", **parts)
    monkeypatch.setattr(Coordination, "search", lambda *_: pytest.fail("it was searched"))
    answer = cli("check", "-B", overlap)
    found, flips = rows(answer)
    assert answer.code == 2, answer
    assert found["tiny coordination", name].startswith("other inputs")
    assert said in found["tiny coordination", name]
    assert not flips
    assert ("tiny coordination", "MRR@10") not in found


def test_one_judgment_of_mini_changed(cli, tmp_path, monkeypatch):
    copy = shutil.copytree(harness.datasets.loader.MINI, tmp_path / "mini")
    path = copy / "qrels" / "test.tsv"
    lines = path.read_text().splitlines()
    assert lines[1] == "q001\tp002\t0"
    path.write_text("\n".join([lines[0], "q001\tp002\t1", *lines[2:]]) + "\n")
    monkeypatch.setattr(harness.datasets.loader, "MINI", copy)
    monkeypatch.setattr(lucene, "ensure_index", lambda *_: pytest.fail("it was indexed"))
    answer = cli("check", "--junit", "check.xml")
    found, _ = rows(answer)
    assert answer.code == 2
    assert found["mini bm25 flat", "judgments"].startswith("other inputs other: q001; ")
    assert found["mini bm25 flat", "corpus"] == found["mini bm25 flat", "queries"] == "ok"
    root = ET.parse(tmp_path / "check.xml").getroot()
    assert (root.get("failures"), root.get("errors")) == ("0", "6")


def test_a_tolerance_is_kept_to_on_both_sides(cli, overlap):
    """Each query's relevant document shares most words with it, so MRR is 1."""
    expected = yaml.safe_load(overlap.read_text())["entries"][0]["metrics"]["MRR@10"]
    assert expected == {"value": 1.0, "tolerance": 0.0005}
    for value, tolerance, code in ((0.9996, 0.0005, 0), (0.9994, 0.0005, 1), (0.9, 0.1, 0), (0.9, 0.09, 1), (1, 0, 0)):
        wanted = {"value": value, "tolerance": tolerance}
        edit(overlap, lambda entry, wanted=wanted: entry["metrics"].update({"MRR@10": wanted}))
        answer = cli("check", "-B", overlap)
        assert answer.code == code, (value, tolerance)
    edit(overlap, lambda entry: entry["metrics"].update({"MRR@10": {"value": 0.5, "tolerance": 0.01}}))
    assert "| 0.500000 | 1.000000 | 0.01 | changed |" in cli("check", "-B", overlap).out  # a rise nobody has reviewed


def test_update_shows_what_changes_and_only_then_writes(cli, overlap, monkeypatch):
    before = overlap.read_bytes(), overlap.with_suffix(".csv").read_bytes()
    again = cli("check", "--update", "-B", overlap)
    assert (again.code, again.out) == (0, "")
    assert "nothing changes in" in again.err
    assert (overlap.read_bytes(), overlap.with_suffix(".csv").read_bytes()) == before
    with overlap.with_suffix(".csv").open() as file:
        first = next(csv.DictReader(file))
    assert (first["query_id"], first["top_10"], float(first["MRR@10"])) == ("q1", "d1 d4 d3 d2", 1.0)

    edit(overlap, lambda entry: entry.update(note="ours", metrics={"MRR@10": {"value": 0.5, "tolerance": 0.01}}))
    edit(overlap, lambda entry: entry.update(top_10="0" * 64))
    shown = cli("check", "--update", "-B", overlap)
    assert "| tiny coordination | MRR@10 | 0.500000 ± 0.01 | 1.000000 ± 0.01 |" in shown.out
    assert "| tiny coordination | top 10 | 0000000000 |" in shown.out
    entry = yaml.safe_load(overlap.read_text())["entries"][0]
    assert entry["note"] == "ours"
    assert entry["metrics"] == {"MRR@10": {"value": 1.0, "tolerance": 0.01}}
    # by its definition, written out: ids of every query in order
    top = {"q1": "d1 d4 d3 d2", "q2": "d3 d2", "q3": "d1"}
    text = "".join("\0".join([q, *docs.split()]) + "\n" for q, docs in top.items())
    assert entry["top_10"] == hashlib.sha256(text.encode()).hexdigest()
    assert cli("check", "-B", overlap).code == 0

    more = ("-r", "bm25", "-d", "tiny", "-o", "fields=multifield", "--tolerance", 0)
    added = cli("check", "--update", "-B", overlap, *more)
    assert "| tiny bm25 fields=multifield | NDCG@10 |" in added.out
    assert "tiny coordination" not in added.out
    entries = yaml.safe_load(overlap.read_text())["entries"]
    assert [entry["name"] for entry in entries] == ["tiny coordination", "tiny bm25 fields=multifield"]
    assert list(entries[1]["packages"]) == ["pyserini"]
    assert cli("check", "-B", overlap).code == 0
    reverse_tie_rule(monkeypatch)
    flipped = cli("check", "--update", "-B", overlap, "-r", "coordination", "-d", "tiny")
    assert "| tiny coordination | queries with another top 10 |  | q1 |" in flipped.out


def test_a_failed_update_writes_nothing(cli, overlap):
    values = yaml.safe_load(overlap.read_text())
    values["entries"].append({"name": "x", "retriever": "coordination", "dataset": "nowhere"})
    overlap.write_text(yaml.safe_dump(values))
    before = overlap.read_bytes(), overlap.with_suffix(".csv").read_bytes()
    answer = cli("check", "--update", "-B", overlap)
    assert answer.code == 2
    assert "nothing was written to" in answer.err
    assert "x: unknown dataset 'nowhere'" in answer.err
    assert (overlap.read_bytes(), overlap.with_suffix(".csv").read_bytes()) == before
    assert not list(overlap.parent.glob(".*.new"))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"dataset": "beir/scifacts"}, "Did you mean beir/scifact"),
        ({"retriever": "bn25"}, "unknown retriever 'bn25'. Did you mean bm25"),
        ({"options": {"bb": 1}}, "bb: unknown; there is"),
        ({"metrics": {"NCDG@10": {"value": 0.5}}}, "unknown metric 'NCDG@10'. Did you mean NDCG@k"),
        ({"metrics": {"MRR@10": {"value": 5}}}, "metrics.MRR@10.value: Input should be less than or equal to 1, got 5"),
        ({"metrics": {"MRR@10": {"valeu": 0.5}}}, "metrics.MRR@10.valeu: unknown; there is tolerance, value"),
        ({"top_10": "abc"}, "top_10: String should match pattern"),
        ({"top_k": 5}, "MRR@10 cannot be measured on runs of 5 results"),
        ({"inputs": None}, "no expected values or inputs yet"),
        ({"colour": "red"}, "colour: unknown; there is check_top_10, checkpoint_hash, dataset"),
    ],
)
def test_a_wrong_entry_keeps_no_other_from_its_check(cli, overlap, wrong, said):
    values = yaml.safe_load(overlap.read_text())
    values["entries"].insert(0, {**values["entries"][0], "name": "wrong", **wrong})
    overlap.write_text(yaml.safe_dump(values))
    answer = cli("check", "-B", overlap, "--junit", "check.xml")
    assert answer.code == 2
    assert "Traceback" not in answer.err
    assert said.replace("|", "\\|") in answer.out
    found, _ = rows(answer)
    assert found["wrong", "baseline"].startswith("cannot be checked")
    assert found["tiny coordination", "MRR@10"] == "ok"
    edit(overlap, lambda entry: entry["metrics"].update({"MRR@10": {"value": 0.5}}), 1)
    assert cli("check", "-B", overlap).code == 1  # what changed is told before what could not be checked


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("entries: [", "is not YAML"),
        ("- a", "holds a list"),
        ("schema: 2\nentries: [x]", "a baseline of schema 2; this harness reads up to 1"),
        ("entries: [x]", "schema is None; want 1"),
        ("schema: 1", "a list `entries` of one entry at least"),
        ("schema: 1\nentries: []", "a list `entries` of one entry at least"),
        ("schema: 1\nentrys: []", "unknown: entrys"),
        ("schema: 1\nschema: 1", "the key 'schema' stands twice"),
    ],
)
def test_a_malformed_file_is_named(bad, tmp_path, text, said):
    path = tmp_path / "b.yaml"
    path.write_text(text)
    assert said in bad("check", "-B", path)


def test_bad_words(bad, tmp_path, monkeypatch):
    assert "Make one: harness check --update --baseline none.yaml -r" in bad("check", "-B", "none.yaml")
    assert "Make one" in bad("check", "--update", "-B", "none.yaml")
    assert "only with --update" in bad("check", "--metric", "MRR@10", "--tolerance", "0")
    assert "Leave one out" in bad("check", "--update", "--junit", "x.xml")
    assert "There is: bm25, coordination" in bad("check", "-r", "bm26")
    assert "There is: mini" in bad("check", "-d", "minni")
    assert "ends in .yaml" in bad("check", "--update", "-B", "mine.csv", "-r", "bm25")
    assert "needs --retriever" in bad("check", "--update", "-B", "mine.yaml", "-o", "b=1")
    new = ("check", "--update", "-B", "m.yaml", "-r", "bm25")
    assert "no retriever of this run has the option 'x'" in bad(*new, "-o", "x=1")
    assert "Did you mean NDCG@k" in bad(*new, "-m", "ndgc@10")
    monkeypatch.setattr(baseline_file, "EMBEDDED", tmp_path / "site" / "harness" / "data" / "baselines" / "mini.yaml")
    assert "the package's own. Name yours" in bad("check", "--update")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "runs as one process" in bad("check")
    assert not list(tmp_path.glob("*.yaml"))


def test_two_entries_of_one_name(cli, overlap):
    values = yaml.safe_load(overlap.read_text())
    values["entries"] *= 2
    overlap.write_text(yaml.safe_dump(values))
    answer = cli("check", "-B", overlap)
    assert answer.code == 2
    assert "the name stands twice" in answer.out


@pytest.mark.parametrize("damage", ["", "entry,query_id\n", None])
def test_without_its_csv_a_change_is_found_all_the_same(cli, overlap, damage):
    path = overlap.with_suffix(".csv")
    path.write_text(damage) if damage is not None else path.unlink()
    assert cli("check", "-B", overlap).code == 0
    edit(overlap, lambda entry: entry.update(top_10="0" * 64))
    answer = cli("check", "-B", overlap)
    assert answer.code == 1
    assert "the queries that flipped cannot be named" in answer.err
    assert rows(answer)[1] == []


def test_a_csv_of_another_time_is_not_believed(cli, overlap):
    path = overlap.with_suffix(".csv")
    path.write_text(path.read_text().replace("d1 d4 d3 d2", "d1 d4 d2 d3"))
    assert baseline_file.read(overlap).rows == {}


def test_a_score_that_is_not_its_rows_mean_has_no_significance(cli, overlap):
    """An expected score edited by hand: the rows of the CSV say nothing of that change."""
    edit(overlap, lambda entry: entry["metrics"]["MRR@10"].update(value=0.1234))
    answer = cli("check", "-B", overlap)
    assert answer.code == 1
    assert "the rows of the CSV have another mean" in rows(answer)[0]["tiny coordination", "MRR@10"]


def test_a_filter_names_what_is_wrong_with_the_one_asked_for_alone(cli, overlap):
    """Where every entry is wrong, the mistake is told, and not that there is no such retriever."""
    whole = overlap.read_text()
    edit(overlap, lambda entry: entry["metrics"]["MRR@10"].update(tolerance=-1))
    answer = cli("check", "-B", overlap, "-r", "coordination")
    assert answer.code == 2
    assert "metrics.MRR@10.tolerance" in answer.out
    values = yaml.safe_load(whole)
    values["entries"].append({**values["entries"][0], "name": "wrong", "retriever": "bm25", "top_10": "x"})
    overlap.write_text(yaml.safe_dump(values))
    assert cli("check", "-B", overlap, "-r", "coordination").code == 0
    assert cli("check", "-B", overlap).code == 2


def test_outputs_are_looked_at_before_the_work(overlap, bad, tmp_path):
    kept = overlap.read_bytes()
    (tmp_path / "file").write_text("kept")
    for words, message in (
        (("--junit", overlap), "is the baseline itself"),
        (("--junit", overlap.with_suffix(".csv")), "is the baseline itself"),
        (("--junit", tmp_path), "is a folder"),
        (("--results", tmp_path / "file"), "is a file"),
        (("--update", "-r", "bm25", "-B", tmp_path / "file" / "x.yaml"), "there is no folder"),
    ):
        given = words if "-B" in words else ("-B", overlap, *words)
        assert message in bad("check", *given)
    assert overlap.read_bytes() == kept


def test_other_packages_are_told_where_something_changed(cli, overlap):
    edit(overlap, lambda entry: entry.update(packages={"pyserini": "0.1"}, top_10="0" * 64))
    assert "other packages than the baseline's: pyserini None (was 0.1)" in cli("check", "-B", overlap).err


def test_entries_of_two_models_of_one_name(cli, tmp_path):
    """The first is named by the word for it, the other by its whole name; each is checked as what it is."""
    for seed, place in enumerate("ab"):
        tiny.save_hybrid(tmp_path / place / "m", seed=seed)
    write_beir(tmp_path / "c")
    go = ("-B", "mine.yaml", "-d", "c")
    assert cli("check", "--update", *go, "-r", "hf:a/m", "-r", "hf:b/m", "--tolerance", 0.01).code == 0
    entries = yaml.safe_load((tmp_path / "mine.yaml").read_text())["entries"]
    assert [(one["name"], one["retriever"]) for one in entries] == [("c m", "hf:a/m"), ("c hf:b/m", "hf:b/m")]
    assert entries[0]["checkpoint_hash"] != entries[1]["checkpoint_hash"]
    assert cli("check", *go, "--results", "kept").code == 0
    assert len(list((tmp_path / "kept" / "c-test" / "m").iterdir())) == 2
    assert cli("check", "--update", *go, "-r", "hf:b/m").code == 0  # the entry that is there
    assert len(yaml.safe_load((tmp_path / "mine.yaml").read_text())["entries"]) == 2


def test_ones_own_checkpoint(cli, tmp_path):
    """Other weights in the same folder change the top 10, and are named."""
    tiny.save_hybrid(tmp_path / "m")
    write_beir(tmp_path / "c")
    go = ("-B", "mine.yaml", "-r", "hf:m", "-d", "c")
    made = cli("check", "--update", *go, "-o", "query_prefix=the ", "-o", "engine=torch", "--tolerance", 0.01)
    assert made.code == 0, made.err
    entry = yaml.safe_load((tmp_path / "mine.yaml").read_text())["entries"][0]
    assert (entry["name"], entry["options"]) == (
        "c m engine=torch query_prefix=the",
        {"engine": "torch", "query_prefix": "the "},
    )
    assert cli("check", *go).code == 0
    shutil.rmtree(tmp_path / "m")
    tiny.save_hybrid(tmp_path / "m", seed=5)
    answer = cli("check", *go)
    assert answer.code == 1
    assert "another checkpoint than the baseline's: " in answer.err
    assert f"(was {entry['checkpoint_hash'][:10]})" in answer.err


def test_another_checkpoint_is_told_where_nothing_changed_too(cli, tmp_path):
    """A lexical half twice as loud of a model that is searched by its dense half alone changes no score."""
    tiny.save_hybrid(tmp_path / "m", lexical_scale=1.0)
    write_beir(tmp_path / "c")
    go = ("-B", "mine.yaml", "-r", "hf:m", "-d", "c")
    assert cli("check", "--update", *go, "-o", "lexical=0").code == 0
    assert "another checkpoint" not in cli("check", *go).err
    shutil.rmtree(tmp_path / "m")
    tiny.save_hybrid(tmp_path / "m", lexical_scale=2.0)
    answer = cli("check", *go)
    assert answer.code == 0, answer.err
    assert "another checkpoint than the baseline's: " in answer.err


def test_a_composite_is_checked_as_a_whole(cli, tmp_path, monkeypatch):
    from harness.datasets.rules import FORUMS

    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    forums = tmp_path / "home" / "datasets" / "beir" / "cqadupstack"
    for forum in FORUMS:
        write_tiny(forums / forum)
    go = ("-B", "c.yaml", "-r", "coordination", "-d", "beir/cqadupstack")
    assert cli("check", "--update", *go, "-m", "MRR@10").code == 0
    assert cli("check", *go).code == 0
    assert yaml.safe_load((tmp_path / "c.yaml").read_text())["entries"][0]["queries"] == 36
    shutil.rmtree(forums / "gis")
    write_tiny(forums / "gis", qrels={"test": [*QRELS["test"][:2], ("q3", "d2", 1)]})
    answer = cli("check", *go)
    assert answer.code == 2
    assert "other: gis:q3;" in answer.out


def test_the_tables_and_the_xml_of_odd_names():
    finding = Finding("a|b", "top 10", Status.CHANGED, "x", "y", detail="line\nbreak \x00")
    flip = Flip("a|b", "q", ("d1", "d2"), ("d2", "d9"), {"MRR@10": (1.0, 0.5), "P@1": (0.0, 0.0)})
    result = Checked("a|b", (finding, Finding("a|b", "gone", Status.UNCHECKED, detail="why")), (flip,))
    text = checks.as_markdown([result])
    assert "| a\\|b | top 10 | x | y |  | changed | line break" in text
    assert "| q | entered d9 (rank 2); left d1 (was 1) | MRR@10 1.0000 → 0.5000 |" in text
    root = ET.fromstring(checks.as_junit([result]))
    failure, error = root.find(".//failure"), root.find(".//error")
    assert failure.get("message").startswith("expected x, measured y; line")
    assert "\ufffd" in failure.get("message")
    assert "q: entered d9" in failure.text
    assert error.get("type") == "cannot be checked"
    assert checks.exit_status([result]) == 1
    assert checks.exit_status([Checked("x", (finding.__class__("x", "y", Status.OTHER_INPUTS),))]) == 2
    assert checks.exit_status([]) == 0


def test_an_entry_may_list_its_metrics():
    entry = Entry.model_validate({"name": "x", "retriever": "bm25", "dataset": "mini", "metrics": ["ndcg@10", "r@500"]})
    assert list(entry.metrics) == ["NDCG@10", "R@500"]
    assert entry.depth() == 500
    assert not entry.filled


def test_coordination_by_hand(job, tmp_path):
    """q1 shares both words with d1; d4, d3 and d2 have one each, and tie."""
    [dataset] = harness.datasets.loader.resolve(str(write_tiny(tmp_path / "tiny")))
    dataset.open(job)
    run = Coordination(Coordination.Options()).search(dataset, dataset.queries, 3, job)
    assert [doc.decode() for doc in run.rows(0)[0]] == ["d1", "d4", "d3"]
    assert run.rows(0)[1].tolist() == [2, 1, 1]
    assert [doc.decode() for doc in run.rows(2)[0]] == ["d1"]


def test_coordination_drops_nothing_that_counts(job, monkeypatch, tmp_path):
    from harness.retrievers.lexical import coordination

    [dataset] = harness.datasets.loader.resolve("mini")
    dataset.open(job)
    whole = Coordination(Coordination.Options()).search(dataset, dataset.queries, 20, job)
    monkeypatch.setattr(coordination, "_ROWS", 300)
    again = Coordination(Coordination.Options()).search(dataset, dataset.queries, 20, job)
    assert (whole.doc_ids == again.doc_ids).all()
    assert (whole.scores == again.scores).all()


def test_the_workflow_runs_it():
    """Its actions are pinned by major version, and the XML is kept also where the check fails."""
    text = (ROOT / ".github" / "workflows" / "check.yml").read_text()
    steps = yaml.safe_load(text)["jobs"]["scores"]["steps"]
    used = [step["uses"] for step in steps if "uses" in step]
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", name) for name in used)
    [check] = [step for step in steps if "harness check" in step.get("run", "")]
    assert check["shell"] == "bash"
    assert steps[-1]["if"] == "always()"
    assert steps[-1]["with"]["path"].endswith("check.xml")
    assert "--junit check.xml" in check["run"]
    assert "first_run.py" in (ROOT / "tox.ini").read_text()
    assert '"check"' in (ROOT / "tests" / "support" / "first_run.py").read_text()


def test_a_run_file_is_checked_as_the_entry(overlap, cli, bad, tmp_path, monkeypatch):
    """The engine's own run passes; one with the first document put last does not, and the query is named."""
    run = harness.run("coordination", "tiny", top_k=100)
    run.to_trec("same.trec")
    monkeypatch.setattr(Coordination, "search", None)  # nothing is searched
    answer = cli("check", "-B", overlap, "--run", "same.trec")
    assert answer.code == 0, answer.out + answer.err
    worse = {query: dict(zip(docs, sorted(docs.values()), strict=True)) for query, docs in run.to_dict().items()}
    (tmp_path / "worse.json").write_text(json.dumps(worse))
    answer = cli("check", "-B", overlap, "--run", "worse.json")
    assert answer.code == 1
    assert rows(answer)[0]["tiny coordination", "MRR@10"][0] != "ok"
    assert rows(answer)[1]
    assert "cannot be read: No such file" in bad(
        "check", "-B", overlap, "--run", "no run.trec", results=tmp_path / "none"
    )
    assert "leaves no record" in bad(
        "check", "-B", overlap, "--run", "same.trec", "--results", "r", results=tmp_path / "n"
    )
    assert "--run and --entry are of a check" in bad(
        "check", "-B", overlap, "--update", "--run", "same.trec", results=tmp_path / "n"
    )
    assert "is checked as one entry, and there are 6" in bad("check", "--run", "same.trec", results=tmp_path / "none")
    two = ("check", "-r", "bm25", "-d", "mini", "--run", "same.trec")
    assert "there are 2: mini bm25 flat, mini bm25 multifield. Name one by --entry" in bad(*two, results=tmp_path / "n")
    assert "unknown entry of" in bad("check", "--entry", "mini bm25", results=tmp_path / "n")
    assert "none of the judged queries" in cli("check", "--entry", "mini bm25 flat", "--run", "same.trec").out
