"""A service on this machine, in a thread, that answers as a test says and remembers what it was asked."""

import json
import threading
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit


class Asked(NamedTuple):
    """A request."""

    method: str
    path: str
    params: list[tuple[str, str]]
    headers: dict[str, str]
    body: Any


class Reply(NamedTuple):
    """An answer: `body` is bytes, or anything that becomes JSON."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = {}  # noqa: RUF012


DROP = "drop the connection"
STALL = "answer nothing until the service ends"


class Service:
    """`answer` makes the reply to a request; what is in `faults` (replies, DROP or STALL) comes first, each once."""

    def __init__(self, answer: Callable[[Asked], Any]) -> None:
        self.answer, self.faults, self.asked = answer, [], []
        self._lock, self._ends = threading.Lock(), threading.Event()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self):
                try:
                    super().handle_one_request()
                except ConnectionError:  # a client that gave up
                    self.close_connection = True

            def do_POST(self):
                parts = urlsplit(self.path)
                data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                params = parse_qsl(parts.query, keep_blank_values=True)
                asked = Asked(self.command, parts.path, params, headers, json.loads(data) if data else None)
                with service._lock:
                    service.asked.append(asked)
                    fault = service.faults.pop(0) if service.faults else None
                if fault in (DROP, STALL):
                    if fault == STALL:
                        service._ends.wait(60)
                    self.close_connection = True
                    return
                reply = fault if fault is not None else service.answer(asked)
                reply = reply if isinstance(reply, Reply) else Reply(reply)
                body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                self.send_response(reply.status)
                for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST

            def log_message(self, *_words):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_words):
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ends.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def serving(answer: Callable[[Asked], Any]):
    """A service for a while."""
    service = Service(answer)
    try:
        yield service
    finally:
        service.close()


def free_url() -> str:
    """The URL of a port that nobody listens at."""
    with serving(lambda _asked: None) as service:
        return service.url
