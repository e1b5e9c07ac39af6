"""A server in a thread, and a client for it."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch

import urllib3
import uvicorn

from imgsearch_es.interfaces.server.app import config_of, create_app, listen, url_of
from imgsearch_es.interfaces.server.batching import ServedIndex
from imgsearch_es.interfaces.server.guard import ServerSettings
from imgsearch_es.interfaces.server.services import Services
from tests.conftest import PATIENCE

TOKEN = "a-token-of-tests-0123456789"  # noqa: S105
BEARER = {"Authorization": f"Bearer {TOKEN}"}


Start = Callable[..., AbstractContextManager["Client"]]
"""Starts a server of an index with settings."""


class Client:
    """Sends requests to a server of this process."""

    def __init__(self, url: str, services: Services) -> None:
        self.url = url.rstrip("/")
        self.services = services
        self.headers: dict[str, str] = {}
        self._pool = urllib3.PoolManager(retries=False, timeout=PATIENCE)

    def __call__(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **options: Any
    ) -> urllib3.BaseHTTPResponse:
        sent = {**self.headers, **(headers or {})}
        return self._pool.request(method, self.url + path, headers=sent, redirect=False, **options)

    def get(self, path: str, **options: Any) -> urllib3.BaseHTTPResponse:
        return self("GET", path, **options)

    def post(self, path: str, body: object, **options: Any) -> urllib3.BaseHTTPResponse:
        return self("POST", path, json=body, **options)

    def upload(self, path: str, *pictures: Path | bytes, **fields: str) -> Any:
        data = [one.read_bytes() if isinstance(one, Path) else one for one in pictures]
        form = [("picture", ("picture", content)) for content in data]
        return self("POST", path, fields=[*form, *fields.items()])

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", int(self.url.rpartition(":")[2])

    def close(self) -> None:
        self._pool.clear()


def patient(settings: ServerSettings) -> ServerSettings:
    """The usual limits are those of a busy machine; others are what a test is about."""
    usual, limits = ServerSettings(), settings.upload_limits
    if settings.request_seconds == usual.request_seconds:
        settings = replace(settings, request_seconds=2 * PATIENCE)
    if limits == usual.upload_limits:
        settings = replace(settings, upload_limits=replace(limits, max_seconds=PATIENCE))
    return settings


@contextmanager
def serving(index: ServedIndex, settings: ServerSettings) -> Iterator[Client]:
    """Serve an index from a thread of this process."""
    settings = patient(settings)
    listening = listen(settings.host, settings.port)
    app, services = create_app(index, settings, warm_up=False)
    with patch("logging.config.dictConfig"):  # it closes what others log to: absl's, pytest's file
        config = config_of(app)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        client = Client(url_of(settings.host, listening.getsockname()[1]), services)
        yield client
        client.close()
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        listening.close()
    assert not thread.is_alive()


@contextmanager
def answering(
    handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext | None = None
) -> Iterator[ThreadingHTTPServer]:
    """A server whose answers the test makes up."""
    handler.log_message = lambda *_: None  # type: ignore[method-assign]
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def json_of(response: urllib3.BaseHTTPResponse, status: int = 200) -> Any:
    """The JSON of an answer that has this status."""
    assert response.status == status, response.data[:500]
    return json.loads(response.data)
