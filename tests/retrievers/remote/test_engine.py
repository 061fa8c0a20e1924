"""A live search engine as a retriever, from its description to a record."""

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from harness.retrievers.remote.known_ids import KnownIds
from harness.retrievers.run_files import trec
from harness.retrievers.types import Document
from tests.support.datasets import write_beir
from tests.support.engine import DOCS, QRELS, QUERIES, elastic, plain, ranking
from tests.support.service import DROP, STALL, Reply, serving

# a run's file has no rows of the third query, which finds nothing
EXPECTED = [ranking(text) for _, text in QUERIES if ranking(text)]
SECRET = "t0p-s3cret-4711"
PLAIN = {
    "method": "GET",
    "path": "/find",
    "params": {"q": "{{query}}", "n": "{{k}}"},
    "ids": "found[].doc",
    "scores": "found[].score",
}


@pytest.fixture
def service():
    with serving(lambda asked: plain(asked) if asked.path == "/find" else elastic(asked)) as made:
        yield made


@pytest.fixture
def folder(tmp_path):
    return write_beir(tmp_path / "toy", docs=DOCS, queries=QUERIES, qrels=QRELS)


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    for name in ("ELASTIC_API_KEY", "E_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(cli, service, folder, tmp_path):
    """Run the engine of the description PLAIN, changed by `values`."""

    def call(*words, **values):
        described = {key: value for key, value in (PLAIN | values).items() if value is not None}
        (tmp_path / "plain.yaml").write_text(yaml.safe_dump(described))
        return cli(
            "run", "-r", "search:./plain.yaml", "-o", f"url={service.url}", "-d", folder, "-o", "backoff=0", *words
        )

    return call


def record_of(answer):
    assert answer.code == 0, answer.err
    [where] = [line.split()[1] for line in answer.out.splitlines() if line.startswith(("wrote", "found"))]
    manifest = json.loads((Path(where) / "manifest.json").read_text())
    run = trec.read(Path(where) / "run.trec.gz")
    rows = [run.rows(number) for number in range(len(run))]
    return [
        [(one.decode(), score) for one, score in zip(ids, scores.tolist(), strict=True)] for ids, scores in rows
    ], manifest


def refusal(answer):
    """The one line of a refusal, which left no record."""
    assert answer.code == 2, answer.out
    assert not list(Path("results").glob("*/*/*"))
    [line] = [line for line in answer.err.splitlines() if "error: " in line]
    return line


def hits(*ids, **more):
    return {"found": [{"doc": one, "score": 1.0} for one in ids], **more}


def test_elasticsearch_as_it_comes(cli, service, folder):
    """The run is the engine's, and the query reaches it letter by letter."""
    answer = cli("run", "-r", "search:elasticsearch", "-o", f"url={service.url}/toy/", "-d", folder)
    rows, manifest = record_of(answer)
    assert rows == EXPECTED
    assert [asked.body["query"]["multi_match"]["query"] for asked in service.asked] == [text for _, text in QUERIES]
    assert {asked.body["size"] for asked in service.asked} == {len(DOCS)}  # top_k is clipped to the collection
    assert service.asked[0].body["query"]["multi_match"]["fields"] == ["title", "text"]
    system = manifest["system"]
    host = f"{service.url.removeprefix('http://')}/toy"
    assert (system["retriever"], system["system"], system["variant"]) == ("search:elasticsearch", "elasticsearch", host)
    assert (system["options"]["url"], system["options"]["engine"]["path"]) == (f"{service.url}/toy/_search", "/_search")
    assert re.search(rf"^toy/test  elasticsearch \({host}\)", answer.out, re.MULTILINE)
    assert "queries have no results" in answer.err  # q3
    assert "jmespath" in manifest["packages"]


def test_an_engine_of_ones_own_by_get(run, service):
    rows, _ = record_of(run())
    assert rows == EXPECTED
    assert [dict(asked.params) for asked in service.asked] == [{"q": text, "n": "6"} for _, text in QUERIES]


def test_without_scores_the_rank_decides(run):
    rows, _ = record_of(run(scores=None))
    for row, expected in zip(rows, EXPECTED, strict=True):
        assert row == [(doc_id, pytest.approx(1 / rank)) for rank, (doc_id, _) in enumerate(expected, 1)]


def test_pages_are_asked_for_until_one_is_short(run, service):
    """Of `red sea` three documents match: pages of 2 take two requests, of which the second is not full."""
    paged = {"params": PLAIN["params"] | {"skip": "{{from}}"}, "page": 2}
    rows, _ = record_of(run(**paged))
    assert rows == EXPECTED
    first = [dict(asked.params) for asked in service.asked if dict(asked.params)["q"] == "red sea"]
    assert len(ranking("red sea")) == 3
    assert [(one["skip"], one["n"]) for one in first] == [("0", "2"), ("2", "2")]
    service.asked.clear()
    rows, _ = record_of(run("-k", "1", "-m", "MRR@1", **paged))
    assert rows[0] == ranking("red sea")[:1]
    assert len(service.asked) == len(QUERIES)


def test_pages_by_the_total_where_an_engine_gives_fewer_than_asked(run, service):
    """It gives one result a request, whatever is asked for, and says how many there are."""

    def answer(asked):
        given = dict(asked.params)
        found = ranking(given["q"])
        skip = int(given.get("skip", 0))
        return hits(*(doc_id for doc_id, _ in found[skip : skip + 1]), count=len(found))

    service.answer = answer
    rows, _ = record_of(run(params=PLAIN["params"] | {"skip": "{{from}}"}, scores=None, total="count"))
    assert [[one for one, _ in row] for row in rows] == [[one for one, _ in row] for row in EXPECTED]
    again = run("--force", scores=None, total="count")
    assert "of 2 queries the engine has more results than it gave; the description can page by {{from}}" in again.err


def test_more_than_a_page_is_refused_where_it_cannot_page(run, service):
    message = refusal(run(page=5))
    assert "search:./plain.yaml gives at most 5 results, and 6 are wanted. Lower --top-k" in message
    assert service.asked == []
    assert run("-k", "5", page=5).code == 0


def test_fewer_results_and_more_than_asked(run, service):
    service.answer = lambda _asked: hits("d0", "d1", "d2", "d3")
    rows, _ = record_of(run("-k", "3", "-m", "MRR@3", scores=None))
    assert [one for one, _ in rows[0]] == ["d0", "d1", "d2"]
    rows, _ = record_of(run("-m", "MRR@3", scores=None))
    assert len(rows[0]) == 4


def test_documents_twice_are_dropped_with_a_warning(run, service):
    service.answer = lambda _asked: hits("d4", "d0", "d4", "d1", "d0")
    answer = run(scores=None)
    rows, manifest = record_of(answer)
    assert rows[0] == [("d4", 1.0), ("d0", 0.5), ("d1", 0.25)]
    said = "search:./plain.yaml: 6 results of 3 queries named a document once more; the first place counts"
    assert said in answer.err
    assert said in manifest["warnings"]


def test_an_engine_that_pages_in_vain_is_not_asked_for_ever(run, service):
    service.answer = lambda _asked: hits("d4", "d0")
    record_of(run(params=PLAIN["params"] | {"skip": "{{from}}"}, page=2))
    assert len(service.asked) == 2 * len(QUERIES)


def test_scores_that_are_not_in_order_count_with_a_warning(run, service):
    service.answer = lambda _asked: {"found": [{"doc": "d0", "score": 1}, {"doc": "d1", "score": 2.5}]}
    answer = run()
    rows, _ = record_of(answer)
    assert rows[0] == [("d1", 2.5), ("d0", 1.0)]
    assert "in 3 queries a result scores more than the one before it; the scores count" in answer.err


def test_documents_that_the_corpus_lacks_are_named(run, service):
    service.answer = lambda _asked: hits("d0", *(f"x{n}" for n in range(5)))
    message = refusal(run())
    assert "query 'q1': 5 of 6 results are no documents of toy/test: 'x0', 'x1', 'x2', …. Does " in message
    assert len(service.asked) == 1


def test_ids_that_need_a_pattern(run, service):
    service.answer = lambda _asked: hits("doc-d4", "doc-d0")
    rows, _ = record_of(run(id_pattern="^doc-(.*)$"))
    assert [one for one, _ in rows[0]] == ["d4", "d0"]
    service.answer = lambda _asked: hits("d4")
    assert "the id 'd4' is not as id_pattern says (^doc-(.*)$)" in run("--force", id_pattern="^doc-(.*)$").err


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            {"results": []},
            "'found[].doc' (ids) finds nothing in an answer that has the keys results; want a list of ids.",
        ),
        ({}, "(ids) finds nothing in an answer that is empty"),
        ([1], "(ids) finds nothing in an answer that is a list"),
        ({"found": [{"doc": "d0"}]}, "'found[].score' (scores) finds 0 scores for 1 ids. Leave `scores` out"),
        ({"found": [{"doc": "d0", "score": "2"}]}, "the score of document 'd0' is '2'; want a finite number."),
        ({"found": [{"doc": "d0", "score": float("nan")}]}, "the score of document 'd0' is nan; want a finite"),
        ({"found": [{"doc": "d0", "score": True}]}, "the score of document 'd0' is True; want a finite"),
        ({"found": [{"doc": "d0", "score": 10**400}]}, "the score of document 'd0' is 1000"),
        ({"found": [{"doc": 0.5, "score": 1}]}, "query 'q1': the document id 0.5 is no text"),
        ({"found": [{"doc": "a b", "score": 1}]}, "holds white space, which a TREC run cannot carry"),
        ({"found": [], "failed": "shard 3\nis down"}, "the engine answers with an error: shard 3 is down."),
        (Reply({"failed": "no such field"}, 400), "/find answered 400 Bad Request: no such field."),
        (Reply(b"<html>", 200, {"Content-Type": "text/html"}), "/find answered 200 OK with an HTML page."),
        (Reply({}, 401), "/find answered 401 Unauthorized. Do the description's headers say who you are?"),
        (STALL, "/find gave no answer within 0.1 s. Is it overloaded?"),
    ],
)
def test_an_answer_that_is_not_as_described_is_one_line(run, service, answer, expected):
    service.faults[:] = [answer]
    options = ("-o", "retries=0", *(("-o", "timeout=0.1") if answer == STALL else ()))
    assert expected in refusal(run(*options, error="failed"))


