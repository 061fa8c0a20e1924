"""An embedding endpoint as a retriever, from its URL to a record."""

import gzip
import json
from pathlib import Path

import pytest

from harness.retrievers import registry
from harness.retrievers.errors import InputError
from harness.retrievers.run_files import trec
from tests.support.datasets import write_beir
from tests.support.embedding import LETTERS, answer, embedding, texts
from tests.support.service import DROP, STALL, Reply, serving

DOCS = [
    (f"d{n}", "tea" if n % 2 else "", text) for n, text in enumerate("rest|is a star|tests|air|sea|tree".split("|"))
]
QUERIES = [("q1", "a test"), ("q2", "stair")]
QRELS = {"test": [("q1", "d2", 1), ("q2", "d1", 2)]}
SECRET = "sk-very-s3cret-4711"


@pytest.fixture
def service():
    with serving(answer) as made:
        yield made


@pytest.fixture
def folder(tmp_path):
    return write_beir(tmp_path / "toy", docs=DOCS, queries=QUERIES, qrels=QRELS)


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HARNESS_API_KEY", raising=False)


@pytest.fixture
def run(cli, service, folder):
    def call(*words, model="letters"):
        return cli("run", "-r", f"{service.url}/v1#{model}", "-d", folder, "-o", "backoff=0", *words)

    return call


def record_of(answer):
    assert answer.code == 0, answer.err
    [where] = [line.split()[1] for line in answer.out.splitlines() if line.startswith(("wrote", "found"))]
    return Path(where), json.loads((Path(where) / "manifest.json").read_text())


def by_hand(query, cosine):
    """{document id: score}, by the definition."""
    found = {}
    for doc_id, title, text in DOCS:
        one, other = embedding(query), embedding(f"{title} {text}".strip())
        dot = sum(a * b for a, b in zip(one, other, strict=True))
        norms = sum(a * a for a in one) * sum(b * b for b in other)
        found[doc_id] = dot / norms**0.5 if cosine else dot
    return found


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_the_ranking_is_that_of_the_inner_products(run, similarity):
    where, _ = record_of(run("-o", f"similarity={similarity}", "-o", "batch_size=2"))
    found = trec.read(where / "run.trec.gz")
    for number, (_, query) in enumerate(QUERIES):
        ids, scores = found.rows(number)
        expected = by_hand(query, similarity == "cosine")
        got = dict(zip([one.decode() for one in ids], scores.tolist(), strict=True))
        assert got == pytest.approx(expected, abs=1e-3)  # cosines are kept in 16 bits
        assert sorted(got.values(), reverse=True) == scores.tolist()
        if similarity == "dot":  # whole numbers are exact, so ties are too: the greater id first
            assert list(got) == sorted(expected, key=lambda d: (expected[d], d), reverse=True)


def test_no_passage_is_asked_for_twice(run, service):
    record_of(run("-o", "batch_size=4"))
    first = texts(service)
    assert sorted(text for some in first for text in some) == sorted(
        [*(f"{title} {text}".strip() for _, title, text in DOCS), *(text for _, text in QUERIES)]
    )
    service.asked.clear()
    assert "found " in run("-o", "batch_size=4").out
    assert service.asked == []  # the record is there
    record_of(run("-o", "batch_size=4", "--force"))
    record_of(run("-o", "query_prefix=stars: ", "-o", "batch_size=1", "-o", "concurrency=1"))
    assert texts(service) == [["a test", "stair"], ["stars: a test"], ["stars: stair"]]


@pytest.mark.parametrize(
    "changed",
    [
        ["passage_prefix=p: "],
        ["similarity=dot"],
        ["dimensions=3"],
        ["titles=none"],
        ["max_characters=3"],
        ["revision=2"],
    ],
    ids=str,
)
def test_what_changes_vectors_is_asked_anew(run, service, changed):
    record_of(run())
    service.asked.clear()
    record_of(run("-o", *changed))
    assert sum(map(len, texts(service))) == len(DOCS) + len(QUERIES)


def test_another_model_or_url_is_another_store(run, service, cli, folder):
    assert record_of(run())[0].parts[-3:-1] == ("toy-test", "letters")
    where, manifest = record_of(run(model="org/others"))
    assert where.parts[-3:-1] == ("toy-test", "others")
    assert manifest["system"]["retriever"] == f"{service.url}/v1#org/others"
    with serving(answer) as other:
        record_of(cli("run", "-r", f"{other.url}/v1#letters", "-d", folder))
        assert sum(map(len, texts(other))) == len(DOCS) + len(QUERIES)
    assert sum(map(len, texts(service))) == 2 * (len(DOCS) + len(QUERIES))


def test_the_record_says_what_was_asked(run, service):
    service.faults[:] = [Reply({}, 500), DROP]
    answered = run("-o", "batch_size=2", "-o", "concurrency=1", "-o", "dimensions=4")
    _, manifest = record_of(answered)
    system, cost = manifest["system"], manifest["cost"]
    host = f"{service.url.removeprefix('http://')}/v1"
    assert (system["system"], system["variant"], system["checkpoint"]) == ("letters", host, None)
    assert (system["options"]["url"], system["options"]["model"]) == (f"{service.url}/v1", "letters")
    assert (system["options"]["width"], system["bytes_per_document"]) == (4, 8)
    assert system["paper_rows"] == []
    assert (cost["service"]["requests"], cost["service"]["retries"]) == (3 + 1 + 2, 2)
    assert 0 < cost["service"]["seconds"] < 60
    assert {"encode", "search"} <= set(cost["seconds"])
    assert f"letters ({host}, " in answered.out


