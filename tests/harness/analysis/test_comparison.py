"""`harness compare` on records as `harness run` leaves them, against scipy on the same per-query scores."""

import csv
import gzip
import hashlib
import io
import json
import shutil

import numpy as np
import pytest
from scipy import stats

from harness.datasets.loader import MINI
from harness.runs.config import build
from harness.runs.lookup import find
from harness.runs.runner import run
from tests.support.datasets import DOCS, QRELS, write_beir


def make(results, dataset, *retrievers, **values):
    config = {"retrievers": list(retrievers), "datasets": [str(dataset)], "results": results, "top_k": 100, **values}
    return [outcome.record for outcome in run(build(config, "test"), ["test"])]


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    """Word overlap, BM25 and BM25 without length normalisation on `mini`."""
    results = tmp_path_factory.mktemp("results")
    return results, make(results, "mini", "coordination", "bm25", {"name": "bm25", "options": {"b": 0.0}})


def column(record, metric="NDCG@10"):
    with (record.folder / "per_query.csv").open() as file:
        return [float(row[metric]) for row in csv.DictReader(file)]


FEW = ("--permutations", 500)


def hashes(records):
    return [record.folder.name for record in records]


def test_as_scipy_has_it(cli, mini):
    results, records = mini
    answer = cli("compare", *hashes(records), "--results", results, "--format", "json", "--permutations", 5000)
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    base = np.array(column(records[0]))
    assert found["baseline"] == "coordination (top_k=100)"
    assert found["systems"][0]["value"] == pytest.approx(records[0].metrics["NDCG@10"])
    for record, system in zip(records[1:], found["systems"][1:], strict=True):
        values = np.array(column(record))
        t = stats.ttest_rel(values, base)
        assert system["p_t"] == pytest.approx(t.pvalue, rel=1e-9)
        assert (system["low"], system["high"]) == pytest.approx(tuple(t.confidence_interval()), abs=1e-9)
        random = stats.permutation_test(
            (values, base), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples",
            vectorized=True, n_resamples=5000, rng=np.random.default_rng(1),
        )  # fmt: skip
        assert abs(system["p_random"] - random.pvalue) < 5 * (0.25 / 5000) ** 0.5  # two samples' errors
        assert system["wins"] == (values > base).sum()
        assert system["difference"] == pytest.approx(record.metrics["NDCG@10"] - records[0].metrics["NDCG@10"])
        assert system["record"] == str(record.folder)
    assert (found["flips"], found["exact"], found["seed"], found["queries"]) == (5000, False, 42, 100)


def test_judged_at_10_and_texts(cli, mini):
    """Counted again from the files themselves."""
    results, records = mini
    found = json.loads(cli("compare", *hashes(records), "--results", results, "-f", "json", "--changes", 3, *FEW).out)
    qrels = {tuple(line.split("\t")[:2]) for line in (MINI / "qrels" / "test.tsv").read_text().splitlines()[1:]}
    for record, system in zip(records, found["systems"], strict=True):
        shown = {}
        for line in gzip.decompress((record.folder / "run.trec.gz").read_bytes()).decode().splitlines():
            query, _, doc, rank, *_ = line.split()
            if int(rank) <= 10:
                shown.setdefault(query, []).append((query, doc) in qrels)
        assert system["judged_share"] == pytest.approx(np.mean([np.mean(row) for row in shown.values()]))
        assert system["unjudged"] == sum(row.count(False) for row in shown.values())
    texts = {row["_id"]: row["text"] for row in map(json.loads, (MINI / "queries.jsonl").read_text().splitlines())}
    per_query = [record.per_query() for record in records]
    for record_rows, moved in zip(per_query[1:], found["changes"].values(), strict=True):
        assert len(moved) == 3
        largest = max(abs(record_rows[q]["NDCG@10"] - per_query[0][q]["NDCG@10"]) for q in record_rows)
        assert abs(moved[0]["difference"]) == pytest.approx(largest)
        assert all(change["text"] == texts[change["query_id"]] for change in moved)