def test_numbers_are_ids_too(run, service, tmp_path, cli):
    docs = [("1", "", "a"), ("2", "", "b")]
    numbers = write_beir(tmp_path / "numbers", docs=docs, queries=[("q", "a")], qrels={"test": [("q", "1", 1)]})
    service.answer = lambda _asked: {"found": [{"doc": 2, "score": 2}, {"doc": 1, "score": 1}]}
    run()  # which writes the description
    rows, _ = record_of(cli("run", "-r", "search:./plain.yaml", "-o", f"url={service.url}", "-d", numbers))
    assert rows == [[("2", 2.0), ("1", 1.0)]]


def test_the_record_says_what_it_took(run, service):
    service.faults[:] = [Reply({}, 503), DROP]
    _, manifest = record_of(run())
    cost = manifest["cost"]["service"]
    assert (cost["requests"], cost["retries"]) == (5, 2)
    assert 0 < cost["latency_ms_median"] <= cost["latency_ms_p95"] <= 1_000 * cost["seconds"] < 60_000
    assert {"read ids", "search"} <= set(manifest["cost"]["seconds"])


def test_latencies_are_of_queries_and_not_of_waits(run, monkeypatch):
    """Answers of 1, 2 and 6 ms by a clock that only moves within a request; the median is 2, p95 between 2 and 6."""
    from harness.retrievers.remote.client import Answer, Client

    took = iter([0.001, 0.002, 0.006])
    monkeypatch.setattr(Client, "ask", lambda *_words: Answer(hits("d0"), next(took)))
    _, manifest = record_of(run())
    assert manifest["cost"]["service"]["latency_ms_median"] == 2
    assert manifest["cost"]["service"]["latency_ms_p95"] == pytest.approx(2 + 0.9 * 4)  # the 1.9th of ranks 0, 1, 2


