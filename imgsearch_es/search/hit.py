"""A hit: one picture found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.pictures.files import to_path
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.fusion import PartScore


@dataclass(frozen=True, slots=True)
class Hit:
    """One picture found.

    Attributes:
        rank: from 1.
        score: by the query's formula or fusion, a float32 number.
        document: everything the index holds of the picture, without its embedding.
        parts: what each part of a fused query adds to the score.
    """

    rank: int
    score: float
    document: Document
    parts: tuple[PartScore, ...] = ()

    @property
    def id(self) -> str:
        """The document's id."""
        return self.document.id

    @property
    def uri(self) -> str:
        """Absolute path of a local file, or a URL."""
        return self.document.uri

    @property
    def path(self) -> Path | None:
        """The local file, or None when the picture is not local."""
        return to_path(self.document.uri)

    @property
    def filename(self) -> str:
        """The last part of the URI."""
        return self.document.filename

    @property
    def synsets(self) -> tuple[Term, ...]:
        """The picture's terms, best first."""
        return self.document.terms

    @property
    def labels(self) -> tuple[str, ...]:
        """The picture's labels."""
        return self.document.labels

    @property
    def metadata(self) -> Mapping[str, Any]:
        """A person's own fields."""
        return self.document.metadata

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "rank": self.rank,
            "id": self.id,
            "uri": self.uri,
            "score": self.score,
            "synsets": [{"synset": term.key, "score": term.score} for term in self.synsets],
            "labels": list(self.labels),
            "metadata": dict(self.metadata),
            **({"parts": [part.to_dict() for part in self.parts]} if self.parts else {}),
        }
