"""A run and its judgments are enough to score it; what of the corpus is known, and what a record says of that."""

import gzip
import json
import lzma
import os

import numpy as np
import pytest

import harness
from harness.datasets.beir_folder import FolderSource
from harness.datasets.qrels_file import judgments
from harness.reports.records import comparable
from harness.retrievers.errors import InputError
from harness.retrievers.run_files import trec
from harness.retrievers.types import Run
from tests.support.datasets import write_beir

QRELS = {"q1": {"d1": 2, "d2": 0}, "q2": {"d3": 1, "d9": 1}}
RUN = Run.of({"q1": {"d2": 2.0, "d1": 1.0}, "q2": {"d3": 1.0, "d7": 0.5}, "q8": {"d1": 1.0}})
# reciprocal ranks 1/2 and 1; d9 of q2 was not found
WANTED = {"MRR@10": 0.75, "R@10": 0.75}
ASKED = ("-m", "MRR@10", "-m", "R@10")


def trec_lines(qrels, space=" "):
    return "".join(space.join((q, "0", d, str(g))) + "\n" for q, grades in qrels.items() for d, g in grades.items())


def beir_lines(qrels, head="query-id\tcorpus-id\tscore\n"):
    return head + "".join(f"{q}\t{d}\t{g}\n" for q, grades in qrels.items() for d, g in grades.items())


@pytest.fixture
def run_file(tmp_path):
    trec.write(RUN, tmp_path / "run.trec", "other")
    return tmp_path / "run.trec"


FORMS = {
    "trec": trec_lines(QRELS).encode(),
    "trec, tabs": trec_lines(QRELS, "\t").encode(),
    "trec, spaces": trec_lines(QRELS, "   ").encode(),
    "trec, windows": trec_lines(QRELS).replace("\n", "\r\n").encode(),
    "trec, byte order mark": b"\xef\xbb\xbf" + trec_lines(QRELS).encode(),
    "trec.gz": gzip.compress(trec_lines(QRELS).encode()),
    "trec.xz": lzma.compress(trec_lines(QRELS).encode()),
    "beir": beir_lines(QRELS).encode(),
    "beir without a header": beir_lines(QRELS, "").encode(),
    "beir.gz": gzip.compress(beir_lines(QRELS).encode()),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_run_and_a_file_of_judgments_are_enough(form, tmp_path, run_file, cli):
    (tmp_path / "judged").write_bytes(FORMS[form])
    answer = cli("score", run_file, "--qrels", "judged", *ASKED, "--json")
    assert answer.code == 0, answer.err
    [facts] = json.loads(answer.out)
    assert facts["metrics"] == pytest.approx(WANTED)
    assert facts["dataset"] == "judged"
    assert "judged: 1 queries of" in answer.err
    data = harness.read(facts["record"]).manifest.data
    assert (data.source, data.corpus_hash, data.queries_hash) == ("judgments", "", "")
    assert data.counts == {
        "queries": 2, "judgments": 4, "duplicate_queries": 0, "duplicate_judgments": 0, "queries_without_judgments": 0,
        "judged_queries_without_text": 0, "queries_without_results": 0,
    }  # fmt: skip
    assert data.rules.titles == "not looked at"
    assert harness.score(RUN, qrels=tmp_path / "judged", metrics=["MRR@10", "R@10"]).metrics == pytest.approx(WANTED)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q1 0 d1\n", r"line 1: the score 'd1' is not a whole number"),  # white space is not tabs
        ("q1 0 d1 1\nq1\td2\t1\n", r"line 2: 3 columns, want 4, as before"),
        ("q1 0 d1 1\nq1 d2 1\n", r"line 2: 3 columns, want 4, as before: .* Got 'q1 d2 1'"),
        ("q1\td1\t1\nq1\t0\td2\t1\n", r"line 2: 4 columns, want 3, as before"),
        ("q1\n", r"line 1: 1 column, want 3 or 4"),
        ("q1 0 d1 high 1\n", r"line 1: 5 columns"),
        ("q1 0 d1 0.5\n", r"line 1: the score '0.5' is not a whole number"),
        ("q1 0 d1 1\nq1 0 d1 2\n", r"document 'd1' has two grades for query 'q1', 1 and 2. Keep one"),
        ("query-id\tcorpus-id\tscore\n", "there are no judgments in"),
        ("", "there are no judgments in"),
        (
            "corpus-id\tquery-id\tscore\nd1\tq1\t1\n",
            r"line 1: the columns are corpus-id, query-id, score; want query-id",
        ),
        ("q7 0 d1 1\n", r"run.trec has none of the judged queries of judged: it has q1, q2, q8 …, and judged has q7"),
    ],
)
def test_bad_judgments(text, message, tmp_path, run_file, bad):
    import re

    (tmp_path / "judged").write_text(text)
    assert re.search(message, bad("score", run_file, "--qrels", "judged"))


