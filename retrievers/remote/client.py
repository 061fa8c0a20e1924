"""Requests to a service: JSON both ways, tried again where that may help, counted, and no secret in any message."""

import datetime
import email.utils
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar
from urllib.parse import urlencode, urlsplit

from pydantic import Field

from harness.retrievers.errors import InputError
from harness.retrievers.registry import Options

if TYPE_CHECKING:
    import urllib3

LONGEST_WAIT = 600.0  # seconds; a service that asks for more is better asked by a later command
_LONGEST_BACKOFF = 60.0
_SILENT = 10.0  # a longer wait is said
_LONGEST_WORDS = 200  # letters of what a service says of an error
_LOCAL = ("localhost", "127.0.0.1", "::1")

T = TypeVar("T")
R = TypeVar("R")


class ServiceOptions(Options):
    """How a service is asked."""

    concurrency: int = Field(4, ge=1, le=256, strict=True, description="requests at once")
    timeout: float = Field(60.0, gt=0, le=86_400, allow_inf_nan=False, description="seconds without an answer")
    retries: int = Field(
        5, ge=0, le=100, strict=True, description="further tries after 429, 5xx, a lost connection or a timeout"
    )
    backoff: float = Field(
        0.5,
        ge=0,
        le=3_600,
        allow_inf_nan=False,
        description="seconds before the first of them; each waits twice as long",
    )
    revision: str | None = Field(
        None, min_length=1, description="a name for the service's present state: another one is another record"
    )


class Answer(NamedTuple):
    """What a service answered, and how long it took; waits and failed tries are not in it."""

    value: Any
    seconds: float


class _Fault(Exception):
    """What is wrong with an answer, or why there is none; `wait` is in seconds, where the service asks for some."""

    def __init__(self, what: str, advice: str = "", again: bool = False, wait: float | None = None) -> None:
        self.what, self.advice, self.again, self.wait = what, advice, again, wait


def said(value: Any) -> Any:
    """What a JSON answer says of an error, where services usually put it; None where there is nothing."""
    if isinstance(value, Mapping):
        for key in ("error", "message", "msg", "reason", "detail", "errors"):
            if value.get(key):
                return said(value[key]) or value[key]
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        return said(value[0])
    return value if isinstance(value, str) else None


