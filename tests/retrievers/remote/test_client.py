"""A service that fails, limits, stalls, drops and lies: what is tried again, what is said, and what is never said."""

import datetime
import threading
from email.utils import format_datetime

import pytest

from harness.retrievers.errors import InputError
from harness.retrievers.remote import addresses
from harness.retrievers.remote.client import Client, ServiceOptions, said
from tests.support.service import DROP, STALL, Reply, free_url, serving


@pytest.fixture
def waits():
    return []


@pytest.fixture
def service():
    with serving(lambda asked: {"got": asked.body}) as made:
        yield made


def client(url, waits=None, **options):
    secrets = options.pop("secrets", ())
    pause = waits.append if waits is not None else None
    return Client(url, ServiceOptions(**{"backoff": 0.0, **options}), {"X-Key": "s3cret"}, secrets=secrets, pause=pause)


def fails(service, *faults, **options):
    """The one line that is said where the service has these faults."""
    service.faults[:] = faults
    with client(service.url, secrets=["s3cret"], **options) as asking, pytest.raises(InputError) as refused:
        asking.ask("POST", f"{service.url}/x", body={"n": 1})
    message = str(refused.value)
    assert "\n" not in message
    assert "s3cret" not in message
    assert message.startswith(f"{service.url} ")
    return message.removeprefix(f"{service.url} ")


def test_json_goes_there_and_back(service):
    with client(service.url) as asking:
        assert asking.ask("POST", f"{service.url}/x", body={"a": "ü\ud800"}).value == {"got": {"a": "ü\ud800"}}
        assert asking.ask("GET", f"{service.url}/y", [("q", "a&b=ü"), ("q", "2")]).value == {"got": None}
        assert asking.cost["requests"] == 2
        assert asking.cost["retries"] == 0
    sent, fetched = service.asked
    assert (sent.method, sent.path, sent.headers["content-type"]) == ("POST", "/x", "application/json")
    assert (fetched.path, fetched.params) == ("/y", [("q", "a&b=ü"), ("q", "2")])
    assert sent.headers["x-key"] == fetched.headers["x-key"] == "s3cret"


@pytest.mark.parametrize(
    "fault", [Reply({}, 500), Reply({}, 503), Reply({}, 429), DROP, STALL], ids=["500", "503", "429", "drop", "stall"]
)
def test_what_may_pass_is_tried_again(service, waits, fault):
    service.faults[:] = [fault]
    with client(service.url, waits, timeout=0.5 if fault == STALL else 60) as asking:
        assert asking.ask("POST", service.url, body=1).value == {"got": 1}
        assert (asking.requests, asking.retries) == (2, 1)
    assert len(service.asked) == 2
    assert len(waits) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_what_will_not_pass_is_asked_once(service, status):
    fails(service, Reply({}, status))
    assert len(service.asked) == 1


def test_waits_double_up_to_a_minute_and_less_up_to_a_half(service, waits):
    service.faults[:] = [Reply({}, 500)] * 9
    with client(service.url, waits, retries=9, backoff=0.5) as asking:
        asking.ask("POST", service.url, body=1)
    longest = [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    assert len(waits) == 9
    assert all(most / 2 <= wait <= most for wait, most in zip(waits, longest, strict=True))


def test_the_wait_is_what_the_service_asks_for(service, waits):
    in_a_minute = format_datetime(datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=60), usegmt=True)
    long_ago = "Wed, 21 Oct 2015 07:28:00 GMT"
    asked_for = ["7", in_a_minute, long_ago, "soon"]
    service.faults[:] = [Reply({}, 429, {"Retry-After": value}) for value in asked_for]
    heard = []
    options = ServiceOptions(backoff=0.0)
    with Client(service.url, options, {}, note=heard.append, pause=waits.append) as asking:
        asking.ask("POST", service.url, body=1)
    assert waits[0] == 7
    assert 55 < waits[1] <= 60
    assert waits[2:] == [0, 0]
    [said_once] = heard  # the minute alone is worth a word
    assert "answered 429 Too Many Requests; asked again in" in said_once


def test_a_wait_that_is_too_long_is_not_waited_for(service, waits):
    message = fails(service, Reply({"error": "quota"}, 429, {"Retry-After": "3600"}), waits=waits)
    assert message == "answered 429 Too Many Requests: quota. It asks for 3,600 s of patience: run again then."
    assert waits == []


