"""A search engine for tests: it knows a toy collection, and scores a document by the query's words that it holds."""

from tests.support.service import Reply

TEXTS = "red apples grow on red trees|green pears|water runs to the sea|the bank is a river bank|red sea|fish".split(
    "|"
)
DOCS = [(f"d{number}", "", text) for number, text in enumerate(TEXTS)]
QUERIES = [("q1", "red sea"), ("q2", 'the "river" bank\\ {{k}}'), ("q3", "nothing")]
QRELS = {"test": [("q1", "d4", 2), ("q2", "d3", 1), ("q3", "d5", 1)]}


def ranking(query):
    """[(document id, score)], best first, by hand: how often the query's words are in the document."""
    words = query.split()
    scored = [(doc_id, float(sum(text.split().count(word) for word in words))) for doc_id, _, text in DOCS]
    return sorted((one for one in scored if one[1]), key=lambda one: (one[1], one[0]), reverse=True)


def elastic(asked):
    """As Elasticsearch answers a multi_match."""
    if asked.path != "/toy/_search":
        return Reply({"error": {"type": "index_not_found_exception", "reason": f"no such index {asked.path}"}}, 404)
    body = asked.body
    found = ranking(body["query"]["multi_match"]["query"])[body["from"] :][: body["size"]]
    hits = [{"_index": "toy", "_id": doc_id, "_score": score} for doc_id, score in found]
    shards = {"total": 1, "successful": 1, "skipped": 0, "failed": 0}
    return {"took": 1, "timed_out": False, "_shards": shards, "hits": {"max_score": 1.0, "hits": hits}}


def plain(asked):
    """As a small engine of somebody's own: GET /find?q=…&n=…&skip=…"""
    given = dict(asked.params)
    found = ranking(given["q"])
    some = found[int(given.get("skip", 0)) :][: int(given["n"])]
    return {"found": [{"doc": doc_id, "score": score} for doc_id, score in some], "count": len(found)}
