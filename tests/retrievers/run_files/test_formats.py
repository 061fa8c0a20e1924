"""One run in every format that is read: the same results and scores; and what is wrong with a file, by its line."""

import bz2
import gzip
import json
import lzma
import os
import threading

import numpy as np
import pytest

import harness
from harness.retrievers.errors import InputError
from harness.retrievers.run_files import exchange, formats, trec
from harness.retrievers.types import Run

# scores that are ranks, which MS MARCO's format can say as well
RUN = Run.of({"q1": {"d2": -1.0, "d1": -2.0, "d3": -3.0}, "q2": {"d3": -1.0, "é": -2.0}})
QRELS = {"q1": {"d1": 2, "d2": 0}, "q2": {"é": 1}}


def lines(template, tag="t"):
    found = []
    for number, query in enumerate(RUN.query_ids):
        docs, scores = RUN.rows(number)
        for rank, (doc, score) in enumerate(zip(docs.tolist(), scores.tolist(), strict=True), 1):
            found.append(template.format(q=query, d=doc.decode(), r=rank, z=rank - 1, s=score, t=tag) + "\n")
    return found


SIX = "{q} Q0 {d} {r} {s} {t}"
HEADER = (
    "# ir_metadata.start\n# tag: mine\n# method:\n#   retrieval:\n#     - {name: bm25, b: 0.4}\n# ir_metadata.end\n"
)
TEXTS = {
    "trec": lines(SIX),
    "trec, unsorted": lines(SIX)[::-1],
    "trec, ranks from 0": lines("{q} Q0 {d} {z} {s} {t}"),
    "trec, all ranks 0": lines("{q} Q0 {d} 0 {s} {t}"),
    "trec, ranks that are none": lines("{q} Q0 {d} - {s} {t}"),
    "trec without ranks": lines("{q} Q0 {d} {s} {t}"),
    "trec without tags": lines("{q} Q0 {d} {r} {s}"),
    "trec, tabs": lines(SIX.replace(" ", "\t")),
    "trec, 0 for Q0": lines(SIX.replace("Q0", "0")),
    "trec, a header": [HEADER, *lines(SIX)],
    "trec, blank lines": ["\n", *lines(SIX), "\n"],
    "msmarco": lines("{q}\t{d}\t{r}"),
    "msmarco, ranks from 0": lines("{q}\t{d}\t{z}"),
    "msmarco, unsorted": lines("{q}\t{d}\t{r}")[::-1],
    "json": [json.dumps(exchange.to_dict(RUN))],
    "json, indented": ["\n ", json.dumps(exchange.to_dict(RUN), indent=1)],
}
PACKED = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}


def ranked(run):
    """{query: documents, best first}; what every format says."""
    return {q: [d.decode() for d in run.rows(n)[0].tolist()] for n, q in enumerate(run.query_ids)}


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("name", TEXTS)
def test_each_format_holds_the_same_run(name, packed, tmp_path):
    path = tmp_path / f"run{packed}"
    path.write_bytes(PACKED[packed]("".join(TEXTS[name]).encode()))
    found = formats.read_file(path)
    assert ranked(found.run) == ranked(RUN)
    assert found.format == {"m": "MS MARCO", "j": "JSON", "t": "TREC"}[name[0]]
    assert found.reordered == 0 or "all ranks" in name
    wanted = "" if "tags" in name or not name.startswith("trec") else "t"
    assert found.tag == wanted


@pytest.mark.parametrize("columns", [("query_id", "document_id"), ("qid", "docno"), ("q_id", "doc_id")])
def test_parquet_as_each_tool_names_its_columns(columns, tmp_path):
    frame = exchange.to_frame(RUN).rename(columns=dict(zip(("query_id", "document_id"), columns, strict=True)))
    frame.to_parquet(tmp_path / "run.parquet")
    found = formats.read_file(tmp_path / "run.parquet")
    assert (ranked(found.run), found.format) == (ranked(RUN), "Parquet")


@pytest.mark.parametrize("suffix", ["json", "parquet"])
@pytest.mark.filterwarnings("ignore:.*unsafe cast from uint64")
def test_what_ranx_writes_is_read(suffix, tmp_path):
    exchange.to_ranx(RUN).save(str(tmp_path / f"run.{suffix}"))
    assert ranked(formats.read_file(tmp_path / f"run.{suffix}").run) == ranked(RUN)


def test_all_score_alike(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "judged").write_text("".join(f"{q} 0 {d} {g}\n" for q, ds in QRELS.items() for d, g in ds.items()))
    values = set()
    for number, name in enumerate(TEXTS):
        (tmp_path / f"{number}").write_text("".join(TEXTS[name]))
        result = harness.score(f"{number}", qrels="judged", name=f"run{number}", metrics=["MRR@10", "NDCG@10", "AP"])
        values.add(tuple(result.metrics.values()))
    exchange.to_frame(RUN).to_parquet(tmp_path / "p")
    values.add(tuple(harness.score("p", qrels="judged", metrics=["MRR@10", "NDCG@10", "AP"]).metrics.values()))
    # of q1 d2 (0), d1 (2); of q2 d3 (-), é (1): all at rank 2
    [found] = values
    assert found == pytest.approx((0.5, 1 / np.log2(3), 0.5))


