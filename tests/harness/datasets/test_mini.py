"""The embedded collection is what its README says."""

import json
from collections import Counter

import pytest

from harness.datasets.loader import MINI, resolve
from harness.runs.config import build
from harness.runs.runner import run

STOP = frozenset(
    """a an the of to in on for and or is are was do does did how what why when where which who my i it its with without
    from at by be can should will not no vs if you your after before into that this than too so""".split()
)


def rows(name):
    return [json.loads(line) for line in (MINI / name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def qrels():
    found = {}
    for line in (MINI / "qrels" / "test.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        found.setdefault(query, {})[document] = int(grade)
    return found


def test_sizes(qrels):
    corpus, queries = rows("corpus.jsonl"), rows("queries.jsonl")
    assert len({row["_id"] for row in corpus}) == len(corpus) == 300
    assert len({row["text"] for row in corpus}) == 300
    assert {row["_id"] for row in queries} == set(qrels)
    assert Counter(row["metadata"]["kind"] for row in queries) == {"paraphrase": 33, "exact": 33, "mixed": 34}
    assert Counter(row["metadata"]["topic"] for row in corpus) == dict.fromkeys(
        {r["metadata"]["topic"] for r in corpus}, 12
    )
    assert all(40 <= len(row["text"].split()) <= 120 for row in corpus)


def test_grades(qrels):
    grades = Counter(grade for graded in qrels.values() for grade in graded.values())
    assert grades == {3: 100, 2: 11, 1: 45, 0: 1884}
    assert all(max(graded.values()) == 3 for graded in qrels.values())
    assert set().union(*qrels.values()) <= {row["_id"] for row in rows("corpus.jsonl")}


def test_paraphrases_share_few_words_with_their_answer(qrels):
    corpus = {row["_id"]: f"{row['title']} {row['text']}" for row in rows("corpus.jsonl")}

    def words(text):
        return {w for w in "".join(c if c.isalnum() else " " for c in text.lower()).split() if w not in STOP}

    for query in rows("queries.jsonl"):
        if query["metadata"]["kind"] == "paraphrase":
            best = [d for d, grade in qrels[query["_id"]].items() if grade == 3]
            assert min(len(words(query["text"]) & words(corpus[d])) for d in best) <= 1, query


def test_bm25_is_neither_perfect_nor_hopeless_and_the_kinds_differ(tmp_path):
    [outcome] = run(build({"retrievers": ["bm25"], "results": tmp_path / "results"}, "test"), ["test"])
    assert 0.5 < outcome.record.metrics["NDCG@10"] < 0.85
    kinds = {row["_id"]: row["metadata"]["kind"] for row in rows("queries.jsonl")}
    ndcg = Counter()
    for query_id, values in outcome.record.per_query().items():
        ndcg[kinds[query_id]] += values["NDCG@10"] / list(kinds.values()).count(kinds[query_id])
    assert ndcg["paraphrase"] < 0.5 < ndcg["mixed"] < ndcg["exact"]


def test_it_is_the_collection_called_mini():
    [dataset] = resolve("mini")
    assert dataset.source.location == str(MINI.resolve())