def test_the_key_reaches_the_service_and_nothing_else(run, service, monkeypatch, tmp_path):
    """Not the record, the store, a message or a log, even where the service repeats it."""
    monkeypatch.setenv("HARNESS_API_KEY", SECRET)
    service.faults[:] = [Reply({"error": f"busy, {SECRET}"}, 503)]
    answered = run("-v")
    record_of(answered)
    assert {asked.headers["authorization"] for asked in service.asked} == {f"Bearer {SECRET}"}
    service.faults[:] = [Reply({"error": {"message": f"the key {SECRET} is bad"}}, 400)]
    refused = run("--force", "-v")
    assert refused.code == 2
    assert "answered 400 Bad Request: the key *** is bad." in refused.err
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"manifest.json", "run.trec.gz", "store.json"} <= {path.name for path in files}
    for path in files:
        data = path.read_bytes()
        assert SECRET.encode() not in (gzip.decompress(data) if path.suffix == ".gz" else data), path
    for said in (answered, refused):
        assert SECRET not in said.out + said.err


def test_without_a_key_there_is_no_header(run, service, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    record_of(run())
    assert all("authorization" not in asked.headers for asked in service.asked)


@pytest.mark.parametrize(
    ("key", "expected"), [("", "Set its key in HARNESS_API_KEY."), ("x", "Is the key in HARNESS_")]
)
def test_a_service_that_wants_a_key_says_which(run, service, monkeypatch, key, expected):
    monkeypatch.setenv("HARNESS_API_KEY", key)
    service.faults[:] = [Reply({}, 401)] * 9
    refused = run()
    assert refused.code == 2
    assert f"{service.url}/v1 answered 401 Unauthorized. {expected}" in refused.err


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (STALL, "gave no answer within 0.1 s, after 2 tries. Is it overloaded?"),
        (
            Reply(b"<html>", 502, {"Content-Type": "text/html"}),
            "answered 502 Bad Gateway: an HTML page, after 2 tries.",
        ),
        (Reply(b"{", 200), "answered 200 OK with no JSON"),
        ({"data": [{"index": 0, "embedding": [1]}]}, "letters gave 1 vectors for 6 texts, from document 'd0' on."),
        (
            {"data": [{"index": n, "embedding": [1.0, float("nan") if n == 4 else 0.0]} for n in range(6)]},
            "letters gave a vector (5 of 6) that is not finite, from document 'd0' on.",
        ),
    ],
)
def test_a_service_that_fails_is_one_line_and_nothing_is_left(bad, service, folder, fault, expected):
    service.faults[:] = [fault] * 4
    options = ("-o", "backoff=0", "-o", "retries=1", *(("-o", "timeout=0.1") if fault == STALL else ()))
    message = bad("run", "-r", f"{service.url}/v1#letters", "-d", folder, *options)
    [line] = [line for line in message.splitlines() if "error: " in line]
    assert expected in line
    assert not list(Path("home").rglob("*.safetensors"))


def test_encoding_resumes_behind_the_last_whole_shard(run, service):
    service.faults[:] = [answer(service_asks(["rest", "tea is a star"])), Reply({}, 400)]
    options = ("-o", "shard_documents=2", "-o", "batch_size=2", "-o", "concurrency=1")
    assert run(*options).code == 2
    service.faults.clear()
    service.asked.clear()
    record_of(run(*options))
    assert texts(service) == [["tests", "tea air"], ["sea", "tea tree"], ["a test", "stair"]]


def service_asks(some):
    from tests.support.service import Asked

    return Asked("POST", "/v1/embeddings", [], {}, {"model": "letters", "input": some})


def test_a_model_that_changed_unseen_is_refused(run, service):
    record_of(run())
    service.faults[:] = [{"data": [{"index": n, "embedding": [1.0]} for n in range(2)]}]
    refused = run("--force")
    assert refused.code == 2
    assert f"letters gave vectors of {len(LETTERS)} values and of 1." in refused.err


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("http://localhost:1/v1", "http://localhost:1/v1 names no model. Write http://localhost:1/v1#MODEL"),
        ("https://host/v1# ", "names no model"),
        (f"http://me:{SECRET}@host/v1#m", "A key comes from the environment variable HARNESS_API_KEY."),
        (f"http://host/v1?key={SECRET}#m", "A key comes from the environment variable HARNESS_API_KEY."),
    ],
)
def test_names_that_are_refused(bad, name, expected):
    message = bad("run", "-r", name)
    assert expected in message
    assert SECRET not in message


def test_a_key_that_is_none_is_refused_without_showing_it(bad, monkeypatch, folder):
    monkeypatch.setenv("HARNESS_API_KEY", f"{SECRET}\nX-Other: 1")
    message = bad("run", "-r", "http://localhost:1/v1#m", "-d", folder)
    assert "HARNESS_API_KEY holds white space" in message
    assert SECRET not in message


def test_the_family_is_listed_and_knows_its_options(cli):
    listed = cli("list", "retrievers").out
    assert "http://HOST/v1#MODEL" in listed
    assert "https://HOST/v1#MODEL" in listed
    one = " ".join(cli("list", "retrievers", "https://api.test/v1#m").out.split())
    assert "m at https://api.test/v1" in one
    assert "--option similarity= cosine" in one
    assert registry.get("http://h/v1/embeddings#a/b#c").url == "http://h/v1"
    assert registry.get("http://h/v1/embeddings#a/b#c").model == "a/b#c"
    with pytest.raises(InputError, match="no URL of a service"):
        registry.get("http:///v1#m")
