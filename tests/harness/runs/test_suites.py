"""Suites: collection by collection, the mean by hand, what is missing, and a comparison over them."""

import csv
import io
import json
import re
import shutil

import pytest
import yaml

import harness
from harness.datasets.loader import resolve
from harness.datasets.rules import FORUMS, LICENSED
from harness.datasets.suites import ABOUT, SUITES
from harness.retrievers.errors import InputError
from harness.runs.config import build
from harness.runs.runner import run
from tests.support.datasets import write_beir
from tests.support.hub import write_nano
from tests.support.retrievers import Fixed, registered

NANO = [name.rpartition("/")[2] for name in SUITES["nano-beir"]]
METRICS = ("-m", "NDCG@10", "-m", "MRR@10")


@pytest.fixture
def home(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "datasets"


@pytest.fixture
def systems():
    """`half` answers the first of two queries; `better` in every other collection, from the first on, both."""
    first = {f"{name}-1": {"d1": 1.0} for name in NANO}
    both = {f"{name}-2": {"d3": 1.0} for name in NANO[::2]}
    half = type("Half", (Fixed,), {"results": first, "searches": 0})
    better = type("Better", (Fixed,), {"results": first | both, "searches": 0})
    with registered(half=half, better=better):
        yield half, better


@pytest.fixture
def nano(home):
    """13 tiny collections, where the user's own copies belong."""
    for name in NANO:
        queries = [(f"{name}-1", "red apples"), (f"{name}-2", "sea water")]
        qrels = [(f"{name}-1", "d1", 1), (f"{name}-2", "d3", 1)]
        write_nano(home / "hf" / "zeta-alpha-ai" / name, queries=queries, qrels=qrels)
    return home / "hf" / "zeta-alpha-ai"


def table(out):
    """The rows of a printed table, {(dataset, retriever): the numbers}."""
    rows = [re.split(r"\s{2,}", line.strip()) for line in out.splitlines() if "." in line and "results" not in line]
    return {(row[0], row[1]): row[2:] for row in rows}


def test_the_suites_are_those_of_their_authors():
    assert {name: len(members) for name, members in SUITES.items()} == {"beir": 18, "beir-public": 14, "nano-beir": 13}
    assert set(SUITES["beir"]) - set(SUITES["beir-public"]) == set(LICENSED)
    assert ABOUT.keys() == SUITES.keys()


def test_means_over_the_collections_by_hand(nano, systems, cli):
    """`half` has 1 and 0 everywhere: 0.5. `better` has 1 in 7 of 13 and 0.5 in the others: (7 + 3) / 13 = 0.7692."""
    answer = cli("run", "-d", "nano-beir", "-r", "half", "-r", "better", *METRICS)
    assert answer.code == 0, answer.err
    rows = table(answer.out)
    assert len(rows) == 28
    datasets = [dataset for dataset, _ in rows]
    assert datasets == [
        *(name for name in SUITES["nano-beir"] for _ in "ab"),
        *["nano-beir: mean, 13 of 13 collections"] * 2,
    ]
    assert rows["hf:zeta-alpha-ai/NanoClimateFEVER", "better"] == ["1.0000", "1.0000"]
    assert rows["hf:zeta-alpha-ai/NanoDBPedia", "better"] == ["0.5000", "0.5000"]
    assert rows["nano-beir: mean, 13 of 13 collections", "half"] == ["0.5000", "0.5000"]
    assert rows["nano-beir: mean, 13 of 13 collections", "better"] == ["0.7692", "0.7692"]
    [path] = nano.parents[3].glob("results/nano-beir/better-*.json")
    kept = json.loads(path.read_text())
    assert kept["mean"] == pytest.approx({"NDCG@10": 10 / 13, "MRR@10": 10 / 13})
    assert (kept["counted"], kept["retriever"]) == ("13 of 13 collections", "better")
    first = kept["collections"]["hf:zeta-alpha-ai/NanoArguAna"]
    assert json.loads((path.parents[1] / first["record"] / "metrics.json").read_text())["mean"] == first["metrics"]


def test_finished_collections_are_found_again(nano, systems, cli):
    half, _ = systems
    assert cli("run", "-d", "hf:zeta-alpha-ai/NanoNQ", "-r", "half", *METRICS).code == 0
    answer = cli("run", "-d", "nano-beir", "-r", "half", *METRICS)
    assert (half.searches, answer.out.count("found "), answer.out.count("wrote ")) == (13, 1, 12 + 1)
    again = cli("run", "-d", "nano-beir", "-r", "half", *METRICS, "--json")
    mean = json.loads(again.out)[-1]
    assert (half.searches, mean["suite"], mean["of"], mean["metrics"]["NDCG@10"]) == (13, "nano-beir", 13, 0.5)


def test_what_is_missing_is_said_before_anything_is_run(nano, systems, bad):
    for name in ("NanoFEVER", "NanoNQ"):
        shutil.rmtree(nano / name)
    message = bad("run", "-d", "nano-beir", "-r", "half")
    assert "collections are missing (2 of 13 of nano-beir)" in message
    for name in ("NanoFEVER", "NanoNQ"):
        get = f"`hf download --repo-type dataset zeta-alpha-ai/{name} --local-dir {nano / name}`"
        assert f"hf:zeta-alpha-ai/{name}: {get}" in message
    assert "NanoSciFact" not in message
    assert "go on without them by --skip-missing" in message
    assert systems[0].searches == 0


def test_skip_missing_marks_the_mean(nano, systems, cli, bad):
    """Without the first collection `better` has 1 in 6 of 12 and 0.5 in the others: 0.75."""
    shutil.rmtree(nano / "NanoClimateFEVER")
    answer = cli("run", "-d", "nano-beir", "-r", "better", "--skip-missing", *METRICS)
    assert answer.code == 0
    assert table(answer.out)["nano-beir: mean, 12 of 13 collections", "better"] == ["0.7500", "0.7500"]
    assert "missing and skipped (1 of 13 of nano-beir): hf:zeta-alpha-ai/NanoClimateFEVER" in answer.err
    shutil.rmtree(nano)
    left = cli("run", "-d", "nano-beir", "-r", "better", "--skip-missing")
    assert (left.code, "missing (13 of 13 of nano-beir)" in left.err) == (2, True)
    assert "--skip-missing" not in left.err


def test_skip_missing_needs_a_suite(bad):
    assert "--skip-missing is of suites, and no dataset of this run is one" in bad(
        "run", "-d", "mini", "-r", "bm25", "--skip-missing"
    )


def test_damage_is_no_absence(nano, systems, bad):
    path = nano / "NanoNQ" / "corpus" / "train-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:-8])
    assert "is damaged Parquet" in bad("run", "-d", "nano-beir", "-r", "half", "--skip-missing")


def test_a_suite_of_ones_own_in_a_configuration(home, systems, tmp_path, cli):
    """`all` answers both queries of the first collection and one of the second: 0.75. A licensed one is missing."""
    a = write_beir(tmp_path / "a", qrels={"test": [("q1", "d1", 1), ("q2", "d3", 1)]})
    b = write_beir(tmp_path / "b", qrels={"test": [("q1", "d1", 1), ("q2", "d2", 1)]})
    every = type("All", (Fixed,), {"results": {"q1": {"d1": 1.0}, "q2": {"d3": 1.0}}})
    config = {"suites": {"mine": [str(a), str(b)], "more": [str(a), "beir/bioasq"]}, "metrics": ["NDCG@10"]}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**config, "retrievers": ["all"], "datasets": ["mine"]}))
    with registered(all=every):
        answer = cli("run", "-c", "c.yaml")
        assert table(answer.out)["mine: mean, 2 of 2 collections", "all"] == ["0.7500"]
        more = cli("run", "-c", "c.yaml", "-d", "more", "-d", "mine", "--skip-missing")
        assert table(more.out)["more: mean, 1 of 2 collections", "all"] == ["1.0000"]
        assert table(more.out)["mine: mean, 2 of 2 collections", "all"] == ["0.7500"]
        lost = cli("run", "-c", "c.yaml", "-d", "more")
    assert lost.code == 2
    assert re.search(
        r"missing \(1 of 2 of more\)\. beir/bioasq: BioASQ's terms require registration.*beir/bioasq", lost.err
    )


