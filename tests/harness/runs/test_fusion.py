"""Fusion against the formulas written out and against ranx, its records, and runs of other tools under our rules."""

import gzip
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import harness
from harness.retrievers.errors import InputError
from harness.retrievers.run_files import exchange, fusion, trec
from harness.retrievers.types import Run
from tests.support.datasets import DOCS, QRELS, write_beir

A = Run.of({"q1": {"d1": 3.0, "d2": 2.0, "d3": 2.0}, "q2": {"d1": 5.0}, "q3": {}})
B = Run.of({"q1": {"d2": 0.4, "d4": 0.1}, "q2": {}, "q3": {}})


def rrf(runs, k=60):
    """Cormack et al. 2009: the sum of 1 / (k + rank), written out."""
    found = {}
    for run in runs:
        for number, query_id in enumerate(run.query_ids):
            scores = found.setdefault(query_id, {})
            for rank, doc in enumerate(run.rows(number)[0].tolist(), 1):
                scores[doc.decode()] = scores.get(doc.decode(), 0.0) + 1 / (k + rank)
    return Run.of(found)


def weighted(runs, weights, norm=True):
    found = {}
    for run, weight in zip(runs, weights, strict=True):
        for number, query_id in enumerate(run.query_ids):
            docs, values = run.rows(number)
            values = values.astype(float)
            if norm and len(values):
                spread = values.max() - values.min()
                values = (values - values.min()) / spread if spread > 1e-9 else np.ones(len(values))
            scores = found.setdefault(query_id, {})
            for doc, value in zip(docs.tolist(), values.tolist(), strict=True):
                scores[doc.decode()] = scores.get(doc.decode(), 0.0) + weight * value
    return Run.of(found)


def random_runs(count=3, queries=12, seed=0):
    """With many ties, and queries that some runs do not answer."""
    draw = np.random.default_rng(seed)
    return [
        Run.of(
            {
                f"q{q}": {
                    f"d{d}": float(draw.integers(0, 6)) for d in draw.choice(30, draw.integers(0, 20), replace=False)
                }
                for q in range(queries)
            }
        )
        for _ in range(count)
    ]


def same(found, expected):
    assert found.query_ids == expected.query_ids
    assert found.offsets.tolist() == expected.offsets.tolist()
    assert found.doc_ids.tolist() == expected.doc_ids.tolist()
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-6)


def test_rrf_by_hand():
    """d2 is second by the tie rule (d3 > d2: third) in A and first in B: 1/63 + 1/61."""
    found = exchange.to_dict(fusion.fuse([A, B]))
    assert list(found["q1"]) == ["d2", "d1", "d4", "d3"]
    assert found["q1"]["d2"] == pytest.approx(1 / 63 + 1 / 61, rel=1e-6)
    assert found["q1"]["d1"] == pytest.approx(1 / 61, rel=1e-6)
    assert found["q2"] == {"d1": pytest.approx(1 / 61, rel=1e-6)}
    assert found["q3"] == {}


def test_weighted_by_hand():
    """A's scores become 1, 0, 0 and B's 1, 0; a single result becomes 1."""
    found = exchange.to_dict(fusion.fuse([A, B], "weighted", weights=[0.5, 2]))
    assert found["q1"] == pytest.approx({"d2": 2.0, "d1": 0.5, "d4": 0.0, "d3": 0.0})
    assert list(found["q1"]) == ["d2", "d1", "d4", "d3"]
    assert found["q2"] == {"d1": 0.5}
    plain = exchange.to_dict(fusion.fuse([A, B], "weighted", weights=[1, 10], norm="none"))
    assert plain["q1"] == pytest.approx({"d2": 6.0, "d1": 3.0, "d3": 2.0, "d4": 1.0})


