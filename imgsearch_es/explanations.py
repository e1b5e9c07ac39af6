"""Explanations: what a score is the sum of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from imgsearch_es.analysis import Term
from imgsearch_es.documents import Document, to_score
from imgsearch_es.queries import Query
from imgsearch_es.scoring import Context, formula_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from imgsearch_es.hits import Hit


class Summand(NamedTuple):
    """One synset's part of a score; by formula (1) ``product = query_weight * document_score``.

    Other formulas (see ``imgsearch_es.scoring``) weight the query and the product in their way.
    """

    key: str
    query_weight: float
    document_score: float
    product: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a picture scores what it scores.

    Attributes:
        hit: the picture.
        rows: the summands of formula (1), largest first.
        total: their sum as a float32 number; equal to ``hit.score``.
    """

    hit: Hit
    rows: tuple[Summand, ...]
    total: float

    def plot(self) -> Figure:
        """A bar for each summand (needs matplotlib)."""
        from imgsearch_es.gallery import plot_explanation

        return plot_explanation(self)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "id": self.hit.id,
            "uri": self.hit.uri,
            "score": self.hit.score,
            "summands": [row._asdict() for row in self.rows],
        }

    def __str__(self) -> str:
        width = max((len(row.key) for row in self.rows), default=0)
        lines = [f"{self.hit.filename}  score {self.hit.score:.6g}"]
        lines += [
            f"  {row.key:<{width}}  {row.query_weight:.4g} x {row.document_score:.4g} "
            f"= {row.product:.4g}"
            for row in self.rows
        ]
        return "\n".join(lines)

    __repr__ = __str__


def explain(hit: Hit, query: Query, terms: Sequence[Term], average_length: float) -> Explanation:
    """Why a hit scores what it scores.

    Args:
        hit: the picture.
        query: what was searched for.
        terms: the query's synsets as its formula weighted them.
        average_length: mean length of the collection's documents, where the formula uses it.
    """
    if query.is_dense:
        row = Summand(query.strategy, 1.0, hit.score, hit.score)
        return Explanation(hit, (row,), hit.score)
    rows = summands(hit.document, query, terms, average_length)
    return Explanation(hit, rows, to_score(math.fsum(row.product for row in rows)))


def summands(
    document: Document, query: Query, terms: Sequence[Term], average_length: float
) -> tuple[Summand, ...]:
    """What each synset adds to a document's score, largest first; takes what ``explain`` takes."""
    scores = {term.key: term.score for term in document.terms}
    formula = formula_of(query.strategy)
    parameters = formula.with_defaults(query.parameters)
    context = Context(document.length, document.norm, average_length, parameters)
    rows = [
        Summand(
            term.key,
            term.score,
            scores[term.key],
            formula.summand(term.score, scores[term.key], context),
        )
        for term in terms
        if term.key in scores
    ]
    return tuple(sorted(rows, key=lambda row: (-row.product, row.key)))
