"""Rows of files: one document as a row, and back again, with every value checked."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.analysis.configuration import describe
from imgsearch_es.analysis.terms import to_word_count
from imgsearch_es.errors import ConfigurationError, ExchangeError, SchemaError, needed
from imgsearch_es.pictures.files import filename, in_memory, picture_id, to_uri
from imgsearch_es.pictures.photo import Photo
from imgsearch_es.retrieval.documents import SCHEMA_VERSION, Document, Postings, terms_of
from imgsearch_es.retrieval.spans import moment_of
from imgsearch_es.stores.base import IndexSettings
from imgsearch_es.vocabulary.colors import is_color

FORMAT_VERSION = 1
"""Of the files; raised by one whenever a reader of the older form would misunderstand them."""
HEADER = "imgsearch_es"
"""The name under which a file keeps its version and the settings of the index."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_FORMAT = re.compile(r"[A-Za-z0-9]{1,20}")
_SMALLEST_SCORE = float(np.finfo(np.float32).tiny)
_LARGEST_SCORE = 2.0**62
"""Sums and products of more would leave float32."""
_LARGEST = {"width": 2**31 - 1, "height": 2**31 - 1, "bytes": 2**63 - 1}
_AS_THEY_ARE = (
    *("id", "uri", "filename", "sha256", "width", "height", "bytes", "format", "indexed_at"),
    "embedding",
)
_BATCH_ROWS = 512
PARQUET = {"compression": "zstd", "write_page_checksum": True}
"""How it is written."""
T = TypeVar("T")


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """So many items at a time."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


class RowError(Exception):
    """A row is no document; ``str(error)`` says why."""


@contextmanager
def refusing(problem: str) -> Iterator[None]:
    """Make a RowError of what values of a wrong kind raise."""
    try:
        yield
    except (ConfigurationError, IndexError, OverflowError, TypeError, ValueError) as error:
        raise RowError(f"{problem}: {error}") from error


class Row(NamedTuple):
    """A row of a file, and what it says it is of, if anything."""

    number: int
    """The line of a text, else counted from 1."""
    uri: str
    values: Any
    """As ``to_row`` makes them; of deep features a `Feature`; or a RowError."""

    @classmethod
    def of(cls, number: int, read: Callable[[T], dict[str, Any]], raw: T) -> Row:
        """A row of a document, by what reads its values, or raises a RowError."""
        try:
            values = read(raw)
        except RowError as error:
            return cls(number, "", error)
        return cls(number, str(values.get("uri", "")), values)


def import_parquet(instead: str) -> Any:
    """PyArrow with its Parquet; MissingDependencyError names what to use ``instead``."""
    needed("pyarrow.parquet", f"Parquet needs pyarrow (or use {instead})", "parquet")
    return import_module("pyarrow")


def open_parquet(path: Path, instead: str) -> Any:
    """A Parquet file whose pages are checked as they are read; ExchangeError if it cannot be."""
    arrow = import_parquet(instead)
    try:
        return arrow.parquet.ParquetFile(path, page_checksum_verification=True)
    except (OSError, UnicodeEncodeError, arrow.ArrowException) as error:
        raise ExchangeError(f"cannot read {path}: {error}") from error


def parquet_rows(path: Path, file: Any, columns: list[str]) -> Iterator[dict[str, Any]]:
    """These columns of one record batch after the other; the file is closed in the end."""
    import pyarrow

    number = 0
    with closing(file):
        batches = file.iter_batches(batch_size=_BATCH_ROWS, columns=columns)
        while True:
            try:
                batch = next(batches, None)
                rows = [] if batch is None else batch.to_pylist()
            except (OSError, OverflowError, ValueError, pyarrow.ArrowException) as error:
                problem = f"cannot read {path} after row {number}: {error}"
                raise ExchangeError(problem) from error
            if batch is None:
                return
            number += len(rows)
            yield from rows


def from_header(header: object, place: str) -> IndexSettings:
    """The settings in what a file says of all its documents; ExchangeError if it is wrong."""
    if not isinstance(header, Mapping):
        raise ExchangeError(
            f"{place} does not say which analyzer made its documents: it has no {HEADER!r} "
            "(see docs/exchange.md)"
        )
    version = header.get("format_version")
    if version != FORMAT_VERSION:
        raise ExchangeError(
            f"{place} has the format version {version!r}, this imgsearch-es knows "
            f"{FORMAT_VERSION}: upgrade this installation, or write the file again"
        )
    try:
        model = header["analyzer"]["model"]["name"]
        dimensions, weights = header["embedding_dimensions"], header["weights"]
        if not isinstance(model, str) or not isinstance(weights, str):
            raise TypeError("the model's name and weights are texts")
        if type(dimensions) is not int or dimensions < 0:
            raise TypeError("embedding_dimensions is a whole number")
        analyzer = {"image_filters": [], "term_filters": [], **header["analyzer"]}
        describe(analyzer)  # its parts have names
        if words := to_word_count(analyzer.pop("visual_words", False)):
            analyzer["visual_words"] = words
        complete = {"schema_version": SCHEMA_VERSION, **header, "analyzer": analyzer}
        return IndexSettings.from_dict(complete)
    except (
        *(AttributeError, KeyError, TypeError, ValueError),
        *(ConfigurationError, SchemaError),
    ) as error:
        raise ExchangeError(f"{place}: its {HEADER!r} is incomplete or wrong: {error}") from error


def to_row(document: Document, picture: bytes | None) -> dict[str, Any]:
    """A document as the values of a row; ``picture`` is the bytes of its file."""
    return {
        **{name: getattr(document, name) for name in _AS_THEY_ARE},
        "label": list(document.labels),
        "metadata": dict(document.metadata),
        "synsets": [term.key for term in document.postings],
        "scores": [term.score for term in document.postings],
        "views": document.views,
        "photo": document.photo.to_dict() or None,
        "text": document.text,
        "thumbnail": document.thumbnail or None,
        "picture": picture,
    }


def to_document(row: Mapping[str, Any], settings: IndexSettings) -> Document:
    """The document in a row as ``to_row`` makes it; docs/exchange.md says what may be missing."""
    uri = _uri(row)
    key = picture_id(uri)
    if row.get("id") not in (None, key):
        raise RowError(f"the id {row['id']!r} is not that of the URI, {key}; it may be left out")
    sha256 = _typed(row, "sha256", str)
    if not _SHA256.fullmatch(sha256):
        raise RowError("sha256 is not 64 lower-case hexadecimal digits")
    form = _typed(row, "format", str)
    if not _FORMAT.fullmatch(form):
        raise RowError(f"format is not a name such as JPEG: {form!r}")
    labels, metadata = row.get("label") or [], row.get("metadata")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise RowError("label is not a list of texts")
    if not isinstance(metadata, dict | None):
        raise RowError("metadata is no JSON object")
    taken, thumbnail = row.get("photo"), row.get("thumbnail") or ""
    if not isinstance(taken, dict | None):
        raise RowError("photo is no JSON object")
    with refusing("photo"):
        photo = Photo.from_dict(taken or {})
    with refusing("thumbnail is not base64"):
        base64.b64decode(thumbnail, validate=True)
    return Document(
        id=key,
        uri=uri,
        filename=_typed(row, "filename", str) if row.get("filename") else filename(uri),
        sha256=sha256,
        width=_number(row, "width"),
        height=_number(row, "height"),
        bytes=_number(row, "bytes"),
        format=form,
        indexed_at=_moment(row.get("indexed_at")),
        labels=tuple(labels),
        metadata=metadata or {},
        **_terms(row, settings),
        embedding=_embedding(row.get("embedding"), settings.embedding_dimensions),
        photo=photo,
        text=None if row.get("text") is None else _typed(row, "text", str),
        thumbnail=thumbnail,
    )


def _uri(row: Mapping[str, Any]) -> str:
    uri = _typed(row, "uri", str)
    try:
        uri.encode("utf-8")
        normal = to_uri(uri)
    except UnicodeEncodeError:
        raise RowError("uri is not valid text; write file:// with percent-encoding") from None
    except ConfigurationError as error:
        raise RowError(f"uri: {error}") from error
    if normal != uri:
        raise RowError(f"uri is {uri!r}, an index says {normal!r}")
    return uri


def _typed(row: Mapping[str, Any], name: str, kind: type[T]) -> T:
    value = row.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise RowError(f"{name} is missing" if value is None else f"{name} is {value!r:.60}")
    return value


def _number(row: Mapping[str, Any], name: str) -> int:
    value = _typed(row, name, int)
    unread = row.get("bytes") == 0 and row.get("width") == 0 and row.get("height") == 0
    least = 0 if unread or name == "bytes" else 1
    if not least <= value <= _LARGEST[name]:
        raise RowError(f"{name} is {value}")
    return value


def _moment(value: object) -> datetime:
    """A time, cut to the millisecond: Elasticsearch compares no more of it."""
    if value is None:
        return datetime.now(timezone.utc).replace(microsecond=0)
    try:
        moment = value if isinstance(value, datetime) else moment_of(str(value))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        kept = moment.astimezone(timezone.utc).isoformat(timespec="milliseconds")
        return datetime.fromisoformat(kept)  # that of pandas has nanoseconds, too
    except (ValueError, OverflowError):  # as of year 1, east of Greenwich
        raise RowError(f"indexed_at is no ISO 8601 time: {value!r:.60}") from None


def _terms(row: Mapping[str, Any], settings: IndexSettings) -> Postings:
    """The synsets and colors of a row, as ``documents.terms_of`` gives them."""
    keys, scores = row.get("synsets"), row.get("scores")
    if not isinstance(keys, list) or not isinstance(scores, list) or len(keys) != len(scores):
        raise RowError("synsets and scores are not two lists of the same length")
    if len(set(map(str, keys))) != len(keys):
        raise RowError("a synset stands twice in synsets")
    terms = []
    for key, value in zip(keys, scores, strict=True):
        if not isinstance(key, str) or key not in settings.vocabulary:
            raise RowError(f"the vocabulary has no synset {key!r:.60}")
        is_number = isinstance(value, int | float | np.floating) and not isinstance(value, bool)
        is_number &= not isinstance(value, int) or abs(value) < 2**128
        with np.errstate(over="ignore", under="ignore"):
            score = float(np.float32(value)) if is_number else 0.0
        if not _SMALLEST_SCORE <= score <= _LARGEST_SCORE:
            problem = "not a number above 0 and up to 2^62"
            raise RowError(f"the score of {key} is {value!r:.60}, {problem}")
        terms.append(Term(key, score))
    order = [(is_color(term.key), -term.score) for term in terms]
    if order != sorted(order):
        raise RowError("synsets are not in the order of their scores, best first, then colors")
    views = row.get("views") if "views" in settings.analyzer else None  # no reader asks for them
    if views is not None and (not isinstance(views, list) or len(views) != len(terms)):
        raise RowError("views is not a list as long as synsets")
    if any(view is not None and type(view) is not int for view in views or ()):
        raise RowError("views has something that is no whole number")
    with refusing("views"):
        return terms_of([term.key for term in terms], [term.score for term in terms], views)


def _embedding(value: Any, dimensions: int) -> NDArray[np.float32] | None:
    if value is None:
        return None
    try:
        with np.errstate(over="ignore"):
            vector = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError, OverflowError):
        raise RowError("embedding is no list of numbers") from None
    if vector.shape != (dimensions,):
        raise RowError(f"embedding has {vector.size} numbers, the file's analyzer {dimensions}")
    if not np.isfinite(vector).all():
        raise RowError("embedding has a number that is not finite")
    return vector


class FeatureReader:
    """Makes documents of features; the first one says the dimensions, and no path comes twice."""

    def __init__(self, folder: Path | None, dimensions: int) -> None:
        self._folder, self.dimensions = folder, dimensions
        self._limit = f"the index's have {dimensions}"
        self.seen: set[bytes] = set()

    def document(self, row: Row) -> Document:
        """The document of a row; RowError where there is none."""
        path, vector, labels = row.values
        if not self.dimensions:
            self.dimensions = len(vector)
            self._limit = f"row {row.number} and the others have {self.dimensions}"
        if len(vector) != self.dimensions:
            raise RowError(f"it has {len(vector)} features, {self._limit}")
        is_whole = Path(path).is_absolute() or in_memory(path) or "://" in path or path[0] == "~"
        with refusing("path"):
            uri = to_uri(path if is_whole or self._folder is None else self._folder / path)
        key = picture_id(uri)
        if (identity := bytes.fromhex(key)) in self.seen:
            raise RowError("this path stands twice in the file")
        self.seen.add(identity)
        return Document.from_feature(key, uri, filename(uri), vector, labels)