def test_no_secret_is_kept_or_said(run, service, monkeypatch, tmp_path):
    monkeypatch.setenv("E_KEY", SECRET)
    headers = {"headers": {"Authorization": "ApiKey ${E_KEY}", "X-Literal": "an0ther-s3cret"}}
    service.faults[:] = [Reply({"error": f"busy {SECRET}"}, 503)]
    answers = [run("-v", **headers)]
    _, manifest = record_of(answers[0])
    assert {asked.headers["authorization"] for asked in service.asked} == {f"ApiKey {SECRET}"}
    assert manifest["system"]["options"]["engine"]["headers"] == ["Authorization", "X-Literal"]
    service.faults[:] = [Reply({"error": f"{SECRET} or an0ther-s3cret is bad"}, 400)]
    answers.append(run("-v", "--force", **headers))
    assert "answered 400 Bad Request: *** or *** is bad." in answers[1].err
    (tmp_path / "plain.yaml").unlink()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"manifest.json", "run.trec.gz"} <= {path.name for path in files}
    for path in files:
        data = path.read_bytes()
        assert b"s3cret" not in (gzip.decompress(data) if path.suffix == ".gz" else data), path
    assert all("s3cret" not in answer.out + answer.err for answer in answers)


def test_a_header_that_may_be_absent(cli, service, folder, monkeypatch):
    words = ("run", "-r", "search:elasticsearch", "-o", f"url={service.url}/toy", "-d", folder)
    service.faults[:] = [Reply({}, 401)]
    assert "/toy/_search answered 401 Unauthorized. Set ELASTIC_API_KEY." in cli(*words).err
    assert "authorization" not in service.asked[0].headers
    monkeypatch.setenv("ELASTIC_API_KEY", SECRET)
    record_of(cli(*words))
    assert service.asked[-1].headers["authorization"] == f"ApiKey {SECRET}"


