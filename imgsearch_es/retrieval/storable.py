"""What every store takes of a document: the same limits, whichever it is.

They are Elasticsearch's, of keywords and of a flattened field, and JSON's (RFC 8259).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.retrieval.documents import Document

TEXT_BYTES = 32_766
"""Of a keyword, in UTF-8: Lucene's longest term. A metadata value stands there with its path."""
DEPTH = 20
"""Objects and lists within each other, with the metadata itself."""
OWN_BYTES = 1_000_000
"""Of all labels, and of all metadata with their paths. 512 documents are written at once."""
_INTEGERS = range(-(2**63), 2**64)
"""What DuckDB reads from JSON exactly."""


def check_own(labels: Sequence[str], metadata: Mapping[str, Any]) -> None:
    """Look whether a person's labels and metadata can be stored and read again as they are.

    Raises:
        ConfigurationError: they cannot, and why.
    """
    for label in labels:
        if not isinstance(label, str):
            raise ConfigurationError(f"a label is {label!r:.60}, which is no text")
    size = sum(_text_bytes(label, "a label") for label in labels)
    if size > OWN_BYTES:
        raise ConfigurationError(f"labels have {OWN_BYTES:,} bytes at most, not {size:,}")
    if not isinstance(metadata, Mapping):
        raise ConfigurationError(f"metadata is {metadata!r:.60}, not values by their names")
    size = 0
    for path, text in _leaves(metadata, "", 1):
        size += _text_bytes(f"{path}\0{text}", _named(path))
        if size > OWN_BYTES:
            raise ConfigurationError(f"metadata has more than {OWN_BYTES:,} bytes")


def storable(documents: Iterable[Document]) -> tuple[list[Document], list[tuple[str, str]]]:
    """The documents that can be stored, of one id the last one; and (uri, reason) of the others."""
    taken: dict[str, Document] = {}
    refused = []
    for document in documents:
        try:
            _text_bytes(document.uri, "the URI")
            _text_bytes(document.filename, "the file's name")
            check_own(document.labels, document.metadata)
        except ConfigurationError as error:
            refused.append((document.uri, str(error)))
        else:
            taken[document.id] = document
    return list(taken.values()), refused


def _leaves(value: object, path: str, depth: int) -> Iterator[tuple[str, str]]:
    """The values in a JSON value as texts, each with the names that lead to it, dots between."""
    if isinstance(value, Mapping | list | tuple):
        if depth > DEPTH:
            raise ConfigurationError(f"metadata is nested deeper than {DEPTH} levels")
        yield path, ""
        if not isinstance(value, Mapping):
            for item in value:
                yield from _leaves(item, path, depth + 1)
            return
        for name, item in value.items():
            if not isinstance(name, str):
                raise ConfigurationError(f"a name in metadata is {name!r:.60}, which is no text")
            if "\0" in name:
                raise ConfigurationError(f"the name {name!r:.60} in metadata has a null character")
            yield from _leaves(item, f"{path}.{name}" if path else name, depth + 1)
    elif value is None or isinstance(value, str):
        yield path, value or ""
    elif isinstance(value, int):
        if value not in _INTEGERS:
            raise ConfigurationError(f"{_named(path)} has more than 64 bits: give it as a text")
        yield path, str(value)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ConfigurationError(f"{_named(path)} is {value}, which is no number of JSON")
        yield path, repr(value)
    else:
        kind = type(value).__name__
        raise ConfigurationError(f"{_named(path)} is of the type {kind}, which JSON does not have")


def _text_bytes(text: str, what: str) -> int:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ConfigurationError(f"{what} has half a character (a lone surrogate)") from None
    if size > TEXT_BYTES:
        raise ConfigurationError(f"{what} may have {TEXT_BYTES:,} bytes in UTF-8, not {size:,}")
    return size


def _named(path: str) -> str:
    shown = path if len(path) <= 60 else f"{path[:57]}..."
    return f"metadata.{shown}"
