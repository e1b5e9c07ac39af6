"""What can be kept of a picture, and the ledger: which pictures could not be indexed, and why.

The limits are Elasticsearch's of keywords and flattened fields, and JSON's; every store has them.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.pictures.files import in_memory, picture_id
from imgsearch_es.pictures.sources import INTEGERS

TEXT_BYTES = 32_766
"""Of a keyword, in UTF-8: Lucene's longest term. A metadata value stands there with its path."""
DEPTH = 20
"""Objects and lists within each other, with the metadata itself."""
OWN_BYTES = 1_000_000
"""Of all labels, and of all metadata with their paths. 512 documents are written at once."""
LONGEST_FEATURE = 2.0**62
"""Of a deep feature: Elasticsearch squares differences in float32, which ends at 2^128."""


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
    for path, text in _leaves(metadata, "", 1):
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


def leaves(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The values in metadata as texts, each with its path; none where it cannot be stored now."""
    try:
        return list(_leaves(metadata, "", 1))
    except ConfigurationError:  # as earlier versions took it
        return []


def _leaves(value: object, path: str, depth: int) -> Iterator[tuple[str, str]]:
    """The values in a JSON value as texts, each with the names that lead to it, dots between."""
    if isinstance(value, Mapping | list | tuple):
        if depth > DEPTH:
            raise ConfigurationError(f"metadata is nested deeper than {DEPTH} levels")
        yield path, ""
        for item in () if isinstance(value, Mapping) else value:
            yield from _leaves(item, path, depth + 1)
        for name, item in value.items() if isinstance(value, Mapping) else ():
            if not isinstance(name, str):
                raise ConfigurationError(f"a name in metadata is {name!r:.60}, which is no text")
            if "\0" in name:
                raise ConfigurationError(f"the name {name!r:.60} in metadata has a null character")
            yield from _leaves(item, f"{path}.{name}" if path else name, depth + 1)
    elif value is None or isinstance(value, str):
        yield path, value or ""
    elif isinstance(value, int):
        if value not in INTEGERS:
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


# -- JSON in few bytes: deflated, with a dictionary of what most documents have ------------------

_USUAL = (
    b'{"uri":"https:///home/photos/IMG_2026.jpg","filename":"image.png","sha256":"0123456789abcdef'
    b'","width":640,"height":480,"bytes":1,"format":"JPEG","indexed_at":"2026-01-01T00:00:00.0000'
    b'00+00:00","labels":[""],"metadata":{"":""},"terms":["tabby","_cat","_dog"],"scores":[0.0001,'
    b'0.001,0.01,0.1],"views":[0,null],"checksum":""}'
)
"""What is in most documents. Never to be changed: what is packed could not be read any more."""
_PACKED = b"z"
"""What packed bytes begin with; JSON does not."""


def pack(data: bytes) -> bytes:
    """JSON in fewer bytes: about half."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS, zdict=_USUAL)
    return _PACKED + packer.compress(data) + packer.flush()


def unpack(data: bytes) -> bytes:
    """The JSON that ``pack`` took, or that was not packed; ValueError if it is damaged."""
    if not data.startswith(_PACKED):
        return data
    try:
        return zlib.decompressobj(wbits=-zlib.MAX_WBITS, zdict=_USUAL).decompress(data[1:])
    except zlib.error as error:
        raise ValueError(str(error)) from error


# -- the ledger, which is kept with the index ----------------------------------------------------


def now() -> datetime:
    """The time to the second, UTC."""
    return datetime.now(timezone.utc).replace(microsecond=0)


_TEXTS = ("uri", "reason", "sha256", "tried_with", "given")


@dataclass(frozen=True, slots=True)
class Rejected:
    """A picture that could not be indexed, and why.

    Attributes:
        rejected_at: when it was tried, UTC.
        sha256: of the file's bytes; empty where they could not be read, or where the picture
            itself is not to blame (a server that refused it). Such a one is tried in every run.
        tried_with: the decoder and the limits it was tried with; with others it is tried again.
        is_shortage: memory or time were short; known to the run that tried, not to the ledger.
        given: the labels and metadata of the document that it takes the place of, by `naming`.
        is_whole: it is as it was written; ``stored`` finds out.
    """

    uri: str
    reason: str
    rejected_at: datetime = field(default_factory=now, compare=False)
    sha256: str = field(default="", compare=False)
    tried_with: str = field(default="", compare=False)
    is_shortage: bool = field(default=False, compare=False)
    given: str = field(default="", compare=False)
    is_whole: bool = field(default=True, compare=False)

    @classmethod
    def stored(cls, kept: Mapping[str, Any]) -> Rejected:
        """As a store kept it by ``to_stored``; what is missing or no value of it is empty."""
        at = datetime.min
        with suppress(ValueError):
            at = datetime.fromisoformat(str(kept.get("rejected_at")))
        texts: dict[str, Any] = {name: str(kept.get(name) or "") for name in _TEXTS}
        entry = cls(**texts, rejected_at=at if at.tzinfo else at.replace(tzinfo=timezone.utc))
        right = (None, entry.to_stored()["checksum"])  # earlier versions wrote none
        return replace(entry, is_whole=kept.get("checksum") in right)

    def to_stored(self) -> dict[str, str]:
        """What a store keeps of it, by field, with a checksum of the others."""
        kept = {name: getattr(self, name) for name in _TEXTS}
        kept["rejected_at"] = self.rejected_at.astimezone(timezone.utc).isoformat()
        digest = hashlib.blake2b(json.dumps(kept, sort_keys=True).encode(), digest_size=16)
        return {**kept, "checksum": digest.hexdigest()}

    @property
    def id(self) -> str:
        """The id that the picture's document would have."""
        return picture_id(self.uri)

    @property
    def said(self) -> tuple[tuple[str, ...], dict[str, Any]] | None:
        """The labels and metadata in ``given``, if there are any."""
        with suppress(LookupError, RecursionError, TypeError, ValueError):
            given = json.loads(self.given)
            return tuple(given["labels"]), dict(given["metadata"])
        return None

    @property
    def can_be_named(self) -> bool:
        """Whether the URI leads to the picture; that of a broken one from memory does not."""
        return not self.uri.startswith("<") and not in_memory(self.uri)

    def to_dict(self) -> dict[str, Any]:
        """What a person wants to know of it, as JSON values."""
        return {"uri": self.uri, "reason": self.reason, "rejected_at": self.rejected_at.isoformat()}


def reasons(pictures: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """Pictures that a run passed over, by their URIs, as JSON values."""
    return [{"uri": uri, "reason": reason} for uri, reason in pictures]


def naming(labels: Sequence[str], metadata: Mapping[str, Any]) -> str:
    """What a person gave a picture, as JSON; empty where that is nothing."""
    given = {"labels": list(labels), "metadata": dict(metadata)}
    return json.dumps(given) if labels or metadata else ""


class Ledger(Protocol):
    """The rejected pictures of one index. Reading a ledger that is not there yet gives nothing."""

    def write(self, entries: Sequence[Rejected]) -> None:
        """Note rejected pictures; an entry replaces an older one of the same URI."""

    def read(self, ids: Sequence[str] | None = None) -> list[Rejected]:
        """The entries of these ids, or all; in the order of their URIs."""

    def remove(self, ids: Sequence[str]) -> None:
        """Strike entries out, because their pictures are indexed or gone."""
