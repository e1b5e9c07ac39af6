"""Explanations: what a score is the sum of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.retrieval.fusion import fused_score
from imgsearch_es.retrieval.queries import Query, part_queries
from imgsearch_es.retrieval.scoring import Summand, score_of, summands
from imgsearch_es.search.hit import Hit

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a picture scores what it scores.

    Attributes:
        hit: the picture.
        rows: the summands of the score, largest first; of a fused query its parts in their order,
            with the part's weight and, as the document's, the part's score; where ranks are fused
            1 / (rank constant + rank).
        total: their sum as a float32 number; equal to ``hit.score``.
        part_rows: of a fused query, the summands of the score of each part that compares synsets,
            by the part's name. A part's weight is not in them.
    """

    hit: Hit
    rows: tuple[Summand, ...]
    total: float
    part_rows: Mapping[str, tuple[Summand, ...]] = field(default_factory=dict)

    def plot(self) -> Figure:
        """A bar for each summand, and for each part of a fused query (needs matplotlib)."""
        from imgsearch_es.interfaces.plots.figures import plot_explanation

        return plot_explanation(self)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        shown = {"id": self.hit.id, "uri": self.hit.uri, "score": self.hit.score}
        if not self.hit.parts:
            return {**shown, "summands": [row._asdict() for row in self.rows]}
        parts = [
            {**part.to_dict(), "summands": [row._asdict() for row in self._inside(part.name)]}
            for part in self.hit.parts
        ]
        return {**shown, "parts": parts}

    def lines(self) -> list[tuple[str, str, str, str]]:
        """Name, both factors and product of each row, for a table; inside a part indented."""
        found = []
        ranks = {part.name: part.rank for part in self.hit.parts}
        for row in self.rows:
            rank = ranks.get(row.key)
            factor = f"{row.document_score:.4g}" + ("" if rank is None else f" (rank {rank})")
            found.append((row.key, f"{row.query_weight:.4g}", factor, f"{row.product:.4g}"))
            found += [
                (f"  {key}", f"{weight:.4g}", f"{score:.4g}", f"{product:.4g}")
                for key, weight, score, product in self._inside(row.key)
            ]
        return found

    def _inside(self, part: str) -> tuple[Summand, ...]:
        return self.part_rows.get(part, ())

    def __str__(self) -> str:
        lines = self.lines()
        width = max((len(name) for name, *_ in lines), default=0)
        shown = [f"{self.hit.filename}  score {self.hit.score:.6g}"]
        shown += [f"  {name:<{width}}  {w} x {s} = {product}" for name, w, s, product in lines]
        return "\n".join(shown)

    __repr__ = __str__


def explain(
    hit: Hit,
    query: Query,
    terms: Sequence[Term],
    average_length: float,
    part_terms: Sequence[Sequence[Term]] = (),
) -> Explanation:
    """Why a hit scores what it scores.

    Args:
        hit: the picture.
        query: what was searched for.
        terms: the query's synsets as its formula weighted them.
        average_length: mean length of the collection's documents, where the formula uses it.
        part_terms: as ``terms``, of each part of a fused query.
    """
    if query.fusion is not None:
        return _explain_parts(hit, query, part_terms, average_length)
    if query.is_dense:
        row = Summand(query.strategy, 1.0, hit.score, hit.score)
        return Explanation(hit, (row,), hit.score)
    rows = summands(hit.document, query.formula, query.parameters, terms, average_length)
    return Explanation(hit, _largest_first(rows), score_of(rows))


def _largest_first(rows: Sequence[Summand]) -> tuple[Summand, ...]:
    return tuple(sorted(rows, key=lambda row: (-row.product, row.key)))


def _explain_parts(
    hit: Hit, query: Query, part_terms: Sequence[Sequence[Term]], average_length: float
) -> Explanation:
    rows = tuple(
        Summand(
            part.name,
            part.weight,
            part.score or 0.0 if part.rank is None else part.contribution / part.weight,
            part.contribution,
        )
        for part in hit.parts
    )
    part_rows = {
        part.name: _largest_first(
            summands(hit.document, single.formula, single.parameters, terms, average_length)
        )
        for part, single, terms in zip(query.parts, part_queries(query), part_terms, strict=True)
        if not part.is_dense
    }
    return Explanation(hit, rows, fused_score(hit.parts), part_rows)
