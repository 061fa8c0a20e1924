"""Descriptions of engines: found by name or file, checked, their secrets from the environment."""

import pytest
import yaml

from harness.retrievers.errors import InputError
from harness.retrievers.remote import description
from harness.retrievers.remote.answers import Reader
from tests.support.paths import ROOT

PLAIN = {"method": "GET", "params": {"q": "{{query}}", "n": "{{k}}"}, "ids": "found[].doc"}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def write(path, **values):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(PLAIN | values))
    return path


def test_by_file_by_ones_own_name_and_by_ours(home, tmp_path, monkeypatch):
    write(home / "engines" / "mine.yaml", summary="mine")
    write(home / "engines" / "solr.yaml", summary="my own solr")
    write(tmp_path / "here.yaml", summary="here")
    monkeypatch.chdir(tmp_path)
    assert description.load("mine").summary == "mine"
    assert description.load("solr").summary == "my own solr"
    assert description.load("./here.yaml").summary == description.load("here.yaml").summary == "here"
    assert description.load("vespa").method == "POST"
    assert description.names() == ["elasticsearch", "mine", "opensearch", "solr", "vespa"]


def test_a_name_that_is_none(home):
    with pytest.raises(
        InputError, match=r"unknown engine 'elastisearch'\. Did you mean elasticsearch or opensearch\? .*solr, vespa\."
    ):
        description.load("elastisearch")
    with pytest.raises(InputError, match="cannot be read: No such file"):
        description.load("./gone.yaml")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"body": {}}, "a GET request has no body"),
        ({"methd": "GET"}, "methd: unknown; there is body, error, "),
        ({"method": "PUT"}, "method: Input should be 'GET' or 'POST'"),
        ({"params": {"n": "{{k}}"}}, "holds {{query}}, so the engine would not see the query"),
        ({"params": {"q": "{{query}}"}}, "holds {{k}}, and page does not say"),
        ({"params": {"q": "{{query}} {{k}} {{qery}}"}}, "{{qery}} stands for nothing; there is from, k, query, top_k"),
        ({"variables": {"k": 1}}, "variables: k has a meaning of its own"),
        ({"ids": None}, "ids: Input should be a valid string"),
        ({"id_pattern": "("}, "id_pattern: not a regular expression"),
        ({"id_pattern": "a"}, "id_pattern: want a regular expression with one group"),
        ({"page": 0}, "page: Input should be greater than or equal to 1"),
        ({"headers": {"X-Key": 4711}}, "headers.X-Key: Input should be a valid string"),
    ],
)
def test_what_describes_no_engine(tmp_path, values, expected):
    path = write(tmp_path / "e.yaml", **values)
    with pytest.raises(InputError) as refused:
        description.load(str(path))
    message = str(refused.value)
    assert message.startswith(f"{path}: ")
    assert expected in message
    assert "\n" not in message
    assert "4711" not in message


def test_a_page_without_k_is_enough(tmp_path):
    assert description.load(str(write(tmp_path / "e.yaml", params={"q": "{{query}}"}, page=10))).page == 10


def test_headers_take_their_secrets_from_the_environment(tmp_path, monkeypatch):
    path = write(
        tmp_path / "e.yaml",
        headers={"Authorization": "Basic ${E_KEY}", "X-Tenant": "a"},
        optional_headers={"X-Extra": "${E_ONE}-${E_TWO}"},
    )
    described = description.load(str(path))
    with pytest.raises(
        InputError, match="the header Authorization needs the environment variable E_KEY, which is not set"
    ):
        described.sent_headers()
    monkeypatch.setenv("E_KEY", "s3cret")
    monkeypatch.setenv("E_TWO", "two")
    assert described.sent_headers() == (
        {"Authorization": "Basic s3cret", "X-Tenant": "a"},
        ["Basic s3cret", "s3cret", "a"],
        ["E_ONE"],
    )
    monkeypatch.setenv("E_ONE", "one")
    headers, secrets, absent = described.sent_headers()
    assert (headers["X-Extra"], absent) == ("one-two", [])
    assert {"one-two", "one", "two"} <= set(secrets)
    assert described.recorded()["headers"] == ["Authorization", "X-Extra", "X-Tenant"]
    assert "s3cret" not in str(described.recorded())


@pytest.mark.parametrize("value", ["s3cret\nX: y", "s3crét"])
def test_a_value_that_no_header_can_carry_is_not_shown(tmp_path, monkeypatch, value):
    monkeypatch.setenv("E_KEY", value)
    with pytest.raises(
        InputError, match=r"the header 'X-Key' \(E_KEY\) holds letters that no header can carry"
    ) as refused:
        description.load(str(write(tmp_path / "e.yaml", headers={"X-Key": "${E_KEY}"}))).sent_headers()
    assert "s3cr" not in str(refused.value)


def test_those_that_come_with_the_harness_are_whole():
    folder = ROOT / "harness" / "data" / "engines"
    assert sorted(path.stem for path in folder.glob("*.yaml")) == description.names()
    for name in description.names():
        described = description.load(name)
        assert described.summary
        assert described.example.startswith("http://")
        Reader(described, name)  # every expression is one


