"""The application: routes, errors and the door, around one index."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles

import imgsearch_es
from imgsearch_es.errors import ImgsearchError
from imgsearch_es.interfaces.server import api, changing, page
from imgsearch_es.interfaces.server.answers import (
    NOT_FOUND,
    Problem,
    invalid,
    problem_of,
    unexpected,
)
from imgsearch_es.interfaces.server.batching import ServedIndex
from imgsearch_es.interfaces.server.guard import Guard
from imgsearch_es.interfaces.server.services import ProblemError, Services, services_of
from imgsearch_es.interfaces.server.settings import ServerSettings

_DESCRIPTION = """
Image search with a classifier as the analyzer. Answers are what the command line prints with
`--json`. Errors are `{"error": {"kind", "message", "suggestions"}}`.
"""


def create_app(
    index: ServedIndex, settings: ServerSettings, *, warm_up: bool = True
) -> tuple[Guard, Services]:
    """The ASGI application that serves an index, and its parts.

    Args:
        index: it is closed when the server ends.
        settings: of the server.
        warm_up: load the model at the start, so that no search waits for it.
    """
    services = Services(index, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(services.warm_up()) if warm_up else None
        yield
        if warming is not None:
            warming.cancel()
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
    app.include_router(changing.router)
    app.include_router(api.router)
    app.include_router(page.router)
    static = Path(str(files("imgsearch_es.interfaces.server") / "static"))
    app.mount("/static", StaticFiles(directory=static), name="static")
    _handle_errors(app)
    return Guard(app, settings, services.metrics), services


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(ImgsearchError)
    async def of_library(request: Request, error: Exception) -> Response:
        location = services_of(request).index.location
        return _answer(request, problem_of(cast(ImgsearchError, error), location))

    @app.exception_handler(ProblemError)
    async def of_route(request: Request, error: Exception) -> Response:
        return _answer(request, cast(ProblemError, error).problem)

    @app.exception_handler(RequestValidationError)
    async def of_form(request: Request, error: Exception) -> Response:
        details: Sequence[Any] = cast(RequestValidationError, error).errors()
        return _answer(request, invalid(details))

    @app.exception_handler(ClientDisconnect)
    async def of_nobody(request: Request, error: Exception) -> Response:
        return _answer(request, Problem(400, "Disconnected", "the body did not come"))

    @app.exception_handler(Exception)
    async def of_ours(request: Request, error: Exception) -> Response:
        return _answer(request, unexpected(error))

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: Exception) -> Response:
        found = cast(HTTPException, error)
        problem = Problem(found.status_code, "HttpError", found.detail)
        return _answer(request, NOT_FOUND if found.status_code == 404 else problem)


def _answer(request: Request, problem: Problem) -> Response:
    if request.url.path in page.PATHS:
        return page.problem_page(request, problem)
    return JSONResponse(problem.to_dict(), problem.status, dict(problem.headers))