def test_the_tables(cli, mini):
    results, records = mini
    two = cli("compare", *hashes(records[:2]), "--results", results, "--changes", 1, *FEW)
    assert two.code == 0
    systems, changes = two.out.split("\n\n")
    assert systems.splitlines()[0] == (
        "| system | NDCG@10 | difference | 95 % interval | d_z | detectable | wins/ties/losses | p (t-test) "
        "| p (randomisation) | Judged@10 | unjudged |"
    )
    names = [line.split(" | ")[0] for line in systems.splitlines()[2:]]
    assert names == ["| coordination (top_k=100)", "| bm25 (flat, top_k=100)"]
    assert f"| {records[0].metrics['NDCG@10']:.4f} |" in systems
    assert len(changes.splitlines()) == 3
    assert "100 queries; baseline coordination" in two.err
    three = cli("compare", *hashes(records), "--results", results, *FEW).out
    assert "p (randomisation, max-T)" in three
    assert "p (t-test, Holm)" in three
    assert "| bm25 (flat, b=0, top_k=100) |" in three
    only = cli("compare", *hashes(records), "--results", results, "--correction", "max-t", *FEW).out
    assert "Holm" not in only
    assert "max-T" in only
    rows = list(
        csv.DictReader(io.StringIO(cli("compare", *hashes(records), "--results", results, "-f", "csv", *FEW).out))
    )
    assert [row["name"].split()[0] for row in rows] == ["coordination", "bm25", "bm25"]
    assert float(rows[1]["value"]) == pytest.approx(records[1].metrics["NDCG@10"])
    assert (rows[0]["p_t"], rows[0]["difference"]) == ("", "")


def test_a_seed_gives_the_same_output(cli, mini):
    results, records = mini
    calls = [
        cli(
            "compare", *hashes(records[1:]), "--results", results, "-f", "csv", "--permutations", 500, "--seed", seed
        ).out
        for seed in (1, 1, 2)
    ]
    assert calls[0] == calls[1] != calls[2]


def test_how_a_record_may_be_named(mini):
    results, records = mini
    first = records[0].folder
    for word in (str(first), first.name, first.name[:5], "mini/coordination", f"mini/coordination/{first.name}"):
        assert find(word, results).folder.resolve() == first, word


def test_bad_words(bad, mini, tmp_path):
    results, (one, two, three) = mini
    go = lambda *words: bad("compare", *words, "--results", results, *FEW)  # noqa: E731
    assert "needs a baseline and another run" in go(one.folder.name)
    assert "is given twice" in go(one.folder.name, one.folder)
    message = go("mini/bm25", one.folder.name)
    assert "is 2 records. Name one by its hash" in message
    assert f"{three.folder.name}, bm25 (flat, b=0, top_k=100), of 20" in message
    message = go("mini/bm26", one.folder.name)
    assert "no record 'mini/bm26'" in message
    assert str(two.folder) in message
    assert "is no record: it holds no manifest.json" in go(tmp_path, one.folder.name)
    assert "holds no record" in bad("compare", "a", "b", "--results", tmp_path / "none")
    assert "Did you mean NDCG@k" in go(one.folder.name, two.folder.name, "--metric", "ndgc@10")
    message = go(one.folder.name, two.folder.name, "--metric", "P@5")
    assert "has no P@5; it has MRR@10" in message
    assert "--metric P@5" in message
    assert "There is: csv, json, md" in go(one.folder.name, two.folder.name, "-f", "latex")
    assert "There is: all, holm, max-t, none" in go(one.folder.name, two.folder.name, "--correction", "tukey")


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ({"docs": [*DOCS[:2], ("d3", "Rivers", "water runs to a sea")]}, "corpus ("),
        ({"queries": [("q1", "red apples"), ("q2", "the sea water")]}, "queries ("),
        ({"qrels": {"test": [*QRELS[:2], ("q2", "d3", 2)]}}, "judgments ("),
    ],
)
def test_other_collections_are_named(bad, tmp_path, parts, named):
    [a] = make(tmp_path / "r", write_beir(tmp_path / "a"), "coordination")
    [b] = make(tmp_path / "r", write_beir(tmp_path / "b", **parts), "coordination")
    message = bad("compare", a.folder, b.folder)
    assert "are not of one collection. They differ in " + named in message
    assert sum(name in message for name in ("corpus (", "queries (", "judgments (")) == 1