@pytest.mark.parametrize(
    ("norm", "absent", "expected"),
    [
        # of A d1 3, d2 2, d3 2 and of B d2 0.4, d4 0.1, weights 1 and 10; what is absent is 0 but under z-score
        ("min-max", None, {"d1": 1, "d2": 0 + 10, "d3": 0, "d4": 0}),
        ("min-max", "least", {"d1": 1, "d2": 10, "d3": 0, "d4": 0}),
        ("rank", None, {"d1": 1, "d3": 2 / 3, "d2": 1 / 3 + 10, "d4": 5}),
        ("rank", "least", {"d1": 1 + 5, "d3": 2 / 3 + 5, "d2": 1 / 3 + 10, "d4": 1 / 3 + 5}),
        ("sum", None, {"d1": 1, "d2": 10, "d3": 0, "d4": 0}),
        ("none", None, {"d1": 3, "d2": 2 + 4, "d3": 2, "d4": 1}),
        ("none", "least", {"d1": 3 + 1, "d2": 2 + 4, "d3": 2 + 1, "d4": 2 + 1}),
        # A's mean is 7/3, its deviation √2/3: √2, -1/√2, -1/√2; B's are 1 and -1
        ("z-score", "zero", {"d1": 2**0.5, "d2": -(0.5**0.5) + 10, "d3": -(0.5**0.5), "d4": -10}),
        ("z-score", None, {"d1": 2**0.5 - 10, "d2": -(0.5**0.5) + 10, "d3": -(0.5**0.5) - 10, "d4": -(0.5**0.5) - 10}),
    ],
)
def test_norms_by_hand(norm, absent, expected):
    """A's tie d3 > d2 makes d3 second by rank."""
    found = exchange.to_dict(fusion.fuse([A, B], "weighted", weights=[1, 10], norm=norm, absent=absent))
    assert found["q1"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("norm", ["min-max", "z-score", "sum", "rank"])
@pytest.mark.parametrize("scores", [{"x": 7.0}, {"x": 7.0, "y": 7.0}])
def test_one_result_alone_counts_more_than_none(norm, scores):
    """A run that found one document, or gives all one score: under min-max each was 0, as what it did not find."""
    alone, other = Run.of({"q": scores}), Run.of({"q": {"z": 2.0, "a": 1.0, "x": 0.5}})
    found = exchange.to_dict(fusion.fuse([alone, other], "weighted", weights=[1, 0.001], norm=norm, absent="zero"))
    if norm != "z-score":  # whose 0 is the mean
        assert min(found["q"][doc] for doc in scores) > max(found["q"][doc] for doc in ("z", "a"))
    assert all(np.isfinite(value) for value in found["q"].values())
    wanted = {"min-max": 1, "sum": 1 / len(scores), "rank": 1, "z-score": 0}[norm]
    assert max(found["q"][doc] for doc in scores) == pytest.approx(wanted, abs=0.01)


def test_a_run_without_results_of_a_query_adds_nothing():
    empty = Run.of({"q": {}, "r": {"a": 1.0}})
    full = Run.of({"q": {"a": 3.0, "b": 2.0}, "r": {"b": 5.0, "c": 1.0}})
    for norm in fusion.NORMS:
        for absent in fusion.ABSENT:
            one = fusion.fuse([full, empty], "weighted", norm=norm, absent=absent)
            two = fusion.fuse([empty, full], "weighted", norm=norm, absent=absent)
            alone = exchange.to_dict(fusion.fuse([full, full], "weighted", weights=[1, 0], norm=norm, absent=absent))
            assert exchange.to_dict(one)["q"] == pytest.approx(alone["q"])
            assert exchange.to_dict(one) == exchange.to_dict(two)


def test_the_sums_are_those_of_the_formulas(monkeypatch):
    """Ties within the runs and in the sums; blocks of queries change nothing."""
    runs = random_runs()
    monkeypatch.setattr(fusion, "_QUERIES_AT_ONCE", 5)
    same(fusion.fuse(runs), rrf(runs))
    same(fusion.fuse(runs, k=3), rrf(runs, 3))
    weights = [1.0, 0.25, 2.0]
    same(fusion.fuse(runs, "weighted", weights=weights), weighted(runs, weights))
    same(fusion.fuse(runs, "weighted", weights=weights, norm="none"), weighted(runs, weights, norm=False))
    same(fusion.fuse(runs, top_k=4), rrf(runs).first(4))
    same(fusion.fuse(runs[::-1]), rrf(runs))


RANX = """
import json, sys
import ranx

ranks, scores = ([ranx.Run(run) for run in given] for given in json.load(sys.stdin))
fused = [ranx.fuse(ranks, norm=None, method="rrf", params={"k": k}) for k in (60, 0)]
for norm in (None, "min-max", "zmuv", "sum", "rank"):
    fused.append(ranx.fuse(scores, norm=norm, method="wsum", params={"weights": [0.1, 0.7, 3.3]}))
json.dump([{query: dict(rows) for query, rows in one.run.items()} for one in fused], sys.stdout)
"""


@pytest.mark.process
def test_ranx_gives_the_same_to_the_last_bit():
    """In a process without numba's compiler, where the same functions of ranx run as Python at once."""
    draw = np.random.default_rng(1)
    names = [f"d{n}" * (1 + n % 3) for n in range(60)]
    wanted = [{f"q{q}": draw.permutation(names)[:n].tolist() for q, n in enumerate(draw.integers(2, 40, 300))}
              for _ in range(3)]  # fmt: skip
    runs = [Run.of({q: {d: abs(draw.normal(5, 9)) for d in docs} for q, docs in one.items()}) for one in wanted]
    scores = [exchange.to_dict(run) for run in runs]
    ranks = [{q: {d: -float(rank) for rank, d in enumerate(rows)} for q, rows in run.items()} for run in scores]
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RANX],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        input=json.dumps([ranks, scores]),
        capture_output=True,
        text=True,
        check=True,
    )
    ours = [
        fusion.fuse(runs), fusion.fuse(runs, k=0),
        *(
            fusion.fuse(runs, "weighted", weights=[0.1, 0.7, 3.3], norm=norm, absent="zero")
            for norm in ("none", "min-max", "z-score", "sum", "rank")
        ),
    ]  # fmt: skip
    for number, (one, theirs) in enumerate(zip(ours, json.loads(ran.stdout), strict=True)):
        expected = Run.of({query: theirs[query] for query in one.query_ids})
        assert one.offsets.tolist() == expected.offsets.tolist()
        if number in (4, 5):  # sums in another order
            wanted, found = exchange.to_dict(expected), exchange.to_dict(one)
            assert all(found[query] == pytest.approx(wanted[query], rel=1e-5, abs=1e-6) for query in wanted)
            continue
        assert one.doc_ids.tolist() == expected.doc_ids.tolist()
        assert one.scores.tolist() == expected.scores.tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"runs": [A]}, "1 run given; a fusion is of two or more"),
        ({"weights": [1.0]}, "1 weights for 2 runs"),
        ({"weights": [1.0, -1.0]}, "from 0 up, not all of them 0"),
        ({"weights": [0.0, 0.0]}, "from 0 up, not all of them 0"),
        ({"weights": [float("nan"), 1.0]}, "from 0 up, not all of them 0"),
        ({"k": -1}, "k is -1"),
        ({"k": 10**20}, "want a whole number from 0 to 1,000,000"),
        ({"runs": [A, Run.of({"q1": {"d": -1.0}})], "method": "weighted", "norm": "none"}, "run 2 has scores below 0"),
    ],
)
def test_fusions_that_make_no_sense(arguments, message):
    with pytest.raises(InputError, match=message):
        fusion.fuse(**{"runs": [A, B], **arguments})


