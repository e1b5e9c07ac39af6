"""Errors as answers: one sentence, a status, and never a traceback or a secret."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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
from imgsearch_es.interfaces.server.uploads import UnknownPictureError
from imgsearch_es.pictures.files import filename

log = logging.getLogger("imgsearch_es.interfaces.server")

_STATUS: tuple[tuple[type[ImgsearchError], int], ...] = (
    (UnknownPictureError, 404),
    (QueryError, 400),
    (ConfigurationError, 400),
    (ImageError, 422),
    (SourceError, 400),
    (IndexLockedError, 503),
    (IndexNotFoundError, 503),
    (IndexRebuiltError, 503),
    (ServerError, 503),
    (MissingDependencyError, 501),
    (AnalyzerError, 500),
)


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as a person and a program are told it.

    Attributes:
        status: of HTTP.
        kind: a name for programs.
        message: a sentence for people.
        suggestions: words that would be found.
        headers: of the answer.
    """

    status: int
    kind: str
    message: str
    suggestions: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        readable = self.message.encode("utf-8", "backslashreplace").decode()
        object.__setattr__(self, "message", readable)  # it may quote half a character

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        detail: dict[str, Any] = {"kind": self.kind, "message": self.message}
        if self.suggestions:
            detail["suggestions"] = list(self.suggestions)
        return {"error": detail}


def problem_of(error: ImgsearchError, location: str) -> Problem:
    """An error of this library as an answer.

    Its sentence is for the person at this machine; where it names a place on it, a client is told
    what it is about.

    Args:
        error: what happened.
        location: of the index.
    """
    status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
    words = error.suggestions if isinstance(error, UnknownWordError) else ()
    headers = {"Retry-After": "5"} if status == 503 else {}
    message = str(error).replace(location, "the index")
    if isinstance(error, ImageError) and not error.uri.startswith(("http://", "https://")):
        message = f"{filename(error.uri)}: {error.reason}"
    if status in (500, 503):
        what = "pictures" if isinstance(error, AnalyzerError) else "the index"
        message = f"{what} cannot be used now; the server's log says why: {_logged(error)}"
    return Problem(status, type(error).__name__, message, words, headers)


def unexpected(error: Exception) -> Problem:
    """A mistake of ours: the log has all of it, the answer only where to look."""
    number = _logged(error)
    return Problem(
        500, "InternalError", f"something went wrong; the server's log says more: {number}"
    )


def _logged(error: Exception) -> str:
    """The number under which the log has an error; with a traceback where it is a mistake."""
    number = uuid.uuid4().hex[:8]
    if isinstance(error, ImgsearchError):
        log.warning("error %s: %s: %s", number, type(error).__name__, error)
    else:
        log.error("error %s", number, exc_info=error)
    return number


def invalid(details: Sequence[Mapping[str, Any]]) -> Problem:
    """A request that is not of the described form."""
    return Problem(422, "InvalidRequest", reason_of(details))


def reason_of(details: Sequence[Mapping[str, Any]]) -> str:
    """The first thing that is wrong, and where; what was sent is not repeated."""
    first = details[0]
    place = ".".join(str(part) for part in first.get("loc", ()) if part != "body")
    return f"{place}: {first['msg']}" if place else str(first["msg"])


NOT_FOUND = Problem(404, "NotFound", "there is nothing here")
