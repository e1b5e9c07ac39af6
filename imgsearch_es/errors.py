"""Every error this library raises on purpose.

Each says what happened, to which file, index or option, and what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any


class ImgsearchError(Exception):
    """Base of all errors of this library. ``str(error)`` is one sentence for a person.

    >>> index.search("xyzzy")
    Traceback (most recent call last):
        ...
    imgsearch_es.errors.UnknownWordError: no synset is named 'xyzzy' or includes it.
    """


class ConfigurationError(ImgsearchError):
    """An option, an argument or a configuration file is wrong."""


class MissingDependencyError(ImgsearchError):
    """An optional package is not installed; the message gives the command that installs it."""


def pip_install(extra: str) -> str:
    """The command that installs an extra: in a clone, while no package index has the project."""
    return f"pip install '.[{extra}]' in a clone of imgsearch_es"


def needed(module: str, what: str, extra: str) -> Any:
    """A module of an extra; MissingDependencyError says ``what`` needs it, and how to have it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingDependencyError(f"{what}: {pip_install(extra)}") from error


class SourceError(ImgsearchError):
    """A file or folder to index cannot be found or listed."""


class MissingPicturesError(SourceError):
    """Pictures of an index cannot be read again: ``pictures`` has (uri, reason) of each."""

    def __init__(self, message: str, pictures: Sequence[tuple[str, str]]) -> None:
        super().__init__(message)
        self.pictures = tuple(pictures)


class ImageError(ImgsearchError):
    """One picture cannot be read: its ``uri``, and the ``reason`` in a few words."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(f"{uri}: {reason}")
        self.uri = uri
        self.reason = reason


class ShortageError(ImageError):
    """One picture cannot be read for want of memory or time; another time it may be."""


class AnalyzerError(ImgsearchError):
    """An analyzer or one of its parts cannot be built or run."""


class WeightsError(AnalyzerError):
    """A model's weights are missing, unreadable, or do not fit the model."""


class AnalyzerMismatchError(AnalyzerError):
    """The index was built with another analyzer than the one it is opened with."""


class ExchangeError(ImgsearchError):
    """A file of documents cannot be read or written, or is not in the format."""


class EvaluationError(ImgsearchError):
    """Judgements, queries or runs cannot be read, or do not fit each other or the index."""


class LogError(ImgsearchError):
    """An interaction log cannot be read or written."""


class QueryError(ImgsearchError):
    """A query cannot be understood."""


class EmptyQueryError(QueryError):
    """A query has no synset to search for, as a picture of which the term filters left nothing."""


class UnknownWordError(QueryError):
    """No synset has this ``word`` or phrase; ``suggestions`` has the nearest, best first.

    ``why`` is the message where there is more to say.
    """

    def __init__(self, word: str, suggestions: Sequence[str] = (), why: str = "") -> None:
        quoted = [repr(suggestion) for suggestion in suggestions]
        near = " or ".join(filter(None, [", ".join(quoted[:-1]), *quoted[-1:]]))
        hint = f" Did you mean {near}?" if near else ""
        shown = word if len(word) <= 80 else f"{word[:77]}..."
        super().__init__(why or f"no synset is named {shown!r} or includes it.{hint}")
        self.word = word
        self.suggestions = tuple(suggestions)


class StoreError(ImgsearchError):
    """An index cannot be read or written."""


class IndexNotFoundError(StoreError):
    """There is no such index."""

    @classmethod
    def at(cls, place: object) -> IndexNotFoundError:
        """The error of a file or an address where none is."""
        return cls(f"there is no index at {place}; `imgsearch index` makes one")


class IndexLockedError(StoreError):
    """Another process holds the index file; the message names it."""


class NoRoomError(StoreError):
    """There is no room on the disk to write an index."""


class IndexRebuiltError(StoreError):
    """The index was rebuilt, perhaps with another analyzer, since it was opened."""


class SchemaError(StoreError):
    """The index was written by an incompatible version, or is not an index of ours."""


class ReconciliationError(StoreError):
    """The counts of a run do not add up, or the index does not hold what was written to it."""


class DamagedIndexError(StoreError):
    """An index was harmed: its parts do not agree, or cannot be read."""


class ServerError(StoreError):
    """Elasticsearch refused a request, failed, or cannot be reached."""


class UnsupportedServerError(ServerError):
    """The server is too old, too new for the installed client, or not Elasticsearch."""


@contextmanager
def telling(
    problem: str, say: type[Exception] = AnalyzerError, kind: type[Exception] = Exception
) -> Iterator[None]:
    """What libraries raise within becomes an error that a user understands."""
    try:
        yield
    except ImgsearchError:
        raise
    except kind as error:  # Keras's and TensorFlow's run on for pages
        raise say(f"{problem}: {reason_of(error)}") from error


def reason_of(error: Exception) -> str:
    """The first line of an error that says why, and not where."""
    text = str(error).rpartition("Exception encountered: ")[2]
    lines = filter(str.strip, text.partition(" Full object config:")[0].strip().splitlines())
    said = (line for line in lines if not line.startswith(("Exception from ", "Traceback ", " ")))
    return next(said, type(error).__name__).strip().rstrip(".")[:300]