def test_what_does_not_go_together(tmp_path, run_file, bad, beir):
    (tmp_path / "judged").write_text(trec_lines(QRELS))
    assert "the judgments " in (gone := bad("score", run_file, "--qrels", "gone"))
    assert "cannot be read: it is not there" in gone
    assert "it is a folder" in bad("score", run_file, "--qrels", ".")
    assert "--qrels and --dataset are both given" in bad("score", run_file, "--qrels", "judged", "-d", beir())
    assert "--check-documents reads a corpus" in bad("score", run_file, "--qrels", "judged", "--check-documents")
    assert "judged holds judgments alone. Name a collection" in bad("run", "-r", "bm25", "-d", "qrels:judged")


def test_a_csv_writers_quotes_are_undone_where_the_run_has_the_id_without(tmp_path, run_file, cli):
    text = trec_lines({'"q1"': {'"d1"': 2, "d2": 0}, "q2": {"d3": 1, '"d9"': 1}})
    (tmp_path / "judged").write_text(text)
    answer = cli("score", run_file, "--qrels", "judged", *ASKED, "--json")
    assert json.loads(answer.out)[0]["metrics"] == pytest.approx(WANTED)
    assert "2 ids of the judgments stand in a csv writer's quotes, such as " in answer.err


def test_the_record_names_the_file_that_was_scored(tmp_path, monkeypatch):
    """The same run from another file was found as the first file's record, and shown under its name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "judged").write_text(trec_lines(QRELS))
    for name in ("a", "b", "a"):
        trec.write(RUN, tmp_path / name, "tag")
        found = harness.score(name, qrels="judged", metrics=["MRR@10"])
        assert found.manifest.system.file.location == str(tmp_path / name)
        again = harness.score(name, qrels="judged", metrics=["MRR@10"])
        assert again.manifest.created == found.manifest.created
    for wrong in ([("q1", "d1", 1)], {"q1": {"d1": 1}}):
        with pytest.raises(InputError, match=r"qrels is .*; want the path of a file"):
            harness.score(RUN, qrels=wrong)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="it is a pipe, and judgments are read more than once"):
        harness.score(RUN, qrels="pipe")


def never(*_):
    raise AssertionError("the corpus is read")


@pytest.fixture
def unread(monkeypatch):
    monkeypatch.setattr(FolderSource, "documents", never)


def test_a_collections_judgments_do_without_its_corpus(beir, run_file, unread, cli):
    """Until something else has read it nothing is known of the documents."""
    folder = beir(qrels={"test": [(q, d, g) for q, grades in QRELS.items() for d, g in grades.items()]})
    answer = cli("score", run_file, "-d", folder, *ASKED, "--json")
    assert answer.code == 0, answer.err
    [facts] = json.loads(answer.out)
    assert facts["metrics"] == pytest.approx(WANTED)
    manifest = harness.read(facts["record"]).manifest
    assert manifest.data.queries_hash
    assert (manifest.data.corpus_hash, manifest.system.file.unknown_documents) == ("", None)
    assert "documents" not in manifest.data.counts


def test_what_an_earlier_look_found_is_known(beir, run_file, cli, monkeypatch):
    """d7 of the run is not in the corpus: a warning below a tenth, an error above."""
    docs = [(f"d{n}", "", f"text {n}") for n in range(1, 40) if n != 7]
    folder = beir(docs=docs, qrels={"test": [(q, d, g) for q, grades in QRELS.items() for d, g in grades.items()]})
    long = Run.of({"q1": {f"d{n}": float(-n) for n in range(1, 30)}, "q2": {"d3": 1.0}})
    trec.write(long, run_file, "other")
    before = harness.score(run_file, folder)
    assert before.manifest.system.file.unknown_documents is None
    harness.run("coordination", folder)
    monkeypatch.setattr(FolderSource, "documents", never)
    after = harness.score(run_file, folder)
    assert after.folder == before.folder
    assert after.manifest.system.file.unknown_documents == 1
    assert after.manifest.data.counts["documents"] == 38
    assert "1 of the 29 documents of" in " ".join(after.manifest.warnings)
    assert harness.score(run_file, folder).manifest.created == after.manifest.created
    trec.write(RUN, run_file, "few")
    with pytest.raises(InputError, match=r"1 of the 4 documents of .*run.trec are not in tiny/test \(d7\)"):
        harness.score(run_file, folder)


def test_the_corpus_is_read_when_asked(beir, run_file, tmp_path, bad):
    folder = beir()
    trec.write(Run.of({"q1": {"d1": 1.0, "zz": 0.5}}), run_file, "other")
    assert "1 of the 2 documents of" in bad("score", run_file, "-d", folder, "--check-documents")
    trec.write(Run.of({"q1": {"d1": 1.0, "d2": 0.5}, "q2": {"d3": 1.0}}), run_file, "other")
    found = harness.score(run_file, folder, check_documents=True)
    assert found.manifest.system.file.unknown_documents == 0


def test_a_record_that_knows_no_corpus_is_compared_by_queries_and_judgments(beir, run_file, tmp_path, cli):
    folder = beir()
    harness.run("coordination", folder, metrics=["MRR@10"])
    trec.write(Run.of({"q1": {"d1": 1.0, "d2": 0.5}, "q2": {"d3": 1.0}}), run_file, "other")
    (tmp_path / "tiny").rename(tmp_path / "moved")  # another path: no survey is kept of it
    alone = harness.score(run_file, tmp_path / "moved" / "test", metrics=["MRR@10"], name="alone")
    assert not comparable.knows_corpus(alone.manifest.data)
    first = harness.run("bm25", tmp_path / "moved", metrics=["MRR@10"])
    answer = cli("compare", first.folder, alone.folder, "-m", "MRR@10")
    assert answer.code == 0, answer.err
    assert "is unknown; only the queries" in answer.err + answer.out
    assert "only the queries and judgments show that the runs belong to one collection" in answer.err + answer.out
    (tmp_path / "judged").write_bytes((tmp_path / "moved" / "qrels" / "test.tsv").read_bytes())
    by_file = harness.score(run_file, qrels="judged", metrics=["MRR@10"])
    found = harness.compare(first, by_file, metric="MRR@10")
    assert "only the judgments show that the runs belong to one collection" in " ".join(found.warnings)
    other = write_beir(tmp_path / "other", qrels={"test": [("q1", "d2", 1), ("q2", "d3", 1)]})
    with pytest.raises(InputError, match="differ in judgments"):
        harness.compare(harness.run("bm25", other, metrics=["MRR@10"]), by_file, metric="MRR@10")


def test_the_corpus_of_an_ir_datasets_id_need_not_be_there(ir_home, tmp_path, monkeypatch):
    """SciFact through the genuine library: its documents cannot be had, its queries and judgments can."""
    from harness.datasets.ir_datasets_source import IrDatasetsSource

    monkeypatch.setattr(IrDatasetsSource, "documents", never)
    run = Run.of({"1": {"31715818": 2.0, "4983": 1.0}})
    found = harness.score(run, "beir/scifact", metrics=["MRR@10", "R@10"], results=tmp_path / "results")
    assert found.metrics["MRR@10"] == pytest.approx(1 / 300)
    assert found.manifest.data.counts["queries"] == 300


def test_lines_of_judgments_are_read_as_they_come(tmp_path):
    (tmp_path / "j").write_text("q 0 d 1\n\n q  0  e  -2 \n")
    assert list(judgments(tmp_path / "j")) == [("q", "d", 1), ("q", "e", -2)]


NAMES = {
    "map": "AP", "recip_rank": "RR", "P.5": "P@5", "recall.100": "R@100", "ndcg_cut.10": "nDCG@10", "Rprec": "Rprec",
    "bpref": "Bpref", "success.1": "Success@1", "set_F": "SetF", "num_ret": "NumRet",
}  # fmt: skip


@pytest.mark.parametrize("name", ["beir/scifact/test", "beir/nfcorpus/test", "cranfield"])
def test_trec_eval_says_the_same_of_real_judgments(name, ir_home, tmp_path):
    """To four decimals as it prints them, of a run with ties and from a file of judgments alone."""
    import ir_datasets
    import pytrec_eval

    rows = [(q.query_id, q.doc_id, int(q.relevance)) for q in ir_datasets.load(name).qrels_iter()]
    (tmp_path / "judged").write_text("".join(f"{q} 0 {d} {g}\n" for q, d, g in rows))
    qrels = {}
    for query, doc, grade in rows:
        qrels.setdefault(query, {})[doc] = grade
    pool, draw = sorted({doc for _, doc, _ in rows}), np.random.default_rng(5)
    found = {
        query: {doc: float(draw.integers(0, 8)) for doc in {*draw.choice(pool, 60).tolist(), *list(judged)[::2]}}
        for query, judged in qrels.items()
    }
    result = harness.score(
        Run.of(found), qrels=tmp_path / "judged", metrics=list(NAMES.values()), results=tmp_path / "r"
    )
    theirs = pytrec_eval.RelevanceEvaluator(qrels, set(NAMES)).evaluate(found)
    for asked, ours in NAMES.items():
        value = sum(values[asked.replace(".", "_")] for values in theirs.values()) / len(qrels)
        assert f"{result.metrics[ours]:.4f}" == f"{value:.4f}", asked
