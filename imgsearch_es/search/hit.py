"""A hit: one picture found, and why it scores what it scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.pictures.files import to_path
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.fusion import PartScore, fused_score
from imgsearch_es.retrieval.queries import Query, part_queries
from imgsearch_es.retrieval.scoring import Summand, score_of, summands

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from imgsearch_es.stores.base import SearchResult


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


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a picture scores what it scores.

    Attributes:
        rows: the summands of the score, largest first; of a fused query its parts in their order,
            with the part's weight and, as the document's, the part's score; where ranks are fused
            1 / (rank constant + rank).
        total: their sum as a float32 number; equal to ``hit.score``.
        part_rows: of each part that compares synsets the summands of its own score.
        taught: of the index's taught words, by key, how it came to each.
    """

    hit: Hit
    rows: tuple[Summand, ...]
    total: float
    part_rows: Mapping[str, tuple[Summand, ...]] = field(default_factory=dict)
    taught: Mapping[str, str] = field(default_factory=dict)

    def plot(self) -> Figure:
        """A bar for each summand, and for each part of a fused query (needs matplotlib)."""
        from imgsearch_es.interfaces.plots.figures import plot_explanation

        return plot_explanation(self)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        shown = {"id": self.hit.id, "uri": self.hit.uri, "score": self.hit.score}
        if not self.hit.parts:
            return {**shown, "summands": [row._asdict() for row in self.rows]}
        inside = [self.part_rows.get(part.name, ()) for part in self.hit.parts]
        parts = [
            {**part.to_dict(), "summands": [row._asdict() for row in rows]}
            for part, rows in zip(self.hit.parts, inside, strict=True)
        ]
        return {**shown, "parts": parts}

    def named(self, key: str) -> str:
        """A synset, and how the index came to it where it was taught."""
        how = self.taught.get(key.strip())
        return f"{key} ({how})" if how else key

    def lines(self) -> list[tuple[str, str, str, str]]:
        """Name, both factors and product of each row, for a table; inside a part indented."""
        found = []
        ranks = {part.name: f" (rank {part.rank})" for part in self.hit.parts if part.rank}
        for row in self.rows:
            inside = [row._replace(key=f"  {row.key}") for row in self.part_rows.get(row.key, ())]
            for key, *factors in (row, *inside):
                weight, score, product = (f"{factor:.4g}" for factor in factors)
                found.append((self.named(key), weight, score + ranks.get(key, ""), product))
        return found

    def __str__(self) -> str:
        lines = self.lines()
        width = max((len(name) for name, *_ in lines), default=0)
        shown = [f"{self.hit.filename}  score {self.hit.score:.6g}"]
        shown += [f"  {name:<{width}}  {w} x {s} = {product}" for name, w, s, product in lines]
        return "\n".join(shown)

    __repr__ = __str__


def explain(hit: Hit, query: Query, result: SearchResult) -> Explanation:
    """Why a hit of a query scores what it scores; the result has what the store knew."""
    if query.fusion is not None:
        return _explain_parts(hit, query, result)
    if query.is_dense:
        row = Summand(query.strategy, 1.0, hit.score, hit.score)
        return Explanation(hit, (row,), hit.score)
    rows = _summands(hit, query, result.terms, result)
    return Explanation(hit, _largest_first(rows), score_of(rows))


def _summands(
    hit: Hit, query: Query, terms: Sequence[Term], result: SearchResult
) -> tuple[Summand, ...]:
    return summands(hit.document, query.formula, query.parameters, terms, result.average_length)


def _largest_first(rows: Sequence[Summand]) -> tuple[Summand, ...]:
    return tuple(sorted(rows, key=lambda row: (-row.product, row.key)))


def _explain_parts(hit: Hit, query: Query, result: SearchResult) -> Explanation:
    rows = tuple(
        Summand(
            part.name,
            part.weight,
            part.score or 0.0 if part.rank is None else part.contribution / part.weight,
            part.contribution,
        )
        for part in hit.parts
    )
    singles = zip(query.parts, part_queries(query), result.part_terms, strict=True)
    part_rows = {
        part.name: _largest_first(_summands(hit, single, terms, result))
        for part, single, terms in singles
        if not part.is_dense
    }
    return Explanation(hit, rows, fused_score(hit.parts), part_rows)