def test_what_decides_another_record(run, service, cli, folder):
    """The description, the URL, the revision; the same again is found, and --force asks again."""
    assert "wrote" in run().out
    service.asked.clear()
    assert "found" in run().out
    assert service.asked == []
    for words, values in (((), {"scores": None}), (("-o", "revision=2"), {}), (("--force",), {})):
        service.asked.clear()
        assert "wrote" in run(*words, **values).out
        assert len(service.asked) == len(QUERIES)
    assert "revision=2" in run("-o", "revision=2").out
    assert len(list(Path("results").glob("*/*/*/manifest.json"))) == 3


def test_two_revisions_are_compared(run, cli, service):
    record_of(run("-o", "revision=before", "-m", "MRR@10"))
    service.answer = lambda asked: hits("d4", "d3", "d5")
    record_of(run("-o", "revision=after", "-m", "MRR@10"))
    folders = sorted(
        Path("results").glob("*/*/*"), key=lambda path: json.loads((path / "manifest.json").read_text())["created"]
    )
    answer = cli("compare", *folders, "--metric", "MRR@10")
    assert answer.code == 0, answer.err
    assert "revision=before" in answer.out
    assert "revision=after" in answer.out


def test_variables_of_the_description(cli, service, folder):
    words = ("run", "-r", "search:elasticsearch", "-o", f"url={service.url}/toy", "-d", folder)
    record_of(cli(*words, "-o", "variables={fields: [text^2], type: cross_fields}"))
    asked = service.asked[0].body["query"]["multi_match"]
    assert (asked["fields"], asked["type"]) == (["text^2"], "cross_fields")
    assert (
        "unknown variable of search:elasticsearch 'feilds'. Did you mean fields?"
        in cli(*words, "-o", "variables={feilds: [text]}").err
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-r", "search:elasticsearch"], "does not say where the engine is. Give its URL: -o url=http://localhost:9200/IN"),
        (["-r", "search:"], "search: needs an engine behind it"),
        (["-r", "search:nope"], "unknown engine 'nope'. There is: elasticsearch, opensearch, solr, vespa. Write "),
        (["-r", "search:elasticsearch", "-o", f"url=http://me:{SECRET}@h/x"], "url: the service's URL holds an @"),
        (["-r", "search:elasticsearch", "-o", f"url=http://h/x?key={SECRET}"], "goes on with ? or # behind h"),
        (["-r", "search:elasticsearch", "-o", "url=localhost:9200/x"], "'localhost:9200/x' is no URL of a service"),
        (["-r", "search:./bad.yaml"], "ids 'found[' is no JMESPath: "),
        (["-r", "search:./key.yaml"], "the header X-Key needs the environment variable E_KEY, which is not set."),
        (["-r", "search:./user.yaml"], "the service's URL holds an @"),
    ],
)  # fmt: skip
def test_what_is_refused_before_anything_is_read(bad, tmp_path, monkeypatch, words, expected):
    monkeypatch.setattr("harness.datasets.dataset.Dataset.open", lambda *_words: pytest.fail("a collection was read"))
    for name, values in (
        ("bad", {"ids": "found["}),
        ("key", {"headers": {"X-Key": "${E_KEY}"}}),
        ("user", {"url": f"http://me:{SECRET}@h/x"}),
    ):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"url": "http://h/x", **PLAIN, **values}))
    message = bad("run", *words)
    assert expected in message
    assert SECRET not in message


def test_without_jmespath_the_extra_is_named(bad, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "jmespath", None)
    said = bad("run", "-r", "search:solr", "-o", "url=http://h/x")
    assert "search:solr needs jmespath: pip install 'dupmae-harness[search]'" in said


def test_the_family_is_listed(cli):
    assert "search:NAME_OR_FILE" in cli("list", "retrievers").out
    one = " ".join(cli("list", "retrievers", "search:vespa").out.split())
    assert "Vespa, /search/ with weakAnd" in one
    assert "--option concurrency= 1" in one


def test_ids_are_known_of_any_corpus(job):
    class Corpus:
        name, count, content_hash = "c", 50, ""

        def documents(self):
            return (Document(f"d{n}", "", "") for n in np.random.default_rng(0).permutation(50))

    known = KnownIds(Corpus(), job)
    assert known.lacks([f"d{n}" for n in range(50)]) == []
    assert known.lacks(["d49", "d50", "", "d0", "D1"]) == ["d50", "", "D1"]
    assert known.lacks([]) == []
