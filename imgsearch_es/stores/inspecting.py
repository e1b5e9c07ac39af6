"""What is found when an index is inspected, and which form of a document is the right one.

A store keeps a document in several forms: as it was written, and as what searches read. They must
agree, and the checksum that was written with it tells which of them is right where they do not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from imgsearch_es.errors import DamagedIndexError
from imgsearch_es.pictures.files import filename, picture_id
from imgsearch_es.retrieval.documents import Document

DIFFERS = "it is not what the rest of the document says"
"""What is wrong with a part of a document that is there and not right."""


class Harm(NamedTuple):
    """What is wrong with a part of the index ("postings", "settings", a field, ...).

    Id and URI are those of the document; empty where it is of none.
    """

    part: str
    what: str
    id: str = ""
    uri: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Inspected:
    """One document, with what is wrong with it.

    Attributes:
        harms: what does not agree, as (part, what).
        stored: the document as it is stored; None where that cannot be read.
        document: what it should be, where something that is whole says so.
        was: what its store read of it, by which it knows whether that is still there.
    """

    id: str
    uri: str
    harms: Sequence[tuple[str, str]]
    stored: Document | None
    document: Document | None
    has_checksum: bool
    was: Any = None

    def to_be_indexed(self) -> Document | None:
        """Without what the analyzer said, so that the next run over the picture analyzes it.

        It keeps what people said of it. None where it is not certain whose document it is.
        """
        found = self.stored
        if found is None or not self.id == found.id == picture_id(found.uri):
            return None
        labels = tuple(label for label in found.labels if isinstance(label, str))
        found = replace(found, labels=labels, sha256=_no_hash(found.uri))
        return replace(found, terms=(), colors=(), embedding=None)


def waits(document: Document) -> bool:
    """Whether a document is what ``to_be_indexed`` gave."""
    return document.sha256 == _no_hash(document.uri)


def _no_hash(uri: str) -> str:
    """In place of a file's hash: another one than that of any picture."""
    return hashlib.sha256(f"to be indexed: {uri}".encode("utf-8", "surrogatepass")).hexdigest()


def inspected(
    key: object,
    uri: object,
    checksum: str | None,
    primary: Document | None,
    *,
    own: Sequence[tuple[str, str]],
    made: Sequence[tuple[str, str]],
    others: Iterable[Callable[[], Document]],
    has_features: bool,
) -> Inspected:
    """A document with its harms, and the form of it that is right.

    Harms are of the form that it was written in (``primary``; None where it cannot be read), its
    ``own``, and of what is ``made`` from it. The checksum may prove one of its ``others``.
    """
    lacks = has_features and primary is not None and primary.is_read and primary.embedding is None
    if lacks and (checksum is None or checksum.endswith("v")):  # else it was imported without one
        own = [*own, ("deep feature", "it is missing")]
    right = primary if not own else _proven(checksum, primary, others)
    harms = (*own, *made)
    return Inspected(str(key or ""), str(uri or ""), harms, primary, right, checksum is not None)


def _proven(
    checksum: str | None, primary: Document | None, others: Iterable[Callable[[], Document]]
) -> Document | None:
    for form in (lambda: primary, *others):
        try:
            found = form()
            if found is None:
                continue
            named = replace(found, id=picture_id(found.uri), filename=filename(found.uri))
            for document in (found, named):
                if document.checksum == checksum:
                    return document
        except (DamagedIndexError, AttributeError, LookupError, TypeError, ValueError):
            continue  # it cannot be read
    return None