def test_a_composite_counts_as_one_collection(home, systems, tmp_path, cli):
    """Its 12 forums have 1, and the other collection 0.5: the mean of two is 0.75, not that of 13."""
    for forum in FORUMS:
        write_beir(home / "beir" / "cqadupstack" / forum, qrels={"test": [("q1", "d1", 1)]})
    other = write_beir(tmp_path / "other", qrels={"test": [("q1", "d1", 1), ("q2", "d3", 1)]})
    config = {"suites": {"mine": ["beir/cqadupstack", str(other)]}, "datasets": ["mine"]}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    with registered(one=type("One", (Fixed,), {"results": {"q1": {"d1": 1.0}}})):
        answer = cli("run", "-c", "c.yaml", "-r", "one", "-m", "NDCG@10")
    assert answer.code == 0, answer.err
    rows = table(answer.out)
    assert rows["beir/cqadupstack", "one"] == ["1.0000"]
    assert rows["mine: mean, 2 of 2 collections", "one"] == ["0.7500"]


@pytest.mark.parametrize(
    ("suites", "message"),
    [
        ({"a b": ["mini"]}, "the suite 'a b': a name is letters, digits, and . + - _"),
        ({"beir": ["mini"]}, "the suite 'beir': that name is taken"),
        ({"mini": ["dl19"]}, "the suite 'mini': that name is taken"),
        ({"mine": []}, "the suite 'mine' names no collection"),
        ({"mine": ["mini", "mini"]}, "the suite 'mine' names 'mini' twice"),
        ({"mine": ["mini"], "more": ["mine"]}, "the suite 'more' holds the suite 'mine'"),
        ({"mine": ["nano-beir"]}, "the suite 'mine' holds the suite 'nano-beir'"),
    ],
)
def test_suites_that_are_refused(suites, message):
    with pytest.raises(InputError, match=re.escape(message)):
        build({"retrievers": ["bm25"], "suites": suites}, "test")