def test_a_header_is_kept_in_the_record(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "judged").write_text("q1 0 d1 1\n")
    (tmp_path / "run").write_text(HEADER + "".join(lines("{q} Q0 {d} {r} {s}")))
    file = harness.score("run", qrels="judged").manifest.system.file
    assert (file.format, file.tag) == ("TREC", "mine")
    assert file.metadata == {"tag": "mine", "method": {"retrieval": [{"name": "bm25", "b": 0.4}]}}
    (tmp_path / "run").write_text("# ir_metadata.start\n# {\n# ir_metadata.end\n" + "".join(TEXTS["trec"]))
    assert formats.read_file(tmp_path / "run").metadata == {}


@pytest.mark.parametrize("name", ["trec", "msmarco", "json"])
def test_a_pipe_is_read_once(name, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(gzip.compress("".join(TEXTS[name]).encode())))
    writer.start()
    assert ranked(formats.read_file(pipe).run) == ranked(RUN)
    writer.join()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q1 Q0 d1 1 2.0 t\nq1 Q0 d2 1.0 t\n", r"line 2: want six columns"),  # another shape than before
        ("q1 Q0 d1 2.0 t\nq1 Q0 d2 x t\n", r"line 2: want six columns"),
        ("q1 Q0 d1 1 2.0\nq1 Q0 d2 2 1.0 t\n", r"line 2: want six columns"),
        ("q1 0 d1 1\n", r"line 1: want six columns .*got 'q1 0 d1 1'"),  # judgments
        ("q1\td1\tone\n", r"line 1: want three columns `query document rank`, got 'q1\\td1\\tone'"),
        ("q1\td1\t1\nq1\td2\n", r"line 2: want three columns"),
        ("q1\td1\t-1\n", r"line 1: the rank -1 is not between 0 and"),
        ("q1\td1\t3600\nq1\td2\t2900\n", r"the ranks of query 'q1' begin at 2900, not at 0 or 1"),
        ("q1\td1\t1\nq1\td2\t1\n", r"query 'q1' has the rank 1 twice"),
        ("q1 Q0 d1 36 7\nq1 Q0 d2 40 7\n", r"five columns whose last is 7 on every line"),
        ("q1\td1\t1\nq1\td1\t2\n", r"document 'd1' occurs twice in the results of query 'q1'"),
        ("query-id\tcorpus-id\tscore\n", r"line 1: want three columns"),
        ('{"q": {"d": 1', r"begins as JSON and is none"),
        ("[1, 2]", r"a JSON list\. Want \{query id"),
        ('{"q": {"d": 1}, "q": {"e": 1}}', r"'q' stands there twice"),
        ('{"q": {"d": 1, "d": 2}}', r"'d' stands there twice"),
        ('{"q": {"d": "high"}}', r"run: "),
        ('{"q": 3}', r"run: "),
        ('{"q": {"d": NaN}}', r"run: "),
        ("", ""),
    ],
)
def test_bad_files(text, message, tmp_path):
    (tmp_path / "run").write_text(text)
    if not text:
        assert len(formats.read_file(tmp_path / "run").run) == 0
        return
    with pytest.raises(InputError, match=message) as caught:
        formats.read_file(tmp_path / "run")
    assert str(tmp_path / "run") in str(caught.value)


def test_bad_parquet(tmp_path):
    (tmp_path / "run").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(InputError, match="is no readable Parquet file"):
        formats.read_file(tmp_path / "run")
    exchange.to_frame(RUN)[["query_id", "score"]].to_parquet(tmp_path / "few")
    with pytest.raises(InputError, match=r"few: the DataFrame has no column document_id"):
        formats.read_file(tmp_path / "few")


def test_our_own_runs_are_read_back(tmp_path):
    trec.write(RUN, tmp_path / "run.gz", "t")
    found = formats.read_file(tmp_path / "run.gz")
    assert exchange.to_dict(found.run) == exchange.to_dict(RUN)


def test_ties_are_in_no_order_by_score(tmp_path):
    """Ranks that part equal scores otherwise than our tie rule does were "in another order by rank than by score"."""
    (tmp_path / "run").write_text("q Q0 a 1 2.0 t\nq Q0 b 2 2.0 t\nq Q0 c 3 1.0 t\n")
    assert formats.read_file(tmp_path / "run").reordered == 0
    (tmp_path / "run").write_text("q Q0 a 1 1.0 t\nq Q0 b 2 2.0 t\nr Q0 c 1 1.0 t\n")
    assert formats.read_file(tmp_path / "run").reordered == 1
