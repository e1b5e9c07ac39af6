"""What every store takes: Elasticsearch's limits of keywords and flattened fields, and JSON's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import ConfigurationError

TEXT_BYTES = 32_766
"""Of a keyword, in UTF-8: Lucene's longest term. A metadata value stands there with its path."""
DEPTH = 20
"""Objects and lists within each other, with the metadata itself."""
OWN_BYTES = 1_000_000
"""Of all labels, and of all metadata with their paths. 512 documents are written at once."""
LONGEST_FEATURE = 2.0**62
"""Of a deep feature: Elasticsearch squares differences in float32, which ends at 2^128."""
_INTEGERS = range(-(2**63), 2**64)
"""What DuckDB reads from JSON exactly."""


def check_own(labels: Sequence[str], metadata: Mapping[str, Any]) -> None:
    """Refuse labels and metadata that cannot be stored and read again, by a ConfigurationError."""
    for label in labels:
        if not isinstance(label, str):
            raise ConfigurationError(f"a label is {label!r:.60}, which is no text")
    size = sum(text_bytes(label, "a label") for label in labels)
    if size > OWN_BYTES:
        raise ConfigurationError(f"labels have {OWN_BYTES:,} bytes at most, not {size:,}")
    if not isinstance(metadata, Mapping):
        raise ConfigurationError(f"metadata is {metadata!r:.60}, not values by their names")
    size = 0
    for path, text in leaves(metadata, "", 1):
        size += text_bytes(f"{path}\0{text}", _named(path))
        if size > OWN_BYTES:
            raise ConfigurationError(f"metadata has more than {OWN_BYTES:,} bytes")


def check_feature(vector: NDArray[np.float32]) -> None:
    """Refuse a deep feature that cannot be compared, by a ConfigurationError."""
    if not np.isfinite(vector).all():
        raise ConfigurationError("its deep feature has a number that is not finite")
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if length > LONGEST_FEATURE:
        raise ConfigurationError(
            f"its deep feature has the length {length:.3g}, and {LONGEST_FEATURE:.3g} is the "
            "longest that can be compared: divide the features by a number"
        )


def leaves(value: object, path: str, depth: int) -> Iterator[tuple[str, str]]:
    """The values in a JSON value as texts, each with the names that lead to it, dots between."""
    if isinstance(value, Mapping | list | tuple):
        if depth > DEPTH:
            raise ConfigurationError(f"metadata is nested deeper than {DEPTH} levels")
        yield path, ""
        for item in () if isinstance(value, Mapping) else value:
            yield from leaves(item, path, depth + 1)
        for name, item in value.items() if isinstance(value, Mapping) else ():
            if not isinstance(name, str):
                raise ConfigurationError(f"a name in metadata is {name!r:.60}, which is no text")
            if "\0" in name:
                raise ConfigurationError(f"the name {name!r:.60} in metadata has a null character")
            yield from leaves(item, f"{path}.{name}" if path else name, depth + 1)
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


def text_bytes(text: str, what: str) -> int:
    """The bytes of a text in UTF-8; ConfigurationError if they are too many."""
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