def forge(record, to, change):
    """A copy of a record whose per-query file was changed by another program, its hash made good."""
    shutil.copytree(record.folder, to)
    path = to / "per_query.csv"
    path.write_text(change(path.read_text()))
    manifest = json.loads((to / "manifest.json").read_text())
    manifest["files"]["per_query.csv"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (to / "manifest.json").write_text(json.dumps(manifest))
    return to


def test_other_queries_than_its_pair(bad, mini, tmp_path):
    _, (one, two, _) = mini
    other = forge(two, tmp_path / "other", lambda text: text.replace("q017", "q917"))
    message = bad("compare", one.folder, other)
    assert "coordination (top_k=100) lacks 1 of the other's (q917)" in message
    assert "bm25 (flat, top_k=100) lacks 1 of the other's (q017)" in message
    broken = forge(two, tmp_path / "broken", lambda text: text.replace("q017,", "q017,x", 1))
    assert "no number for MRR@10 at every query" in bad("compare", one.folder, broken, "--metric", "MRR@10")


def test_a_newer_schema(bad, mini, tmp_path):
    _, (one, two, _) = mini
    newer = shutil.copytree(two.folder, tmp_path / "newer")
    text = (newer / "manifest.json").read_text()
    (newer / "manifest.json").write_text(text.replace('"schema_version": 2', '"schema_version": 99'))
    assert "a record of schema 99" in bad("compare", one.folder, newer)


def test_a_collection_that_is_gone_or_other_now(cli, tmp_path):
    """The scores are in the records, so they are compared; texts and judgments are not guessed."""
    folder = write_beir(tmp_path / "a")
    one, two = make(tmp_path / "r", folder, "coordination", "bm25")
    here = cli("compare", one.folder, two.folder, "-f", "json")
    assert json.loads(here.out)["systems"][0]["judged_share"] is not None
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td3\t1\n")
    other = cli("compare", one.folder, two.folder)
    shutil.rmtree(folder)
    gone = cli("compare", one.folder, two.folder)
    for answer in (other, gone):
        assert answer.code == 0
        assert "Judged" not in answer.out
        assert "warning: no texts of queries and no Judged@10, only ids" in answer.err
    assert "no longer those that the record was made with" in other.err


def test_a_composite(cli, tmp_path, monkeypatch):
    """Its query ids carry the part's name; texts and judgments are found under these."""
    from harness.datasets.rules import FORUMS

    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    for forum in FORUMS:
        write_beir(tmp_path / "home" / "datasets" / "beir" / "cqadupstack" / forum)
    docs = [("d1", "", "x"), ("d2", "", "red apples"), ("d3", "", "sea")]
    write_beir(tmp_path / "home" / "datasets" / "beir" / "cqadupstack" / "android", docs=docs)
    one = make(tmp_path / "r", "beir/cqadupstack", "coordination")[-1]
    two = make(tmp_path / "r", "beir/cqadupstack", "coordination", top_k=1, metrics=["NDCG@1"])[-1]
    assert cli("compare", one.folder, two.folder).code == 2
    two = make(tmp_path / "s", "beir/cqadupstack", {"name": "bm25", "options": {"k1": 0.0}})[-1]
    answer = cli("compare", one.folder, two.folder, "-f", "json")
    found = json.loads(answer.out)
    assert found["queries"] == 24
    assert "is the mean of 12 parts" in answer.err
    assert all(row["judged_share"] is not None for row in found["systems"])


def test_on_a_real_collection(cli, real, tmp_path):
    """43 judged DL'19 queries: BM25 is above the overlap of words, and that is significant in every test."""
    records = make(tmp_path / "r", real / "msmarco-dl19-mini", "coordination", "bm25")
    found = json.loads(cli("compare", *(r.folder for r in records), "-f", "json", "--permutations", 20000).out)
    system = found["systems"][1]
    assert system["difference"] > 0.1
    theirs = stats.ttest_rel(column(records[1]), column(records[0]))
    assert system["p_t"] == pytest.approx(theirs.pvalue, rel=1e-9)
    assert system["d_z"] == pytest.approx(theirs.statistic / 43**0.5)
    assert max(system["p_t"], system["p_random"]) < 0.01
