"""Collections of loose files: every format gives the same collection, and what is refused is one line."""

import bz2
import gzip
import json
import lzma
from pathlib import Path

import pytest
import zstandard

import harness
from harness.datasets import loose_files, trec_text
from harness.datasets.fields import Fields
from harness.datasets.loader import resolve
from harness.reports.records import records
from harness.retrievers.errors import InputError
from harness.retrievers.places import cache
from harness.runtime.job import HarnessJob
from tests.support.datasets import write_beir

DOCS = [("d1", "Cats", "a cat sat"), ("d2", "Dogs", "a dog, sat <on> a log"), ("d3", "", "birds & bees")]
QUERIES = [("q1", "cat"), ("q2", "dog log")]
QRELS = [("q1", "d1", 1), ("q2", "d2", 2)]


def trec_docs():
    parts = []
    for doc_id, title, text in DOCS:
        escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        parts.append(f"<DOC>\n<DOCNO> {doc_id} </DOCNO>\n<TITLE>{title}</TITLE>\n<TEXT>\n{escaped}\n</TEXT>\n</DOC>\n")
    return "".join(parts)


DOCUMENTS = {
    "docs.tsv": "".join(f"{i}\t{t}\t{x}\n" for i, t, x in DOCS),
    "named.tsv": "text\tdoc_id\ttitle\n" + "".join(f"{x}\t{i}\t{t}\n" for i, t, x in DOCS),
    "docs.csv": "id,title,text\n" + "".join(f'{i},{t},"{x}"\n' for i, t, x in DOCS),
    "docs.jsonl": "".join(json.dumps({"_id": i, "title": t, "text": x}) + "\n" for i, t, x in DOCS),
    "other.json": "".join(json.dumps({"docno": i, "headline": t, "contents": x, "n": 3}) + "\n" for i, t, x in DOCS),
    "docs.trec": trec_docs(),
}
TOPICS = {
    "queries.tsv": "".join(f"{i}\t{x}\n" for i, x in QUERIES),
    "named.tsv": "qid\tquery\n" + "".join(f"{i}\t{x}\n" for i, x in QUERIES),
    "queries.csv": "".join(f"{i},{x}\n" for i, x in QUERIES),
    "queries.jsonl": "".join(json.dumps({"id": i, "query": x}) + "\n" for i, x in QUERIES),
    "topics.txt": "".join(
        f"<top>\n<num> Number: {i}\n<title> {x}\n\n<desc> Description:\nAll of it.\n\n<narr> More.\n</top>\n"
        for i, x in QUERIES
    ),
    "topics.xml": "<?xml version='1.0'?>\n<topics>"
    + "".join(f'<topic number="{i}"><query>{x}</query><question>why {x}?</question></topic>' for i, x in QUERIES)
    + "</topics>",
}
JUDGMENTS = {
    "trec.txt": "".join(f"{q} 0 {d} {g}\n" for q, d, g in QRELS),
    "trec.tsv": "".join(f"{q}\tQ0\t{d}\t{g}\n" for q, d, g in QRELS),
    "beir.tsv": "query-id\tcorpus-id\tscore\n" + "".join(f"{q}\t{d}\t{g}\n" for q, d, g in QRELS),
    "spaces.txt": "".join(f"{q} {d} {g}\n" for q, d, g in QRELS),
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The files of the formats above, in a folder for each part, and the same collection in BEIR layout."""
    monkeypatch.chdir(tmp_path)
    for part, files in (("docs", DOCUMENTS), ("queries", TOPICS), ("qrels", JUDGMENTS)):
        (tmp_path / part).mkdir()
        for name, content in files.items():
            (tmp_path / part / name).write_text(content, encoding="utf-8")
    write_beir(tmp_path / "col", DOCS, QUERIES, {"test": QRELS})
    return tmp_path


def opened(dataset_id, fields=None):
    [dataset] = resolve(dataset_id, fields=fields)
    dataset.open(HarnessJob(cache()))
    return dataset


def of(docs="docs.tsv", queries="queries.tsv", qrels="trec.txt", fields=None, **more):
    files = {"docs": f"docs/{docs}", "queries": f"queries/{queries}", "qrels": f"qrels/{qrels}"}
    return opened(loose_files.identifier(files | more), fields)


@pytest.mark.parametrize(
    "names",
    [
        *({"docs": name} for name in DOCUMENTS),
        *({"queries": name} for name in TOPICS),
        *({"qrels": name} for name in JUDGMENTS),
    ],
    ids=lambda names: "-".join(*names.items()),
)
def test_every_format_is_the_same_collection(here, names):
    found, beir = of(**names), opened("col")
    assert found.content_hash == beir.content_hash
    assert (found.queries_hash, found.qrels_hash) == (beir.queries_hash, beir.qrels_hash)


@pytest.mark.parametrize(
    ("end", "pack"),
    [
        (".gz", gzip.compress),
        (".xz", lzma.compress),
        (".bz2", bz2.compress),
        (".zst", zstandard.compress),
        ("", zstandard.compress),
    ],
)
def test_packed_files(here, end, pack):
    for part, name in (("docs", "docs.csv"), ("queries", "topics.txt"), ("qrels", "beir.tsv")):
        path = here / part / name
        (here / part / f"packed-{name}{end}").write_bytes(pack(path.read_bytes()))
    found = of(f"packed-docs.csv{end}", f"packed-topics.txt{end}", f"packed-beir.tsv{end}")
    assert found.content_hash == opened("col").content_hash
    assert found.name == "packed-docs"


def test_zstd_of_several_frames_and_cut_short(here):
    lines = DOCUMENTS["docs.tsv"].splitlines(keepends=True)
    packed = b"".join(zstandard.compress(line.encode()) for line in lines)
    (here / "docs" / "frames.tsv.zst").write_bytes(packed)
    assert of("frames.tsv.zst").content_hash == opened("col").content_hash
    for cut in (packed[:-5], packed[:-1], packed[: len(packed) // 2], b"\x28\xb5\x2f\xfd" + b"x" * 20):
        (here / "docs" / "frames.tsv.zst").write_bytes(cut)
        with pytest.raises(InputError, match="damaged zstd data"):
            of("frames.tsv.zst")


def test_the_formats_are_told_once_and_recorded(here, cli):
    words = ("--docs", "docs/named.tsv", "--queries", "queries/topics.txt", "--qrels", "qrels/trec.tsv")
    answer = cli("run", "-r", "bm25", *words, "--collection-name", "mine", "--json")
    assert answer.code == 0, answer.err
    assert answer.err.count("mine: docs: TSV; queries: TREC topics; qrels: judgments, 4 columns") == 1
    [facts] = json.loads(answer.out)
    data = records.read(Path(facts["record"])).manifest.data
    assert data.formats == {"docs": "TSV", "queries": "TREC topics", "qrels": "judgments, 4 columns"}
    assert (data.name, data.source) == ("mine", "files")
    assert facts["record"].split("/")[-3] == "mine"
    beir = harness.run("bm25", "col")
    assert {name: facts["metrics"][name] for name in beir.metrics} == dict(beir.metrics)
    assert cli("compare", facts["record"], str(beir.folder)).code == 0  # equal corpora, queries and judgments
    assert cli("dissect", "--help").code == 0


def test_in_yaml_and_python(here):
    files = {"docs": "docs/docs.tsv", "queries": "queries/queries.tsv", "qrels": "qrels/trec.txt"}
    (here / "mine.yaml").write_text(json.dumps(files | {"name": "mine"}))
    for dataset in ("mine.yaml", files | {"name": "mine"}):
        found = harness.run("bm25", dataset)
        assert found.manifest.data.name == "mine"
        assert found.metrics == harness.run("bm25", "col").metrics
    (here / "config.yaml").write_text(json.dumps({"retrievers": ["bm25"], "collection": files}))


def test_a_config_with_a_collection(here, cli):
    files = {"docs": "docs/docs.tsv", "queries": "queries/queries.tsv", "qrels": "qrels/trec.txt"}
    for settings in ({"collection": files}, {"datasets": ["col", files]}):
        (here / "c.yaml").write_text(json.dumps({"retrievers": ["bm25"]} | settings))
        answer = cli("run", "-c", "c.yaml", "--json")
        assert answer.code == 0, answer.err
        assert json.loads(answer.out)[-1]["dataset"] == "docs"


def test_a_header_is_known_by_names_that_no_judgment_uses(here):
    """A first line of names is a header, unless its id is judged: then it is a document of that name."""
    (here / "docs" / "h.tsv").write_text("id\ttext\nd1\ta cat\nd2\ta dog\n")
    assert [doc.doc_id for doc in of("h.tsv").documents()] == ["d1", "d2"]
    (here / "qrels" / "h.txt").write_text("q1 0 id 1\nq2 0 d2 1\n")
    assert [doc.doc_id for doc in of("h.tsv", qrels="h.txt").documents()] == ["id", "d1", "d2"]
    (here / "docs" / "w.tsv").write_text("words\ttext\nd1\ta cat\nd2\ta dog\n")  # none that means an id
    assert [doc.doc_id for doc in of("w.tsv").documents()] == ["words", "d1", "d2"]


def test_csv_with_lines_and_quotes_in_a_field(here):
    (here / "docs" / "q.csv").write_text('id,text\nd1,"a ""cat""\n\nsat"\nd2,"dog, log"\n')
    texts = [doc.text for doc in of("q.csv").documents()]
    assert texts == ['a "cat"\n\nsat', "dog, log"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (None, "cat"),
        ("description", "All of it."),
        ("title+desc", "cat All of it."),
        ("narrative", "More."),
    ],
)
def test_the_fields_of_a_topic(here, fields, expected):
    found = of(queries="topics.txt", fields=Fields.of(fields, None))
    assert found.queries[0].text == expected


def test_the_fields_of_a_document(here):
    rows = [{"id": i, "title": t, "abstract": x, "body": "all of " + x} for i, t, x in DOCS]
    (here / "docs" / "f.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for fields, expected in (
        (None, ("Cats", "all of a cat sat")),
        ("abstract", ("", "a cat sat")),
        ("title,abstract,body", ("Cats", "a cat sat all of a cat sat")),
        ("body,title", ("Cats", "all of a cat sat")),
    ):
        found = next(of("f.jsonl", fields=Fields.of(None, fields)).documents())
        assert (found.title, found.text) == expected


def test_fields_are_part_of_the_record(here, cli):
    write_beir(here / "two", [(i, t, x) for i, t, x in DOCS], QUERIES, {"test": QRELS})
    answer = cli("run", "-r", "bm25", "-d", "two", "--doc-fields", "title", "--json")
    assert answer.code == 0, answer.err
    [facts] = json.loads(answer.out)
    rules = records.read(Path(facts["record"])).manifest.data.rules
    assert (rules.query_field, rules.doc_fields) == ((), ("title",))
    assert "doc_fields" not in harness.run("bm25", "two").manifest.data.rules.model_dump()
    titles = harness.read(facts["record"]).to_dict()
    assert {query_id: list(found) for query_id, found in titles.items()} == {"q1": ["d1"], "q2": ["d2"]}
    assert titles != harness.run("bm25", "two").to_dict()


def test_sgml_as_nist_wrote_it(tmp_path):
    path = tmp_path / "ft"
    path.write_text(
        "<DOC>\n<DOCNO>FT911-1</DOCNO>\n<HEADLINE>\nFT  14 MAY / (CORRECTED)\n</HEADLINE>\n<TEXT>\n"
        "<P>\nA &amp; B\n</P>\n<P>\nC\n</P>\n</TEXT>\n<PUB>The FT\n</PUB>\n</DOC>\n"
        "<doc><docno>X-2</docno>\nno elements <b>here</b>\n</doc>\n"
    )
    first, second = trec_text.documents(path)
    assert first.identifier == "FT911-1"
    assert first.fields["headline"] == "FT 14 MAY / (CORRECTED)"
    assert first.fields["text"] == "A & B C"
    assert first.fields["pub"] == "The FT"
    assert (second.identifier, second.fields["text"]) == ("X-2", "no elements here")
    topic = tmp_path / "topics"
    topic.write_text(
        "<top>\n<head> Tipster Topic Description\n<num> Number:  051\n<dom> Domain:  Economics\n"
        "<title> Topic:  Airbus Subsidies\n<desc> Description:\nOf  subsidies.\n</top>\n"
    )
    [row] = trec_text.topics(topic)
    assert row.identifier == "051"
    assert (row.fields["title"], row.fields["description"]) == ("Airbus Subsidies", "Of subsidies.")


@pytest.mark.parametrize(
    ("part", "content", "message"),
    [
        ("docs", "", "docs/bad is empty; want docs"),
        ("docs", "one two three\n", "begins with 'one two three', without a tab or a comma"),
        (
            "docs",
            "[1]\n",
            r"begins with '\[1\]', and is of no known format; want TSV, CSV, JSON lines or TREC",
        ),
        ("docs", "<html>\n", "begins with '<html>', and is of no known format"),
        ("docs", "a\tb\tc\td\te\n", "line 1: 5 columns and no names of them; want id, text or id, title, text"),
        ("docs", "d1\tx\nd2\tx\ty\n", "line 2: 3 columns, want 2: id, text"),
        ("docs", 'id,text\nd1,"x\n', "line 2: not CSV"),
        ("docs", "\td1\n", "line 1: the id '' is empty"),
        ("docs", '{"text": "x"}\n', "line 1: no id; there is text. Call it _id or id"),
        ("docs", '{"_id": 1.5, "text": "x"}\n', "the id is 1.5. It must be a string or a whole number"),
        ("docs", '{"_id": "d1", "words": "x"}\n', "none of the fields text, contents, .* --doc-fields names the one"),
        ("docs", "<DOC>\n<DOCNO>d1</DOCNO>\n", "line 1: <doc> without </doc>. Is the file whole"),
        ("docs", "<DOC>\n<DOC>\n</DOC>\n", "line 2: <doc> inside the one of line 1"),
        ("docs", "<DOC>\n<TEXT>x</TEXT>\n</DOC>\n", "line 1: a document without <DOCNO>"),
        ("queries", "<top>\n<title> x\n</top>\n", "line 1: a topic without <num>"),
        ("queries", "<topics>\n<topic number='1'>\n", "is not XML"),
        ("queries", "<?xml version='1.0'?><!DOCTYPE a><topics/>\n", "declares a document type"),
        ("queries", "q1\tx\ty\n", "line 1: 3 columns and no names of them; want id, text, or a first line"),
        ("qrels", "q1 d1\n", "line 1: 2 columns, want 3 or 4"),
    ],
)
def test_what_cannot_be_read(here, part, content, message):
    (here / part / "bad").write_text(content)
    with pytest.raises(InputError, match=message):
        of(**{part: "bad"})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--docs", "docs/docs.tsv"), "a collection of files lacks queries, qrels"),
        (("--collection-name", "x"), "a collection of files lacks docs, queries, qrels"),
        (("--docs", "no", "--queries", "queries/queries.tsv", "--qrels", "qrels/trec.txt"), "no, which is not there"),
        (
            ("--docs", "docs", "--queries", "queries/queries.tsv", "--qrels", "qrels/trec.txt"),
            "docs, which is a folder",
        ),
        (("-d", "col", "--query-field", "nope"), "no field 'nope'; there is text"),
        (("-d", "col", "--query-field", "a++b"), "--query-field is 'a++b'; want names of fields with '+' between"),
        (("-d", "col", "--doc-fields", "text,text"), "--doc-fields is 'text,text'; want names of fields"),
        (("-d", "bad.yaml"), "bad.yaml: a collection of files has doc, which is unknown"),
        (("-d", "list.yaml"), "list.yaml holds a list; want keys and values"),
    ],
)
def test_bad_input(here, bad, words, message):
    (here / "bad.yaml").write_text("docs: docs/docs.tsv\nqueries: queries/queries.tsv\nqrels: q\ndoc: x\n")
    (here / "list.yaml").write_text("- docs\n")
    assert message in bad("run", "-r", "bm25", *words)


@pytest.mark.parametrize("kind", ["tsv", "csv", "parquet", "jsonl.zst"])
def test_a_beir_folder_of_another_kind(here, kind):
    import pandas

    folder = here / "kinds"
    write_beir(folder, DOCS, QUERIES, {"test": QRELS})
    frames = {
        "corpus": pandas.DataFrame(DOCS, columns=["_id", "title", "text"]),
        "queries": pandas.DataFrame(QUERIES, columns=["_id", "text"]),
    }
    for name, frame in frames.items():
        plain = (folder / f"{name}.jsonl").read_bytes()
        (folder / f"{name}.jsonl").unlink()
        path = folder / f"{name}.{kind}"
        if kind == "parquet":
            frame.to_parquet(path)
        elif kind == "jsonl.zst":
            path.write_bytes(zstandard.compress(plain))
        else:
            frame.to_csv(path, sep="\t" if kind == "tsv" else ",", index=False)
    assert opened("kinds").content_hash == opened("col").content_hash
    assert opened("kinds").queries_hash == opened("col").queries_hash


def test_a_damaged_parquet_file(here):
    write_beir(here / "p", DOCS, QUERIES, {"test": QRELS})
    (here / "p" / "corpus.jsonl").unlink()
    (here / "p" / "corpus.parquet").write_bytes(b"PAR1nothingPAR1")
    with pytest.raises(InputError, match=r"corpus.parquet is damaged Parquet"):
        opened("p")