# --- runs of other tools


def write(path, *lines):
    data = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


GOOD = ("q1 Q0 d2 1 2.5 theirs", "q1 Q0 d1 2 1.5 theirs", "q2 Q0 d3 1 7 theirs")


def test_a_run_of_another_tool_is_scored_by_our_rules(beir, tmp_path, cli):
    """q1: d2 (grade 1) before d1 (grade 2), q2 right: MRR 1, NDCG of q1 (1 + 2/log2(3)) / (2 + 1/log2(3))."""
    beir()
    answer = cli("score", write(tmp_path / "run.txt.gz", *GOOD), "-d", "./tiny", "-m", "mrr@10", "-m", "ndcg@10")
    assert answer.code == 0, answer.err
    ndcg = (1 + (1 + 2 / np.log2(3)) / (2 + 1 / np.log2(3))) / 2
    assert answer.out.splitlines()[1].split() == [
        "tiny/test", "theirs", "(from", "run.txt.gz)", "1.0000", f"{ndcg:.4f}"
    ]  # fmt: skip
    [folder] = (tmp_path / "results").glob("tiny-test/theirs/*")
    result = harness.read(folder)
    system = result.manifest.system
    assert (system.system, system.paper_rows, system.file.tag, system.file.deepest) == (
        "theirs, as given",
        (),
        "theirs",
        2,
    )
    assert system.file.sha256 == harness.api.records.sha256(tmp_path / "run.txt.gz")
    assert (
        cli("score", tmp_path / "run.txt.gz", "-d", "./tiny", "-m", "mrr@10").out.splitlines()[-1].startswith("found ")
    )
    # a second name and another file of the same run are other records
    assert cli("score", tmp_path / "run.txt.gz", "-d", "./tiny", "-n", "mine").out.splitlines()[-1].startswith("wrote ")


