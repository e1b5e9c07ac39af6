"""The ledger: which pictures could not be indexed, and why. It is kept with the index."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Protocol

from imgsearch_es.pictures.files import in_memory, picture_id


def now() -> datetime:
    """The time to the second, UTC."""
    return datetime.now(timezone.utc).replace(microsecond=0)


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
    """

    uri: str
    reason: str
    rejected_at: datetime = field(default_factory=now, compare=False)
    sha256: str = field(default="", compare=False)
    tried_with: str = field(default="", compare=False)
    is_shortage: bool = field(default=False, compare=False)
    given: str = field(default="", compare=False)

    @property
    def id(self) -> str:
        """The id that the picture's document would have."""
        return picture_id(self.uri)

    @property
    def can_be_named(self) -> bool:
        """Whether the URI leads to the picture; that of a broken one from memory does not."""
        return not self.uri.startswith("<") and not in_memory(self.uri)

    def to_dict(self) -> dict[str, Any]:
        """What a person wants to know of it, as JSON values."""
        return {"uri": self.uri, "reason": self.reason, "rejected_at": self.rejected_at.isoformat()}


def reasons(pictures: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """The URIs of pictures that a run passed over, each with the reason, as JSON values."""
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