def test_where_one_collection_is_wanted_a_suite_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"nano-beir is a suite of 13 collections, and one is wanted here"):
        resolve("nano-beir")
    with pytest.raises(InputError, match="beir is a suite of 18"):
        harness.run("bm25", "beir", results=tmp_path)


def test_a_comparison_over_a_suite(nano, systems, cli):
    """In 7 of 13 collections `better` gains 0.5, elsewhere nothing.

    Of the signs of 13 differences those of the 7 count; the measured mean is reached where all 7 are alike: 2 / 2^7. On
    a collection one query of two differs, and every sign gives the same: p is 1.
    """
    cli("run", "-d", "nano-beir", "-r", "half", "-r", "better", *METRICS)
    answer = cli("compare", "nano-beir/half", "nano-beir/better")
    assert answer.code == 0, answer.err
    lines = [[cell.strip() for cell in line.strip("| ").split("|")] for line in answer.out.splitlines()]
    assert lines[0] == ["collection", "queries", "half", "better", "difference", "p", "p corrected"]
    assert lines[2] == ["hf:zeta-alpha-ai/NanoClimateFEVER", "2", "0.5000", "1.0000", "+0.5000", "1.0000", "1.0000"]
    assert lines[-1] == ["mean, 13 of 13 collections", "26", "0.5000", "0.7692", "+0.2692", "0.0156", "0.0156"]
    assert len(lines) == 2 + 13 + 1
    found = json.loads(cli("compare", "nano-beir/half", "nano-beir/better", "--json").out)
    assert found["mean"]["differences"][0] == pytest.approx({"value": 3.5 / 13, "p": 2 / 2**7, "corrected": 2 / 2**7})
    rows = list(csv.DictReader(io.StringIO(cli("compare", "nano-beir/half", "nano-beir/better", "-f", "csv").out)))
    assert (len(rows), rows[-1]["collection"], float(rows[-1]["value"])) == (28, "mean", pytest.approx(10 / 13))
    worse = cli("compare", "nano-beir/better", "nano-beir/half", "--fail-if-worse")
    assert (worse.code, "below better in NDCG@10: half by 0.2692 (max-T p 0.016)" in worse.err) == (1, True)