def test_the_description_in_the_docs(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "services.md").read_text(encoding="utf-8")
    (tmp_path / "shop.yaml").write_text(page.partition("```yaml\n")[2].partition("```")[0])
    described = description.load(str(tmp_path / "shop.yaml"))
    monkeypatch.setenv("SHOP_TOKEN", "s3cret")
    monkeypatch.delenv("SHOP_TENANT", raising=False)
    assert described.sent_headers()[0] == {"Authorization": "Bearer s3cret"}
    assert set(description.Description.model_fields) - described.model_fields_set == {"path", "example"}
    hits = [{"document": {"id": "product-d3"}, "score": 2.0}, {"document": {"id": "product-d0"}, "score": 1.0}]
    answer = {"hits": hits, "total": {"value": 7}, "error": None}
    assert Reader(described, "shop").results(answer, "q1", 0) == (["d3", "d0"], [2.0, 1.0], 7)


# what each engine's documentation shows of an answer, cut to two results
ANSWERS = {
    "elasticsearch": {
        "took": 5,
        "timed_out": False,
        "_shards": {"total": 1, "successful": 1, "skipped": 0, "failed": 0},
        "hits": {
            "total": {"value": 20, "relation": "eq"},
            "max_score": 1.3862942,
            "hits": [
                {"_index": "my-index", "_id": "d3", "_score": 1.3862942},
                {"_index": "my-index", "_id": "d0", "_score": 1.25},
            ],
        },
    },
    "solr": {
        "responseHeader": {"status": 0, "QTime": 2},
        "response": {
            "numFound": 20,
            "start": 0,
            "maxScore": 1.3862942,
            "numFoundExact": True,
            "docs": [{"id": "d3", "score": 1.3862942}, {"id": "d0", "score": 1.25}],
        },
    },
    "vespa": {
        "root": {
            "id": "toplevel",
            "relevance": 1.0,
            "fields": {"totalCount": 20},
            "coverage": {"coverage": 100, "documents": 20, "full": True, "nodes": 1, "results": 1, "resultsFull": 1},
            "children": [
                {"id": "id:mynamespace:doc::d3", "relevance": 1.3862942, "source": "content", "fields": {}},
                {"id": "id:mynamespace:doc:g=a:d0", "relevance": 1.25, "source": "content", "fields": {}},
            ],
        }
    },
}
ANSWERS["opensearch"] = ANSWERS["elasticsearch"]
NONE = {
    "elasticsearch": {"timed_out": False, "_shards": {"failed": 0}, "hits": {"total": {"value": 0}, "hits": []}},
    "solr": {"response": {"numFound": 0, "start": 0, "docs": []}},
    "vespa": {"root": {"id": "toplevel", "relevance": 1.0, "fields": {"totalCount": 0}, "coverage": {"coverage": 100}}},
}
WRONG = {
    "elasticsearch": [
        ({"error": {"root_cause": [], "type": "x", "reason": "no such index"}, "status": 404}, "no such index"),
        ({"error": "no handler found", "status": 400}, "no handler found"),
        (ANSWERS["elasticsearch"] | {"timed_out": True}, "the search timed out"),
        (
            ANSWERS["elasticsearch"]
            | {"_shards": {"failed": 1, "failures": [{"reason": {"reason": "too many clauses"}}]}},
            "too many clauses",
        ),
    ],
    "solr": [
        ({"responseHeader": {"status": 400}, "error": {"msg": "undefined field x", "code": 400}}, "undefined field x"),
        (ANSWERS["solr"] | {"responseHeader": {"partialResults": True}}, "the results are partial"),
    ],
    "vespa": [
        (
            {"root": {"errors": [{"code": 8, "summary": "Error in search", "message": "no rank profile"}]}},
            "no rank profile",
        ),
        (
            {"root": ANSWERS["vespa"]["root"] | {"coverage": {"coverage": 50, "degraded": {"timeout": True}}}},
            "the coverage is degraded",
        ),
    ],
}


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_ours_read_what_the_engines_answer(name):
    reader = Reader(description.load(name), name)
    doc_ids, scores, total = reader.results(ANSWERS[name], "q1", 0)
    assert (doc_ids, scores) == (["d3", "d0"], [1.3862942, 1.25])
    assert total == (20 if name == "solr" else None)


@pytest.mark.parametrize("name", sorted(NONE))
def test_ours_read_that_nothing_was_found(name):
    assert Reader(description.load(name), name).results(NONE[name], "q1", 0)[:2] == ([], [])


@pytest.mark.parametrize(("name", "answer", "words"), [(n, *one) for n, some in WRONG.items() for one in some])
def test_ours_read_what_is_wrong(name, answer, words):
    with pytest.raises(InputError, match=f"query 'q1': the engine answers with an error: {words}."):
        Reader(description.load(name), name).results(answer, "q1", 0)
