"""Errors as answers: one sentence, a status, and never a traceback or a secret."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, JSONResponse, Response

from imgsearch_es.errors import (
    AnalyzerError,
    ConfigurationError,
    ImageError,
    ImgsearchError,
    IndexLockedError,
    IndexNotFoundError,
    IndexRebuiltError,
    MissingDependencyError,
    QueryError,
    ServerError,
    SourceError,
    UnknownWordError,
)
from imgsearch_es.interfaces.html import render
from imgsearch_es.interfaces.server.uploads import UnknownPictureError
from imgsearch_es.pictures.files import filename

log = logging.getLogger("imgsearch_es.interfaces.server")

RETRY_SOON = {"Retry-After": "5"}
_STATUS: dict[type[ImgsearchError], int] = {
    UnknownPictureError: 404, QueryError: 400, ConfigurationError: 400, ImageError: 422,
    SourceError: 400, IndexLockedError: 503, IndexNotFoundError: 503, IndexRebuiltError: 503,
    ServerError: 503, MissingDependencyError: 501, AnalyzerError: 500,
}  # fmt: skip
"""The first that fits counts."""


class ProblemError(Exception):
    """An error as a person (by a sentence) and a program (by its kind) are told it."""

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        headers: Mapping[str, str] | None = None,
        suggestions: Sequence[str] = (),
    ) -> None:
        self.status, self.kind = status, kind
        self.message = message.encode("utf-8", "backslashreplace").decode()  # half a character
        self.headers = headers
        self.suggestions = list(suggestions)
        super().__init__(self.message)

    def answer(self, headers: Mapping[str, str]) -> Response:
        """A page for a person who opened the address, else JSON."""
        if wants_page(headers):
            return HTMLResponse(render("error.html", problem=self), self.status, self.headers)
        return self.response()

    def response(self) -> JSONResponse:
        detail: dict[str, Any] = {"kind": self.kind, "message": self.message}
        if self.suggestions:
            detail["suggestions"] = self.suggestions
        return JSONResponse({"error": detail}, self.status, self.headers)


def wants_page(headers: Mapping[str, str]) -> bool:
    """Whether a browser asks for something to show to a person, by its ``Accept`` header."""
    return "text/html" in headers.get("accept", "")


def problem_of(error: Exception, location: str) -> ProblemError:
    """An error as an answer, without places on this machine."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, RequestValidationError):
        return ProblemError(422, "InvalidRequest", reason_of(error.errors()))
    if isinstance(error, ClientDisconnect):
        return ProblemError(400, "Disconnected", "the body did not come")
    if isinstance(error, HTTPException):
        if error.status_code == 404:
            return not_found()
        return ProblemError(error.status_code, "HttpError", error.detail, error.headers)
    if not isinstance(error, ImgsearchError):
        return unexpected(error)
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    message = str(error).replace(location, "the index")
    if isinstance(error, ImageError) and not error.uri.startswith(("http://", "https://")):
        message = f"{filename(error.uri)}: {error.reason}"
    if isinstance(error, IndexNotFoundError):
        message = "it appears here as soon as it is made:"
    elif isinstance(error, IndexLockedError):
        message = "another program is writing it, such as `imgsearch index`: try again in a moment"
        log.warning("%s", error)
    elif status in (500, 503):
        what = "pictures" if isinstance(error, AnalyzerError) else "the index"
        message = f"{what} cannot be used now; the server's log says why: {_logged(error)}"
    words = error.suggestions if isinstance(error, UnknownWordError) else ()
    headers = RETRY_SOON if status == 503 else None
    return ProblemError(status, type(error).__name__, message, headers, words)


def unexpected(error: Exception) -> ProblemError:
    """A mistake of ours: the log has all of it, the answer only where to look."""
    message = f"something went wrong; the server's log says more: {_logged(error)}"
    return ProblemError(500, "InternalError", message)


def not_found() -> ProblemError:
    """What is asked for is not here."""
    return ProblemError(404, "NotFound", "there is nothing here")


def _logged(error: Exception) -> str:
    """The number under which the log has an error; with a traceback where it is a mistake."""
    number = uuid.uuid4().hex[:8]
    if isinstance(error, ImgsearchError):
        log.warning("error %s: %s: %s", number, type(error).__name__, error)
    else:
        log.error("error %s", number, exc_info=error)
    return number


def reason_of(details: Sequence[Mapping[str, Any]]) -> str:
    """The first thing that is wrong with a request, and where; what was sent is not repeated."""
    first = details[0]
    place = ".".join(str(part) for part in first.get("loc", ()) if part != "body")
    return f"{place}: {first['msg']}" if place else str(first["msg"])
