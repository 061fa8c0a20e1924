"""Kinds of reports from the trackers of other evaluation tools, replayed on small inputs, a line on each."""

import codecs
import csv
import gzip
import hashlib
import json
import lzma
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness.reports.records import records
from harness.retrievers import text_files
from harness.runs import recorded_data
from tests.support.commands import run_process

DOCS = [(f"d{n}", "", text) for n, text in enumerate(("apple pie", "pear tart", "plum", "fig"), 1)]
QUERIES = [("q1", "apple"), ("q2", "pear")]
QRELS = {"test": [("q1", "d1", 1), ("q2", "d2", 1)]}
RUN = "q1 Q0 d1 1 3 t\nq1 Q0 d3 2 2 t\nq2 Q0 d2 1 5 t\n"


def write(path, text):
    path.write_text(text)
    return path


@pytest.fixture
def score(beir, cli, tmp_path):
    """The means of a run file, by metric."""

    def call(data, **parts):
        (tmp_path / "run.trec").write_bytes(data)
        folder = beir("small", **({"docs": DOCS, "queries": QUERIES, "qrels": QRELS} | parts))
        answer = cli("score", "run.trec", "-d", folder, "-m", "mrr@10", "-m", "ndcg@10", "-m", "r@10", "--force")
        assert answer.code == 0, answer.err
        names, values = (line.split() for line in answer.out.splitlines()[:2])
        return dict(zip(names[-3:], map(float, values[-3:]), strict=True))

    return call


def test_a_byte_order_mark_before_a_run(score):
    """A file saved by a Windows editor: the first row's query became another one, MRR@10 0.5."""
    assert score(codecs.BOM_UTF8 + RUN.encode())["MRR@10"] == 1.0


def test_windows_line_ends(score):
    """The tag, and in two columns the score, kept a carriage return."""
    assert score(RUN.replace("\n", "\r\n").encode())["MRR@10"] == 1.0


def test_a_header_of_comments_before_a_run(score):
    """ir_metadata writes YAML behind # before the first row."""
    header = "# ir_metadata.start\n# tag: t\n# run made in 2023 here\n#date Fri x y 12 z\n#\n"
    assert score((header + RUN).encode())["MRR@10"] == 1.0
    assert score(RUN.replace("q1", "#q1").encode(), queries=[("#q1", "apple"), QUERIES[1]],
                 qrels={"test": [("#q1", "d1", 1), ("q2", "d2", 1)]})["MRR@10"] == 1.0  # fmt: skip


@pytest.mark.parametrize("line", ["# later", "q2 Q0 d3 2 4", "q2 Q0 d3 2 4 a tag", "q2 Q0 d3 2 1_0 t"])
def test_an_odd_line_later_on(beir, bad, tmp_path, line):
    """Cut or edited by hand: other tools pass over it in silence."""
    (tmp_path / "run.trec").write_text(f"# head\n{RUN}{line}\n")
    assert "run.trec, line 5: want six columns" in bad("score", "run.trec", "-d", beir("small", docs=DOCS))


def test_a_document_twice_behind_a_header_is_named_by_its_line(beir, bad, tmp_path):
    (tmp_path / "run.trec").write_text(f"# head\n{RUN}q1 Q0 d1 3 1 t\n")
    message = bad("score", "run.trec", "-d", beir("small", docs=DOCS, queries=QUERIES, qrels=QRELS))
    assert "line 5: document 'd1' occurs twice" in message


