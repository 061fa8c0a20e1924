"""What an embedding endpoint may answer, and what is refused of it."""

import math
from contextlib import ExitStack

import numpy as np
import pytest

from harness.retrievers.errors import InputError
from harness.retrievers.remote.client import Client, ServiceOptions
from harness.retrievers.remote.embeddings import EndpointEncoder, Use, vectors_of
from harness.retrievers.types import Document, Query
from tests.support.embedding import answer, embedding, texts
from tests.support.service import Reply, serving

DOCS = [Document("d0", "Tea", "is hot"), Document("d1", "", "rest"), Document("d2", "", ""), Document("d3", "x", "aaa")]


def item(index, vector):
    return {"index": index, "embedding": vector}


def test_vectors_come_in_the_order_of_their_index():
    found = vectors_of({"data": [item(2, [5, 6]), item(0, [1.5, 2]), item(1, [3, 4])]}, 3)
    assert found.dtype == np.float32
    assert found.tolist() == [[1.5, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ([], "answered without a list `data`"),
        ({"data": {"0": [1]}}, "answered without a list `data`"),
        ({"data": [item(0, [1])]}, "gave 1 vectors for 2 texts"),
        ({"data": [item(0, [1]), item(1, [1]), item(2, [1])]}, "gave 3 vectors for 2 texts"),
        ({"data": [item(0, [1]), item(0, [1])]}, "gave a vector the index 0; want each of 0 to 1 once"),
        ({"data": [item(0, [1]), item(2, [1])]}, "gave a vector the index 2"),
        ({"data": [item(0, [1]), item(-1, [1])]}, "gave a vector the index -1"),
        ({"data": [item(0, [1]), item(True, [1])]}, "gave a vector the index True"),
        ({"data": [item(0, [1]), {"embedding": [1]}]}, "gave a vector the index None"),
        ({"data": [item(0, [1]), [1]]}, "gave a vector the index None"),
        ({"data": [item(0, [1]), item(1, "AACAPw==")]}, "gave no list of numbers as `embedding` 1"),
        ({"data": [item(0, [1]), item(1, [])]}, "gave no list of numbers as `embedding` 1"),
        ({"data": [item(0, [1, 2]), item(1, [1, 2, 3])]}, "gave vectors of 2 and of 3 values in one answer"),
        ({"data": [item(0, [1]), item(1, ["2"])]}, "something else than numbers"),
        ({"data": [item(0, [1]), item(1, [None])]}, "something else than numbers"),
        ({"data": [item(0, [[1]]), item(1, [[1, 2]])]}, "something else than numbers"),
        ({"data": [item(0, [True]), item(1, [False])]}, "something else than numbers"),
        ({"data": [item(0, [1]), item(1, [math.nan])]}, r"gave a vector \(2 of 2\) that is not finite"),
        ({"data": [item(0, [math.inf]), item(1, [1])]}, r"gave a vector \(1 of 2\) that is not finite"),
        ({"data": [item(0, [1e39]), item(1, [1])]}, r"gave a vector \(1 of 2\) that is not finite"),
    ],
)
def test_what_is_no_vector_is_refused(body, expected):
    with pytest.raises(ValueError, match=expected):
        vectors_of(body, 2)


@pytest.fixture
def service():
    with serving(answer) as made:
        yield made


@pytest.fixture
def encoder(service):
    """Makes encoders, each with a client of its own."""
    with ExitStack() as stack:

        def make(batch_size=3, **use):
            options = ServiceOptions(backoff=0.0, concurrency=1)
            client = stack.enter_context(Client(f"{service.url}/v1", options, {}))
            return EndpointEncoder(client, f"{service.url}/v1", "m", Use(**use), batch_size)

        yield make


def test_dot_is_the_vectors_themselves(service, encoder):
    done = []
    found = encoder(similarity="dot", passage_prefix="at: ").documents(DOCS, done.append)
    assert texts(service) == [["at: Tea is hot", "at: rest", "at: "], ["at: x aaa"]]
    assert found.dense.tolist() == [embedding(text) for some in texts(service) for text in some]
    assert found.dense.dtype == np.float16
    assert found.term_ids.shape == (4, 0)
    assert done == [3, 1]


def test_cosine_is_the_vectors_at_length_1(encoder):
    """`rest` has e, r, s and t once each: 1/2 in four places. A text without any of the letters stays 0."""
    use = encoder(titles="none")
    queries = [Query("q0", "rest"), Query("q1", "xyz"), Query("q2", "aa")]
    assert use.queries(queries).dense.tolist() == [[0, 0.5, 0, 0.5, 0.5, 0.5], [0] * 6, [1, 0, 0, 0, 0, 0]]
    assert use.documents(DOCS, lambda _count: None).dense[1].tolist() == [0, 0.5, 0, 0.5, 0.5, 0.5]


def test_what_is_sent(service, encoder):
    """Cut behind the prefix, one space for an empty text, `dimensions` only where they are asked for."""
    encoder(titles="none", max_characters=4, query_prefix="q: ").documents(DOCS, lambda _count: None)
    assert texts(service) == [["is h", "rest", " "], ["aaa"]]
    encoder(max_characters=4, query_prefix="q: ").queries([Query("q0", "rest")])
    assert texts(service)[-1] == ["q: r"]
    encoder(dimensions=2).queries([Query("q0", "rest")])
    assert [asked.body.get("dimensions") for asked in service.asked] == [None, None, None, 2]


def test_another_width_is_refused(service, encoder):
    use = encoder(batch_size=1)
    use.queries([Query("q0", "rest")])
    service.faults.append({"data": [item(0, [1, 2, 3])]})
    with pytest.raises(InputError, match=r"/v1: m gave vectors of 6 values and of 3\. .* -o revision=NAME"):
        use.queries([Query("q1", "rest")])
    service.faults.append({"data": [item(0, [1, 2, 3])]})
    with pytest.raises(InputError, match=r"asked for 2 dimensions, m gave 3 values\. .* leave -o dimensions out"):
        encoder(dimensions=2).queries([Query("q1", "rest")])


def test_a_wrong_answer_names_the_texts(service, encoder):
    service.faults.append(Reply({"data": [item(0, [1])]}))
    with pytest.raises(InputError, match=r"/v1: m gave 1 vectors for 4 texts, from document 'd0' on\.$"):
        encoder(batch_size=4).documents(DOCS, lambda _count: None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(7e4, "document 'd0' holds values beyond 65,504"), (1e-9, "document 'd0' is too small for 16 bits")],
)
def test_what_16_bits_cannot_hold_is_refused_but_not_of_cosine(service, encoder, value, expected):
    service.faults.append({"data": [item(0, [value, value])]})
    with pytest.raises(InputError, match=expected):
        encoder(similarity="dot").documents(DOCS[:1], lambda _count: None)
    service.faults.append({"data": [item(0, [value, value])]})
    found = encoder(similarity="cosine").documents(DOCS[:1], lambda _count: None)
    assert found.dense[0].tolist() == pytest.approx([0.5**0.5] * 2, abs=1e-3)