def test_our_own_run_written_out_and_scored_again_has_the_same_scores(beir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = str(beir())
    ours = harness.run("bm25", folder)
    again = harness.score(ours.to_trec("out/run.trec"), folder, name="again")
    assert again.metrics == ours.metrics
    assert again.per_query().equals(ours.per_query())
    assert again.folder != ours.folder


def test_what_is_tolerated_is_said(beir, tmp_path, cli):
    folder = beir()
    lines = (*GOOD, "q9 Q0 d1 1 1 theirs", "q1 Q0 d3 3 9.5 theirs")  # d3 is third by rank and first by score
    answer = cli("score", write(tmp_path / "run.txt", *lines), "-d", folder, "-k", "2")
    assert answer.code == 0, answer.err
    for message in (
        "1 queries of .*run.txt have no judgments",
        "1 queries are in another order by rank than by score; scores count",
        "up to 3 documents of a query; the first 2 count",
    ):
        assert re.search(message, answer.err), answer.err
    [record] = (tmp_path / "results").glob("*/*/*")
    assert ids(trec.read(record / "run.trec.gz")) == ["d3", "d2"]


def ids(run):
    return [doc.decode() for doc in run.rows(0)[0]]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "holds no results"),
        ((GOOD[0], "q1 Q0 d1 2 1.5"), "line 2: want six columns .*got 'q1 Q0 d1 2 1.5'"),
        ((GOOD[0], "q1 Q0 d1 2 high theirs"), "line 2: want six columns"),
        ((*GOOD, "q1 Q0 d3 3 nan theirs"), "line 4: the score nan is not a finite number"),
        ((*GOOD, "q1 Q0 d1 3 0.5 theirs"), "line 4: document 'd1' occurs twice in the results of query 'q1'"),
        (("x1 Q0 d1 1 1 theirs",), "none of the judged queries of tiny/test: it has x1 .* has q1, q2"),
        ((*GOOD, "q1 Q0 d8 3 0.5 theirs"), r"1 of the 4 documents of .* are not in tiny/test \(d8\)"),
    ],
)
def test_bad_runs(beir, tmp_path, bad, lines, message):
    assert re.search(message, bad("score", write(tmp_path / "run.txt", *lines), "-d", beir(), "--check-documents"))


def test_bad_files(beir, tmp_path, bad):
    folder = beir()
    assert "cannot be read: No such file" in bad("score", "gone.txt", "-d", folder)
    (tmp_path / "run.gz").write_bytes(gzip.compress(b"q1 Q0 d2 1 2.5 theirs\n" * 99)[:-9])
    assert "damaged gzip data" in bad("score", "run.gz", "-d", folder)
    (tmp_path / "run.txt").write_bytes(b"q1 Q0 d\xff 1 2.5 theirs\n")
    assert "line 1: an id is not UTF-8" in bad("score", "run.txt", "-d", folder)
    write(tmp_path / "run.txt", *GOOD)
    assert "raise top_k" in bad("score", "run.txt", "-d", folder, "-k", "5", "-m", "r@10")
    assert "is 12 collections" in bad("score", "run.txt", "-d", "beir/cqadupstack")
    assert "--name is empty" in bad("score", "run.txt", "-d", folder, "-n", " ")


# --- records of fusions