def test_a_comparison_takes_the_collections_that_both_have(nano, systems, cli):
    cli("run", "-d", "nano-beir", "-r", "half", *METRICS)
    shutil.rmtree(nano / "NanoNQ")
    cli("run", "-d", "nano-beir", "-r", "better", "--skip-missing", *METRICS)
    answer = cli("compare", "nano-beir/half", "nano-beir/better")
    assert "mean, 12 of 13 collections" in answer.out
    assert "NanoNQ" not in answer.out
    cli("run", "-d", "nano-beir", "-r", "half", "--skip-missing", *METRICS)
    several = cli("compare", "nano-beir/half", "nano-beir/better")
    assert several.code == 2
    assert "'nano-beir/half' is 2 means of nano-beir. Name one: nano-beir/half-" in several.err
    assert "(half, 12 of 13 collections)" in several.err
    name = re.search(r"nano-beir/(half-\w+) \(half, 13 of 13", several.err)[1]
    assert cli("compare", f"nano-beir/{name}", "nano-beir/better").code == 0
    assert cli("compare", f"results/nano-beir/{name}.json", "nano-beir/better").code == 0


def test_comparisons_over_suites_that_are_refused(nano, systems, cli, tmp_path):
    cli("run", "-d", "nano-beir", "-r", "half", "-r", "better", *METRICS)

    def refused(*words):
        answer = cli("compare", *words)
        assert (answer.code, answer.err.count("error: ")) == (2, 1)
        return answer.err

    assert "nano-beir/half is of a suite, and nano-beir/nope is none of its means" in refused(
        "nano-beir/half", "nano-beir/nope"
    )
    assert "one is given twice" in refused("nano-beir/half", "nano-beir/half")
    assert "--dataset, --qrels and --correction are not of suites" in refused(
        "nano-beir/half", "nano-beir/better", "-d", "mini"
    )
    assert "has no P@5; it has NDCG@10, MRR@10" in refused("nano-beir/half", "nano-beir/better", "-m", "P@5")
    [path] = (tmp_path / "results" / "nano-beir").glob("better-*.json")
    path.write_text('{"schema": 1}')
    assert "is no mean of a suite (KeyError('collections'))" in refused("nano-beir/half", "nano-beir/better")


def test_a_mean_is_no_record(nano, systems, cli):
    cli("run", "-d", "nano-beir", "-r", "half", *METRICS)
    answer = cli("list", "runs", "--json")
    assert (answer.err, len(json.loads(answer.out))) == ("", 13)


def test_a_collection_of_the_hub_and_its_beir_folder_compare(tmp_path, cli):
    """The same collection in two layouts is one: the record of either can be compared with the other's."""
    folder = write_beir(tmp_path / "x")
    config = {"retrievers": ["bm25"], "results": tmp_path / "results"}
    values = []
    for name, k1 in ((f"hf:{folder}", 0.9), (str(folder), 1.5)):
        spec = {"name": "bm25", "options": {"k1": k1}}
        [outcome] = run(build({**config, "datasets": [name], "retrievers": [spec]}, "test"), ["test"])
        values.append(outcome.record)
    assert values[0].metrics == values[1].metrics
    assert values[0].manifest.data.source == "hf"
    answer = cli("compare", *(record.folder for record in values))
    assert answer.code == 0, answer.err
    assert "no texts of queries" not in answer.err


def test_the_record_says_the_revision(home, cli, systems):
    place = write_nano(home / "hf" / "o" / "x", queries=[("q1", "red apples")], qrels=[("q1", "d1", 1)])
    notes = place / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    (notes / "README.md.metadata").write_text(f"{'a' * 40}\n0\n1\n")
    assert cli("run", "-d", "hf:o/x", "-r", "half", "-m", "NDCG@10").code == 0
    [path] = home.parents[1].glob("results/hf-o-x/half/*/manifest.json")
    data = json.loads(path.read_text())["data"]
    assert (data["name"], data["dataset_id"], data["revision"], data["source"]) == (
        "hf:o/x", f"hf:o/x@{'a' * 40}/train", "a" * 40, "hf",
    )  # fmt: skip
