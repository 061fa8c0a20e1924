"""An embedding endpoint for tests: a vector of a text is how often it holds each of a few letters."""

from tests.support.service import Reply

LETTERS = "aeirst"


def embedding(text, width=None):
    return [float(text.count(letter)) for letter in LETTERS[:width]]


def answer(asked):
    """As OpenAI's: `data` in any order, each with its `index`; `dimensions` cuts."""
    if asked.path != "/v1/embeddings":
        return Reply({"error": {"message": f"no {asked.path} here"}}, 404)
    width = asked.body.get("dimensions", len(LETTERS))
    data = [
        {"object": "embedding", "index": index, "embedding": embedding(text, width)}
        for index, text in enumerate(asked.body["input"])
    ]
    return {"object": "list", "data": data[::-1], "model": asked.body["model"]}


def texts(service):
    """All that was sent, request by request."""
    return [asked.body["input"] for asked in service.asked]