@pytest.fixture
def two(beir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = str(beir())
    return harness.run("bm25", folder), harness.score(write(tmp_path / "theirs.trec", *GOOD), folder), folder


def test_a_fusion_is_a_record_that_names_its_parts(two, tmp_path, cli):
    ours, theirs, _ = two
    answer = cli("fuse", ours.folder, theirs.folder.name, "-m", "mrr@10", "-m", "ndcg@10")
    assert answer.code == 0, answer.err
    assert "fusion (rrf k = 60 of bm25 + theirs)" in answer.out
    [folder] = (tmp_path / "results").glob("tiny-test/fusion/*")
    found = harness.read(folder)
    expected = rrf([exchange.aligned(part.run, ["q1", "q2"]) for part in (ours, theirs)])
    same(found.run, expected)
    first, second = found.manifest.system.fused
    assert (first.name, first.record, first.run_hash) == (
        "bm25 (flat)", ours.folder.name, ours.manifest.files["run.trec.gz"]
    )  # fmt: skip
    assert (second.name, second.weight) == ("theirs (from theirs.trec)", None)
    assert found.manifest.system.paper_rows == ()
    assert found.manifest.config["datasets"] == ["tiny/test"]
    assert cli("fuse", ours.folder, theirs.folder, "-m", "mrr@10").out.splitlines()[-1].startswith("found ")


def test_files_and_weights(two, tmp_path):
    ours, theirs, folder = two
    path = ours.to_trec("ours.trec.gz")
    mixed = harness.fuse(ours, "theirs.trec", method="weighted", weights=[0.3, 0.7])
    files = harness.fuse(path, "theirs.trec", method="weighted", weights=[0.3, 0.7], dataset=folder)
    memory = harness.fuse(ours.to_frame(), theirs.to_dict(), method="weighted", weights=[0.3, 0.7], dataset=folder)
    assert mixed.folder == files.folder == memory.folder  # the same runs, whatever carried them
    same(mixed.run, weighted([exchange.aligned(part.run, ["q1", "q2"]) for part in (ours, theirs)], [0.3, 0.7]))
    assert [part.weight for part in mixed.manifest.system.fused] == [0.3, 0.7]
    assert mixed.manifest.system.fused[1].record is None


def test_bad_fusions(two, tmp_path, cli, beir):
    ours, theirs, _ = two

    def said(*words):
        answer = cli("fuse", *words)
        assert (answer.code, answer.err.count("error: ")) == (2, 1), answer
        return answer.err

    other = harness.run("bm25", str(beir("other", docs=[*DOCS, ("d4", "", "more")])))
    judged = harness.run("bm25", str(beir("judged", qrels={"test": QRELS[:2]})))
    assert "they differ in corpus (" in said(ours.folder, other.folder)
    assert re.search(r"differ in queries \(.*\), judgments", said(ours.folder, judged.folder))
    assert "is the same run as" in said(ours.folder, ours.folder)
    assert "1 run given" in said(ours.folder)
    assert "0 runs given" in said()
    assert "unknown method 'rff'. Did you mean rrf?" in said(ours.folder, theirs.folder, "--method", "rff")
    assert "weights: the method rrf has no such option" in said(ours.folder, theirs.folder, "--weights", "1,1")
    assert "k: the method weighted" in said(ours.folder, theirs.folder, "--method", "weighted", "--rrf-k", "1")
    assert "want numbers with commas" in said(ours.folder, theirs.folder, "--method", "weighted", "--weights", "1;1")
    assert "no record 'nobody'" in said(ours.folder, "nobody")
    ours.to_trec("ours.trec")
    assert "Name it with --dataset" in said("ours.trec", "theirs.trec")
    manifest = json.loads((ours.folder / "manifest.json").read_text())
    mean = tmp_path / "mean"
    mean.mkdir()
    for file in ours.folder.iterdir():
        (mean / file.name).write_bytes(file.read_bytes())
    (mean / "manifest.json").write_text(json.dumps(manifest | {"parts": ["a", "b"]}))
    assert "is the mean of 2 collections" in said(ours.folder, mean)
    write_beir(tmp_path / "tiny", docs=DOCS[::-1])
    assert "corpus differ" in said(ours.folder, theirs.folder)