@pytest.mark.process
@pytest.mark.parametrize("grades", [(-2,), (-2, -2, -3), (-1000,), (-2, 0), (-1, -1)])
def test_a_query_whose_only_grades_mark_junk(beir, tmp_path, grades):
    """TREC's web tracks mark junk by -2; pytrec_eval wrote beside its arrays and the process died. It scores 0."""
    judged = [("q1", f"d{n}", grade) for n, grade in enumerate(grades, 1)]
    folder = beir("junk", docs=DOCS, queries=QUERIES, qrels={"test": [*judged, ("q2", "d2", 1)]})
    (tmp_path / "run.trec").write_text(RUN)
    answer = run_process("score", "run.trec", "-d", folder, "-m", "mrr@10", "-m", "ndcg@10", "-m", "r@10", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines()[1].split()[-3:] == ["0.5000", "0.5000", "0.5000"]


FUZZ = """
import numpy as np
from harness.metrics.measure import Levels
from harness.metrics.names import parse_metrics
from harness.metrics.scoring import score
from harness.retrievers.types import Run

draw = np.random.default_rng(7)
metrics = parse_metrics(["MRR@10", "R@100", "NDCG@10", "P@5", "MAP@100", "MRR@1000"])
edges = [-1000, -999, -3, -2, -1, 0, 1, 2, 1000]
names = ["d", "é" * 250, "x" * 512, "日本", "\\u00a0".strip() or "y", "q0", "-", "0", "#", "'", '"']
for round in range(300):
    lowest = edges[draw.integers(0, len(edges))]
    docs = [f"{names[draw.integers(0, len(names))]}{n}"[:500] for n in range(draw.integers(1, 30))]
    some = lambda: draw.choice(docs, draw.integers(0, len(docs) + 1), replace=False).tolist()
    grade = lambda: int(lowest if draw.random() < 0.6 else edges[draw.integers(0, len(edges))])
    qrels = {f"q{n}": {doc: grade() for doc in some()} or {docs[0]: lowest} for n in range(3)}
    value = lambda: float(draw.choice([0.0, -1e38, 1e38, 1e-45, 3.0]))
    run = Run.of({f"q{n}": {doc: value() for doc in some()} for n in range(4)})
    found = score(run, qrels, metrics, Levels(int(draw.integers(1, 4)), mrr=int(draw.integers(1, 4))))
    for query, values in zip(found.query_ids, zip(*found.values.values())):
        if max(qrels[query].values()) < 1:
            assert not any(values), (query, qrels[query], values)
print("sound")
"""


@pytest.mark.process
def test_whatever_the_loader_allows_the_evaluators_bear():
    """The class of the above: grades to ±1000, long and odd ids, queries without results, the greatest scores."""
    ran = subprocess.run([sys.executable, "-c", FUZZ], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, (ran.returncode, ran.stderr[-2000:])
    assert ran.stdout == "sound\n"


def test_ids_in_the_quotes_of_a_csv_writer(beir, cli, tmp_path):
    """DBpedia's `"Heroes"_(album)` came out of a csv writer; its document was "missing" and the score halved."""
    docs = [('"Heroes"_(album)', "", "heroes album bowie"), ("d2", "", "pear tart"), ('"d3"', "", "plum"), *DOCS[3:]]
    judged = [('"q""1"""', '"""Heroes""_(album)"', '"1"'), ("q2", '"d2"', 1), ("q2", '"d3"', 1), ("q2", '"gone"', 1)]
    queries = [('q"1"', "heroes album"), ("q2", "pear plum")]
    folder = beir("quoted", docs=docs, queries=queries, qrels={"test": judged})
    answer = cli("run", "-r", "bm25", "-d", folder, "-m", "ndcg@10", "-m", "r@10", "--json")
    assert answer.code == 0, answer.err
    # `"d3"` is the corpus's own id and stays; `gone` is missing with or without quotes
    assert json.loads(answer.out)[0]["metrics"]["R@10"] == pytest.approx((1 + 2 / 3) / 2)
    assert "3 ids of the judgments stand in a csv writer's quotes, such as \"q" in answer.err
    assert "1 judged documents are not in the corpus" in answer.err
    # the record's judgments are found again, though the corpus has to say which quotes are an id's own
    [folder] = tmp_path.glob("results/*/*/*")
    texts = recorded_data.topics(records.read(folder).manifest)
    assert texts.qrels == {'q"1"': {'"Heroes"_(album)': 1}, "q2": {"d2": 1, '"d3"': 1, '"gone"': 1}}


def test_two_grades_once_the_quotes_are_gone(beir, bad):
    judged = [("q1", '"d1"', 1), ("q1", "d1", 2), ("q2", "d2", 1)]
    message = bad("run", "-r", "bm25", "-d", beir("q", docs=DOCS, queries=QUERIES, qrels={"test": judged}))
    assert "document 'd1' has two grades for query 'q1', 1 and 2" in message


@pytest.mark.parametrize(("value", "plain"), [
    ('"a"', "a"), ('"a""b"', 'a"b'), ('"""a"""', '"a"'), ('"a"b"', '"a"b"'), ('"', '"'), ('""', '""'), ("a", "a"),
    ('""a"', '""a"'), ('"a', '"a'),
])  # fmt: skip
def test_what_a_csv_writer_quotes_is_what_a_csv_reader_reads(value, plain):
    assert text_files.without_quotes(value) == plain
    if plain != value:
        assert next(csv.reader([value], strict=True)) == [plain]


def test_judged_queries_without_texts(beir, cli, bad, tmp_path):
    """Topics of one year with the judgments of all: 652 of 702 scored 0, and the mean was 14 times too low."""
    judged = [("q1", "d1", 1), ("q2", "d2", 1), *((f"old{n}", "d3", 1) for n in range(18))]
    folder = beir("part", docs=DOCS, queries=QUERIES, qrels={"test": judged})
    message = bad("run", "-r", "bm25", "-d", folder)
    assert "18 of its 20 judged queries have no text" in message
    assert "To score the 2 others alone, give --queries-with-text" in message
    assert "18 of its 20" in bad("score", write(tmp_path / "run.trec", RUN), "-d", folder)
    for words in (("run", "-r", "bm25"), ("score", "run.trec")):
        answer = cli(*words, "-d", folder, "-m", "mrr@10", "--queries-with-text", "--json")
        [found] = json.loads(answer.out)
        assert found["metrics"] == {"MRR@10": 1.0}
        rules = records.read(Path(found["record"])).manifest.data.rules
        assert rules.queries_with_text is True
        assert "18 judged queries have no text; left out, as queries_with_text asks" in answer.err
        assert set(recorded_data.topics(records.read(Path(found["record"])).manifest).qrels) == {"q1", "q2"}
    fused = cli("fuse", *(found for found in tmp_path.glob("results/*/*/*")), "-m", "mrr@10")
    assert fused.code == 0, fused.err


def test_a_tenth_of_them_is_borne(beir, cli):
    queries = [*QUERIES, *((f"m{n}", "fig") for n in range(7))]
    judged = [(query, "d4", 1) for query, _ in queries]
    folder = beir("nearly", docs=DOCS, queries=queries, qrels={"test": [*judged, ("lost", "d1", 1)]})
    answer = cli("run", "-r", "bm25", "-d", folder, "-m", "r@4")
    assert answer.code == 0, answer.err
    assert "1 judged queries have no text; each scores 0" in answer.err
    assert cli("run", "-r", "bm25", "-d", folder, "--queries-with-text").code == 0


@pytest.fixture
def pipe(tmp_path):
    """A named pipe that gives some bytes once, to whoever opens it first."""
    writers = []

    def make(name, data):
        path = tmp_path / name
        os.mkfifo(path)
        writers.append(threading.Thread(target=path.write_bytes, args=(data,), daemon=True))
        writers[-1].start()
        return path

    yield make
    for writer in writers:
        writer.join(10)
        assert not writer.is_alive()  # read to its end


@pytest.mark.parametrize("end", ["", ".gz", ".xz"])
def test_a_run_from_a_pipe(beir, cli, pipe, end):
    """`harness score <(zcat run.gz)` recorded the SHA-256 of nothing, and a named pipe hung: both were read twice."""
    data = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[end](RUN.encode())
    folder = beir("small", docs=DOCS, queries=QUERIES, qrels=QRELS)
    answer = cli("score", pipe(f"run.trec{end}", data), "-d", folder, "-m", "mrr@10", "--json")
    assert answer.code == 0, answer.err
    [found] = json.loads(answer.out)
    assert found["metrics"] == {"MRR@10": 1.0}
    file = records.read(Path(found["record"])).manifest.system.file
    assert file.sha256 == hashlib.sha256(data).hexdigest()
    other = RUN.replace("d1 1 3", "d4 1 3").encode()
    fused = cli("fuse", pipe("a.trec", RUN.encode()), pipe("b.trec", other), "-d", folder, "-m", "mrr@10")
    assert fused.code == 0, fused.err


@pytest.mark.parametrize("size", [0, 1, 8191, 8192, 8193, 70_000])
def test_the_hash_is_of_all_that_the_file_holds(tmp_path, size):
    """Also of what stands behind compressed data, and of a file without a last line's end."""
    data = (b"a line of some text\n" * 4000)[:size]
    twice = gzip.compress(data) + gzip.compress(b"more")
    for name, stored in (("t", data), ("t.gz", twice), ("t.xz", lzma.compress(data))):
        (tmp_path / name).write_bytes(stored)
        digest = text_files.Digest()
        lines = [line for _, line in text_files.byte_lines(tmp_path / name, digest)]
        assert digest.hex == hashlib.sha256(stored).hexdigest()
        assert lines == [line for _, line in text_files.byte_lines(tmp_path / name)]


def test_titles_from_a_pipe_are_refused(beir, bad, pipe):
    path = pipe("titles.tsv", b"d1\ta title\n")
    assert "are no file. They are read again by every run" in bad("run", "-r", "bm25", "-d", beir(), "--titles", path)
    path.read_bytes()


def test_judgments_that_cannot_be_read(beir, bad, monkeypatch):
    """Another user's folder was reported as one without judgments."""
    folder = beir("closed")
    real = Path.iterdir

    def refused(path):
        if path.name == "qrels":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "iterdir", refused)
    message = bad("run", "-r", "bm25", "-d", folder)
    assert f"{folder}/qrels cannot be read: Permission denied. It holds the judgments." in message


def test_blank_lines_of_a_run_are_passed_over(score):
    assert score(RUN.replace("q2", "\n\nq2").encode() + b"\n  \n")["MRR@10"] == 1.0


def test_lines_are_numbered_with_the_blank_ones(beir, bad, tmp_path):
    (tmp_path / "run.trec").write_text("\n" + RUN.replace("q2", "\nq2") + "q1 Q0 d1 3 1 t\n")
    message = bad("score", "run.trec", "-d", beir("small", docs=DOCS, queries=QUERIES, qrels=QRELS))
    assert "line 6: document 'd1' occurs twice" in message


def test_a_score_beyond_float32_is_named_by_its_line(beir, bad, tmp_path):
    (tmp_path / "run.trec").write_text(RUN.replace("q1 Q0 d3 2 2", "q1 Q0 d3 2 1e39"))
    assert "line 2: the score 1e39 is not a finite number within float32" in bad(
        "score", "run.trec", "-d", beir("small")
    )


def test_quotes_do_not_thin_out_the_queries_without_text(beir, bad, cli):
    """Written both ways an id is one: 3 of 20 stay 3 of 20."""
    queries = [(f"q{n}", "fig") for n in range(17)]
    judged = [(f"q{n}", "d4", 1) for n in range(20)] + [(f'"q{n}"', "d4", 1) for n in range(17)]
    judged += [("q1", "gone", 1), ("q1", '"gone"', 1)]
    folder = beir("thin", docs=DOCS, queries=queries, qrels={"test": judged})
    assert "3 of its 20 judged queries have no text" in bad("run", "-r", "bm25", "-d", folder)
    answer = cli("run", "-r", "bm25", "-d", folder, "--queries-with-text")
    assert "1 judged documents are not in the corpus" in answer.err


def test_a_baseline_of_queries_with_text(beir, cli):
    judged = [("q1", "d1", 1), ("q2", "d2", 1), *((f"old{n}", "d3", 1) for n in range(18))]
    folder = beir("part", docs=DOCS, queries=QUERIES, qrels={"test": judged})
    words = ("--baseline", "ours.yaml")
    answer = cli("check", "--update", *words, "-r", "bm25", "-d", folder, "--queries-with-text")
    assert answer.code == 0, answer.err
    assert "queries_with_text: true" in Path("ours.yaml").read_text()
    assert cli("check", *words).code == 0