def test_the_last_try_is_the_last(service):
    message = fails(service, *[Reply({"error": {"message": "out of\nmemory"}}, 500)] * 4, retries=3)
    assert message == "answered 500 Internal Server Error: out of memory, after 4 tries."
    assert len(service.asked) == 4


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Reply(b"{bad", 200), "answered 200 OK with no JSON (Expecting property name"),
        (Reply(b"<html>x</html>", 200, {"Content-Type": "text/html"}), "answered 200 OK with an HTML page. Is the URL"),
        (Reply(b"<html>x</html>", 404, {"Content-Type": "text/html"}), "answered 404 Not Found: an HTML page."),
        (Reply(b"", 200), "answered 200 OK with no JSON"),
        (Reply(b"\xff\xfe", 200), "answered 200 OK with no JSON"),
        (Reply({"message": "no such\n model"}, 404), "answered 404 Not Found: no such model."),
        (Reply({"detail": [{"message": "too long"}]}, 422), "answered 422 "),
        (Reply({"error": "the key s3cret is wrong"}, 400), "answered 400 Bad Request: the key *** is wrong."),
        (Reply(b"s3cret" * 100, 400), "answered 400 Bad Request: *********"),
        (Reply({}, 302, {"Location": "http://elsewhere/"}), "answered 302 Found, a redirect. It is not followed"),
        (DROP, "lost the connection ("),
        (STALL, "gave no answer within 0.1 s. Is it overloaded? Raise -o timeout."),
    ],
)
def test_every_fault_is_one_line(service, fault, expected):
    assert fails(service, fault, retries=0, timeout=0.1 if fault == STALL else 60).startswith(expected)


def test_words_of_a_refused_key_are_not_repeated(service):
    assert fails(service, Reply({"error": "Incorrect key: s3c***"}, 401)) == "answered 401 Unauthorized."


def test_nobody_listens(waits):
    url = free_url()
    with client(url, waits, retries=2) as asking, pytest.raises(InputError) as refused:
        asking.ask("POST", url, body=1)
    assert (
        str(refused.value)
        == f"{url} cannot be reached (Connection refused), after 3 tries. Is it running, and the URL right?"
    )
    assert len(waits) == 2


def test_a_service_without_tls_is_not_asked_again(service, waits):
    url = service.url.replace("http:", "https:")
    with client(url, waits) as asking, pytest.raises(InputError) as refused:
        asking.ask("POST", url, body=1)
    assert str(refused.value).startswith(f"{url} cannot be reached by TLS (")
    assert "\n" not in str(refused.value)
    assert (waits, service.asked) == ([], [])


def test_results_come_in_order_and_so_many_at_once():
    together, both = [], threading.Barrier(2, timeout=30)

    def answer(asked):
        if asked.body < 2:
            both.wait()  # which none passes alone
        together.append(asked.body)
        return asked.body

    with serving(answer) as service, client(service.url, concurrency=2) as asking:
        found = list(asking.each(lambda n: asking.ask("POST", service.url, body=n).value, range(20)))
    assert found == list(range(20))
    assert sorted(together) == found


def test_after_an_error_nothing_more_is_asked():
    with serving(lambda asked: Reply({}, 400)) as service, client(service.url, concurrency=2) as asking:
        with pytest.raises(InputError, match="400"):
            list(asking.each(lambda n: asking.ask("POST", service.url, body=n), range(500)))
        assert asking.requests <= 2


def test_an_error_ends_the_waits_of_the_others():
    """One request is refused at once; the other would wait for 500 s."""

    def answer(asked):
        return Reply({}, 400) if asked.body == 0 else Reply({}, 429, {"Retry-After": "500"})

    with serving(answer) as service, client(service.url, concurrency=2) as asking, pytest.raises(InputError):
        list(asking.each(lambda n: asking.ask("POST", service.url, body=n), range(2)))


def test_a_proxy_of_the_environment_is_used_but_not_to_this_machine(service, monkeypatch):
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", service.url.replace("//", "//me:word@"))
    with client("http://elsewhere.test/v1") as asking:
        assert asking.ask("POST", "http://elsewhere.test/v1/x", body=2).value == {"got": 2}
    assert service.asked[0].path == "/v1/x"
    assert service.asked[0].headers["host"] == "elsewhere.test"
    assert service.asked[0].headers["proxy-authorization"] == "Basic bWU6d29yZA=="  # me:word
    with client(service.url) as asking:
        asking.ask("POST", service.url, body=3)
    assert "proxy-authorization" not in service.asked[1].headers


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"error": {"message": "a"}}, "a"),
        ({"error": "a"}, "a"),
        ({"errors": [{"message": "a"}]}, "a"),
        ({"detail": [{"msg": "a"}]}, "a"),
        ({"error": {"type": "x", "reason": "a"}}, "a"),
        ({"error": {"code": 7}}, {"code": 7}),
        ({"other": "a"}, None),
        ([], None),
    ],
)
def test_where_services_put_their_words(value, expected):
    assert said(value) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://me:hunter2@host/v1", "the service's URL holds an @"),
        ("me:hunter2@host", "the service's URL holds an @"),
        ("http://me/hunter2@host", "the service's URL holds an @"),
        ("http://host:hunter2/v1", "no valid host and port"),
        ("http://host/v1?key=hunter2", "goes on with ? or # behind host"),
        ("http://host/v1#hunter2", "goes on with ? or # behind host"),
        ("ftp://host/x", "'ftp://host/x' is no URL"),
        ("localhost:9200/x", "'localhost:9200/x' is no URL"),
        ("http:///x", "is no URL"),
        ("http://ho st/x", "is no URL"),
    ],
)
def test_urls_that_are_none_or_hold_secrets(url, expected):
    with pytest.raises(InputError) as refused:
        addresses.checked(url, "Set X.")
    assert expected in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_urls():
    assert addresses.checked("https://host:8443/v1/", "") == "https://host:8443/v1"
    assert addresses.short("https://host:8443/v1") == "host:8443/v1"
