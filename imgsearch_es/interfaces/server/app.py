"""The application around one index: routes, errors and the door; and how it listens and ends."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.resources import files
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles

import imgsearch_es
from imgsearch_es.errors import ConfigurationError, ImgsearchError
from imgsearch_es.interfaces.server import api, page
from imgsearch_es.interfaces.server.answers import ProblemError, problem_of
from imgsearch_es.interfaces.server.batching import ServedIndex
from imgsearch_es.interfaces.server.connections import (
    ACCEPTED_AT_ONCE,
    HEAD_SECONDS,
    BoundedProtocol,
    allow_connections,
    limit_log_lines,
)
from imgsearch_es.interfaces.server.guard import Guard, ServerSettings
from imgsearch_es.interfaces.server.services import Services, services_of
from imgsearch_es.stores.interrupts import interrupt

_DESCRIPTION = """
Image search with a classifier as the analyzer. Answers are what the command line prints with
`--json`. Errors are `{"error": {"kind", "message", "suggestions"}}`.
"""
_ERRORS = (
    ImgsearchError, ProblemError, RequestValidationError, ClientDisconnect, HTTPException, Exception
)  # fmt: skip
_GRACE_SECONDS = 5
"""How long those who are being served may go on after Ctrl-C."""
_BACKLOG = 4096
"""Connections that the system keeps until they are accepted."""


def run_server(
    index: ServedIndex,
    settings: ServerSettings,
    *,
    warm_up: bool = True,
    wait: bool = False,
    tell: Callable[[str], None] = lambda url: None,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Serve an index until the process is asked to stop, and close it.

    With ``warm_up`` the model is loaded at the start; with ``wait`` an index that does not exist,
    or whose server does not answer, is waited for while the page says so. ``tell`` is called with
    the URL once connections are accepted, ``say`` with lines for the terminal.
    """
    if not wait:
        index.count()  # an index that cannot be read is an error now, not at the first search
    allow_connections()
    limit_log_lines()
    listening = listen(settings.host, settings.port)
    app, _ = create_app(index, settings, warm_up=warm_up, say=say)
    tell(url_of(settings.host, listening.getsockname()[1]))
    with listening:
        _Server(config_of(app)).run(sockets=[listening])


def create_app(
    index: ServedIndex,
    settings: ServerSettings,
    *,
    warm_up: bool = True,
    say: Callable[[str], None] | None = None,
) -> tuple[Guard, Services]:
    """The ASGI application that serves an index, and its parts; see `run_server`."""
    services = Services(index, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks = []
        if warm_up or say:
            ready = services.get_ready(warm_up=warm_up, say=say or (lambda line: None))
            tasks.append(asyncio.create_task(ready))
        services.searchers.start()
        yield
        for task in tasks:
            task.cancel()
        services.close()

    app = FastAPI(
        title="imgsearch_es",
        description=_DESCRIPTION,
        version=imgsearch_es.__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.services = services
    for router in (api.changes, api.router, page.router):
        app.include_router(router)
    static = Path(str(files("imgsearch_es.interfaces.server") / "static"))
    app.mount("/static", GZipMiddleware(StaticFiles(directory=static)), name="static")
    for kind in _ERRORS:
        app.add_exception_handler(kind, _answer)
    return Guard(app, settings, services.metrics), services


async def _answer(request: Request, error: Exception) -> Response:
    """An error as an answer of the API, or as a page where one was asked for."""
    problem = problem_of(error, services_of(request).index.location)
    is_page = request.url.path in page.PATHS
    return page.problem_page(request, problem) if is_page else problem.answer(request.headers)


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
    """A socket that listens."""
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
        why = f"cannot be listened on: {os.strerror(error.errno or 0)}"
        if error.errno == errno.EADDRINUSE:
            why = "is in use: stop what uses it, or choose another with --port"
        raise ConfigurationError(f"port {port} of {host} {why}") from error
    return found


def url_of(host: str, port: int) -> str:
    """What to type into a browser on this machine."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"


class _Listening(socket.socket):
    """Keeps its own backlog: asyncio sets it to the number that it accepts at once."""

    def listen(self, backlog: int = _BACKLOG, /) -> None:
        super().listen(_BACKLOG)


class _Server(uvicorn.Server):
    """Ends with exit code 0 when asked to stop; uvicorn's own would raise the signal again."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        asked = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in asked}
        try:
            interrupt.check()
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