class Client:
    """Asks one service, by several threads at once; to be used as a context.

    `url` is what messages name, `secrets` are what they never show. `denied` advises where the service wants a key.
    `note` hears of long waits.
    """

    def __init__(
        self,
        url: str,
        options: ServiceOptions,
        headers: Mapping[str, str],
        *,
        secrets: Sequence[str] = (),
        denied: str = "",
        error: Callable[[Any], Any] = said,
        note: Callable[[str], None] = lambda _message: None,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        self.url, self._options, self._denied, self._error, self._note = url, options, denied, error, note
        self._headers = {"Accept": "application/json", "Accept-Encoding": "gzip", **headers}
        self._secrets = [secret for secret in secrets if secret]
        self._over = threading.Event()
        self._pause = pause or self._over.wait
        self._lock = threading.Lock()
        self.requests = self.retries = 0
        self.seconds = 0.0  # of all answers; requests at once add up
        self._pool = _pool(url, options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._pool.clear()

    @property
    def cost(self) -> dict[str, int | float]:
        """How much was asked, for the record."""
        return {"requests": self.requests, "retries": self.retries, "seconds": round(self.seconds, 3)}

    def each(self, work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        """Yield `work` of each item, in their order, while `concurrency` of them are worked on.

        After an error or an interrupt nothing further is asked, here or by `ask`; requests under way end first. What is
        raised is the first error in time.
        """
        failed: list[BaseException] = []

        def one(item: T) -> R:
            if self._over.is_set():
                raise CancelledError
            try:
                return work(item)
            except BaseException as error:
                failed.append(error)
                self._over.set()  # before this thread takes another item, and so that no other waits to ask again
                raise

        with ThreadPoolExecutor(self._options.concurrency) as threads:
            futures = [threads.submit(one, item) for item in items]
            try:
                for future in futures:
                    yield future.result()
            except BaseException as error:
                self._over.set()
                threads.shutdown(wait=False, cancel_futures=True)
                raise (failed[0] if failed and isinstance(error, Exception) else error) from None

    def ask(self, method: str, url: str, params: Sequence[tuple[str, str]] = (), body: Any = None) -> Answer:
        """Send a request, with JSON where there is a body, and return the JSON that is answered.

        Raises InputError, in one line, for a service that cannot be asked, refuses, or answers with something else.
        """
        whole = f"{url}?{urlencode(params, errors='replace')}" if params else url
        data = None if body is None else json.dumps(body).encode()
        headers = self._headers if data is None else {**self._headers, "Content-Type": "application/json"}
        tries = 0
        while True:
            try:
                return self._once(method, whole, data, headers)
            except _Fault as fault:
                tries += 1
                wait = self._wait(tries) if fault.wait is None else fault.wait
                last = not fault.again or tries > self._options.retries or self._over.is_set()
                if last or wait > LONGEST_WAIT:
                    raise self._refusal(fault, tries, wait) from fault
                if wait > _SILENT:
                    self._note(f"{self.url} {fault.what}; asked again in {wait:,.0f} s")
            with self._lock:
                self.retries += 1
            self._pause(wait)

    def _refusal(self, fault: _Fault, tries: int, wait: float) -> InputError:
        tried = f", after {tries:,} tries" if tries > 1 else ""
        later = f"It asks for {wait:,.0f} s of patience: run again then."
        advice = later if wait > LONGEST_WAIT else fault.advice
        return InputError(f"{self.url} {fault.what}{tried}. {advice}".rstrip())

    def _wait(self, tries: int) -> float:
        """Seconds to wait after so many tries, less up to a half, so that several do not come back at once."""
        longest = min(self._options.backoff * 2.0 ** min(tries - 1, 32), _LONGEST_BACKOFF)
        return longest * random.uniform(0.5, 1.0)

    def _once(self, method: str, url: str, data: bytes | None, headers: Mapping[str, str]) -> Answer:
        from urllib3.exceptions import HTTPError

        with self._lock:
            self.requests += 1
        began = time.perf_counter()
        try:
            # a redirect would take the credentials to another place; urllib3's own retries would not be counted
            response = self._pool.request(method, url, body=data, headers=headers, redirect=False, retries=False)
        except (HTTPError, OSError) as error:
            raise self._lost(error) from error
        seconds = time.perf_counter() - began
        value = self._read(response)
        with self._lock:
            self.seconds += seconds
        return Answer(value, seconds)

    def _lost(self, error: Exception) -> _Fault:
        """Why there is no response."""
        from urllib3 import exceptions

        match error:
            case exceptions.SSLError():
                trust = "Does this machine trust its certificate? SSL_CERT_FILE names a file of others."
                return _Fault(f"cannot be reached by TLS ({self._clean(error)})", trust)
            case exceptions.LocationValueError():
                return _Fault("is no URL that can be asked", "Want http://HOST:PORT/PATH, or https.")
            case exceptions.NewConnectionError():
                why = "Is it running, and the URL right?"
                return _Fault(f"cannot be reached ({self._clean(error)})", why, again=True)
            case exceptions.TimeoutError():
                why = "Is it overloaded? Raise -o timeout."
                return _Fault(f"gave no answer within {self._options.timeout:g} s", why, again=True)
        return _Fault(f"lost the connection ({self._clean(error)})", "Is it overloaded?", again=True)

    def _read(self, response: "urllib3.BaseHTTPResponse") -> Any:
        """The JSON of a response. Raises _Fault for any other one."""
        status = f"answered {response.status} {response.reason or ''}".rstrip()
        if response.status in (401, 403):  # the words of some services repeat the key
            raise _Fault(status, self._denied)
        if 300 <= response.status < 400:
            raise _Fault(
                f"{status}, a redirect", "It is not followed, since it would take credentials along: name its target."
            )
        text = response.data.decode(errors="replace")
        html = "html" in response.headers.get("Content-Type", "") or text.lstrip()[:1] == "<"
        try:
            value, wrong = json.loads(text), ""
        except (ValueError, RecursionError) as error:
            value, wrong = None, "an HTML page" if html else f"no JSON ({self._clean(error)})"
        if not 200 <= response.status < 300:
            again = response.status == 429 or response.status >= 500
            wait = _seconds(response.headers.get("Retry-After")) if again else None
            words = wrong if html else self._clean(text if wrong else self._error(value) or "")
            raise _Fault(f"{status}{f': {words}' if words else ''}", "", again, wait)
        if wrong:
            raise _Fault(f"{status} with {wrong}", "Is the URL that of its JSON interface?")
        return value

    def _clean(self, words: object) -> str:
        """Words of a service or a library on one line, short and without secrets."""
        cause = getattr(words, "__cause__", None)
        text = str(getattr(cause, "strerror", None) or cause or words)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = " ".join(text.split()).rstrip(".")
        return text if len(text) <= _LONGEST_WORDS else f"{text[:_LONGEST_WORDS]}…"


def _pool(url: str, options: ServiceOptions) -> "urllib3.PoolManager":
    """Connections that are kept, through the proxy that the environment names, if any; never to this machine."""
    from urllib.request import getproxies, proxy_bypass

    import urllib3

    parts = urlsplit(url)
    settings: dict[str, Any] = {
        "maxsize": options.concurrency,
        "timeout": urllib3.Timeout(options.timeout, options.timeout),
    }
    host = parts.hostname or ""
    proxy = None if host in _LOCAL or proxy_bypass(host) else getproxies().get(parts.scheme)
    if proxy is None:
        return urllib3.PoolManager(**settings)
    named = urllib3.util.parse_url(proxy)
    own = urllib3.util.make_headers(proxy_basic_auth=named.auth) if named.auth else None
    return urllib3.ProxyManager(proxy, proxy_headers=own, **settings)


def _seconds(value: str | None) -> float | None:
    """Retry-After in seconds from now, by a number or a date; None where it is absent or neither."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        then = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    then = then if then.tzinfo else then.replace(tzinfo=datetime.UTC)
    return max(0.0, (then - datetime.datetime.now(datetime.UTC)).total_seconds())
