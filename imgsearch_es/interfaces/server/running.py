"""Listens and serves until Ctrl-C or SIGTERM, and ends in good order."""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.interfaces.server.app import create_app
from imgsearch_es.interfaces.server.batching import ServedIndex
from imgsearch_es.interfaces.server.connections import (
    ACCEPTED_AT_ONCE,
    HEAD_SECONDS,
    BoundedProtocol,
    allow_connections,
    limit_log_lines,
)
from imgsearch_es.interfaces.server.guard import Guard
from imgsearch_es.interfaces.server.settings import ServerSettings

_GRACE_SECONDS = 5
"""How long those who are being served may go on after Ctrl-C."""
_BACKLOG = 4096
"""Connections that the system keeps until they are accepted."""


def run_server(
    index: ServedIndex,
    settings: ServerSettings,
    *,
    warm_up: bool = True,
    tell: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve an index until the process is asked to stop.

    Args:
        index: it is closed at the end.
        settings: where to listen, and more.
        warm_up: load the model at the start.
        tell: called with the URL once connections are accepted.

    Raises:
        IndexNotFoundError: there is no such index.
        ConfigurationError: the address is in use, or not of this machine.
    """
    index.count()  # an index that cannot be read is an error now, not at the first search
    allow_connections()
    limit_log_lines()
    listening = listen(settings.host, settings.port)
    app, _ = create_app(index, settings, warm_up=warm_up)
    tell(url_of(settings.host, listening.getsockname()[1]))
    with listening:
        _Server(config_of(app)).run(sockets=[listening])


def config_of(app: Guard) -> uvicorn.Config:
    """How the application is run: no log of requests, no trust in proxies that are not named."""
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=bool(app.settings.proxies),
        forwarded_allow_ips=app.settings.believed,
        backlog=ACCEPTED_AT_ONCE,
        timeout_keep_alive=HEAD_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        h11_max_incomplete_event_size=64 * 1024,
        http=BoundedProtocol,
        ws="none",
    )


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ConfigurationError: the address is in use, or not of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ConfigurationError(f"{host} is no address of this machine") from error
    found = _Listening(family, kind, protocol)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen()
    except OSError as error:
        found.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigurationError(
                f"port {port} of {host} is in use: stop what uses it, or choose another with --port"
            ) from error
        raise ConfigurationError(
            f"cannot listen on {host} port {port}: {os.strerror(error.errno or 0)}"
        ) from error
    return found


def url_of(host: str, port: int) -> str:
    """What to type into a browser on this machine."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104
    return f"http://{f'[{shown}]' if ':' in shown and shown[0] != '[' else shown}:{port}/"


class _Listening(socket.socket):
    """Keeps its own backlog: asyncio sets it to the number that it accepts at once."""

    def listen(self, backlog: int = _BACKLOG, /) -> None:
        super().listen(_BACKLOG)


class _Server(uvicorn.Server):
    """Ends with exit code 0 when asked to stop; uvicorn's own would raise the signal again."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {
            number: signal.signal(number, self.handle_exit)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
