"""A proxy between client and server that gets in the way: HTTP/1.1, standard library only.

``Proxy.fault`` is asked about every request. None lets it pass; an Answer is given in the server's
place; a Cut closes the connection, before or after the server has done what was asked; a Refusal
takes documents out of a bulk request and reports them as refused; a Stall answers nothing.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

PASSED_ON = ("Content-Type", "Accept", "Authorization", "X-Elastic-Client-Meta")


@dataclass(frozen=True)
class Request:
    """What a client asks for; ``number`` counts from 1, writes on their own."""

    method: str
    path: str
    body: bytes
    number: int

    @property
    def is_write(self) -> bool:
        """Whether it is a bulk request of documents, and not of the ledger."""
        return self.path.partition("?")[0].endswith("/_bulk") and "-rejected/" not in self.path


class Answer(NamedTuple):
    """An answer in the server's place."""

    status: int
    body: dict[str, Any] | bytes = {}  # noqa: RUF012 - which nobody changes
    product: str = ""


class Cut(NamedTuple):
    """The end of the connection."""

    applied: bool


class Stall(NamedTuple):
    """Silence, and the end of the connection after it."""

    seconds: float


class Refusal(NamedTuple):
    """Every so-manieth document of a bulk request is refused and does not reach the server."""

    every: int
    status: int
    kind: str


Fault = Answer | Cut | Stall | Refusal | None


class Proxy:
    """Stands in front of ``target``, which may change (a node that restarts has another port)."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.fault: Callable[[Request], Fault] = lambda request: None
        self.requests: list[Request] = []
        self._lock = threading.Lock()

    def note(self, method: str, path: str, body: bytes) -> Request:
        """Count a request."""
        with self._lock:
            request = Request(method, path, body, len(self.requests) + 1)
            if request.is_write:
                number = sum(each.is_write for each in self.requests) + 1
                request = replace(request, number=number)
            self.requests.append(request)
            return request

    def forward(self, request: Request, headers: dict[str, str]) -> tuple[int, Any, bytes]:
        """What the server answers."""
        place = urlsplit(self.target)
        server = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
        try:
            server.request(request.method, request.path, request.body or None, headers)
            answer = server.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            server.close()


@contextmanager
def proxy(target: str) -> Iterator[tuple[Proxy, str]]:
    """A running proxy, and its URL."""
    state = Proxy(target)

    handler = type("Handler", (_Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield state, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Proxy

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            self.close_connection = True  # the client has gone

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = self.state.note(self.command, self.path, body)
        headers = {name: self.headers[name] for name in PASSED_ON if name in self.headers}
        fault = self.state.fault(request)
        if isinstance(fault, Stall):
            time.sleep(fault.seconds)
            return self.cut()
        if isinstance(fault, Answer):
            body = fault.body
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            told = {"Content-Type": "application/json", "X-Elastic-Product": fault.product}
            return self.answer(fault.status, told, content)
        if isinstance(fault, Cut) and not fault.applied:
            return self.cut()
        try:
            if isinstance(fault, Refusal):
                return self.answer(*self.refuse(request, headers, fault))
            status, sent, content = self.state.forward(request, headers)
        except (OSError, http.client.HTTPException):
            return self.cut()  # the server has gone: as without a proxy
        if isinstance(fault, Cut):
            return self.cut()
        return self.answer(status, sent, content)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815

    def refuse(
        self, request: Request, headers: dict[str, str], fault: Refusal
    ) -> tuple[int, Any, bytes]:
        lines = request.body.rstrip(b"\n").split(b"\n")
        pairs = [lines[start : start + 2] for start in range(0, len(lines), 2)]
        taken = set(range(0, len(pairs), fault.every))
        passed = [line for i, pair in enumerate(pairs) if i not in taken for line in pair]
        items: list[Any] = []
        sent: Any = {"Content-Type": "application/json", "X-Elastic-Product": "Elasticsearch"}
        if passed:
            less = Request("PUT", request.path, b"\n".join(passed) + b"\n", 0)
            _, sent, content = self.state.forward(less, headers)
            items = json.loads(content)["items"]
        for place in sorted(taken):
            ((action, what),) = json.loads(pairs[place][0]).items()
            error = {"type": fault.kind, "reason": "refused on the way"}
            items.insert(place, {action: {**what, "status": fault.status, "error": error}})
        answer = json.dumps({"took": 1, "errors": True, "items": items}).encode()
        return 200, sent, answer

    def answer(self, status: int, headers: Any, content: bytes) -> None:
        self.send_response_only(status)
        for name in ("Content-Type", "X-Elastic-Product", "Date"):
            if headers.get(name):
                self.send_header(name, headers[name])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: Any) -> None:
        pass
