"""Formulas that score a document's synsets against a query's, each defined once.

Every formula is a sum over the synsets that query and document share,

    score(q, d) = sum over j of summand(w_j, d_j)

where w_j is the query's weight after ``query_weights`` (which folds in what does not depend on the
document) and d_j is the document's score. The summand is written in Python, for numbers and arrays,
and in Painless; the conformance suite holds them together. docs/scoring.md has all with sources.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.errors import QueryError
from imgsearch_es.retrieval.documents import Document, to_score

Numbers = float | NDArray[np.float64]
"""Of one document, or of many."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a formula may know of the collection, with the frequencies of the query's synsets.

    The average length is a float32 number, as each store adds lengths in its own order.
    """

    documents: int
    average_length: float
    frequencies: Mapping[str, int]


NO_STATISTICS = Statistics(0, 0.0, {})
"""For formulas that need none."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a summand depends on besides weight and score."""

    length: Numbers
    norm: Numbers
    average_length: float
    parameters: Mapping[str, float]


class Summand(NamedTuple):
    """One synset's part of a score; by formula (1) ``product = query_weight * document_score``."""

    key: str
    query_weight: float
    document_score: float
    product: float


_BM25 = {"k1": 1.2, "b": 0.75}
"""The default parameters."""
_LARGEST = {"k1": 1e6, "b": 1.0}
"""Values of the parameters: beyond them scores are below 0, or no float32."""


@dataclass(frozen=True)
class Formula:
    """One way to score; the summand and the impact also take arrays, of many documents.

    Attributes:
        query_weights: the query's terms after what the collection says of them.
        summand: of a weight, a document's score and the context.
        painless: the summand of ``w``, ``d``, ``length``, ``norm`` and ``params``.
        impact: what an impact-ordered index keeps of a score, to rank by weight times impact.
        excess: at most how many times that a summand is; see ``_bm25_excess``.
        parameters: their names and default values.
        needs_statistics: whether ``query_weights`` or the summand use them.
        is_linear: whether the impact is the score itself, and so the product the summand.
    """

    name: str
    query_weights: Callable[[Sequence[Term], Statistics], tuple[Term, ...]]
    summand: Callable[[float, Numbers, Context], Numbers] = lambda weight, score, _: weight * score
    painless: str = "w * d"
    impact: Callable[[Numbers, Context], Numbers] = lambda score, _: score
    excess: Callable[[float, float, Statistics, Mapping[str, float]], float] = lambda *_: 1.0
    parameters: Mapping[str, float] = field(default_factory=dict)
    needs_statistics: bool = False
    is_linear: bool = False

    def with_defaults(self, given: Mapping[str, float]) -> dict[str, float]:
        """The parameters, those not given by default."""
        for name, value in given.items():
            if name not in self.parameters:
                has = ", ".join(self.parameters) or "none"
                raise QueryError(f"{self.name} has no parameter {name!r}; it has {has}")
            most = _LARGEST[name]
            if not isinstance(value, int | float) or not 0 <= value <= most:
                raise QueryError(
                    f"{self.name}: {name} must be a number from 0 to {most:g}, not {value!r}"
                )
        return {**self.parameters, **given}


def heaviest_first(terms: Iterable[Term]) -> tuple[Term, ...]:
    """Terms in the order of every query: ties by key."""
    return tuple(sorted(terms, key=lambda term: (-term.score, term.key)))


def _reweighted(terms: Sequence[Term], factor: Callable[[Term], float]) -> tuple[Term, ...]:
    weighted = (Term(term.key, to_score(term.score * factor(term))) for term in terms)
    return heaviest_first(weighted)


def _unit_length(terms: Sequence[Term], statistics: Statistics) -> tuple[Term, ...]:
    norm = math.sqrt(math.fsum(term.score**2 for term in terms))
    return _reweighted(terms, lambda term: 1 / norm)


def _roots(terms: Sequence[Term], statistics: Statistics) -> tuple[Term, ...]:
    return _reweighted(terms, lambda term: 1 / math.sqrt(term.score))


def _tfidf(terms: Sequence[Term], statistics: Statistics) -> tuple[Term, ...]:
    def squared(term: Term) -> float:
        n = statistics.frequencies.get(term.key, 0)
        return (1 + math.log((1 + statistics.documents) / (1 + n))) ** 2

    return _reweighted(terms, squared)


def _bm25(terms: Sequence[Term], statistics: Statistics) -> tuple[Term, ...]:
    def idf(term: Term) -> float:
        n = statistics.frequencies.get(term.key, 0)
        return math.log1p((statistics.documents - n + 0.5) / (n + 0.5))

    return _reweighted(terms, idf)


def _bm25_summand(weight: float, score: Numbers, context: Context) -> Numbers:
    k1, b = context.parameters["k1"], context.parameters["b"]
    length = context.length / context.average_length
    return weight * score * (k1 + 1) / (score + k1 * (1 - b + b * length))


def _bm25_impact(score: Numbers, context: Context) -> Numbers:
    """With the default parameters and the mean length 1; a query may ask with others."""
    return _bm25_summand(1.0, score, replace(context, average_length=1.0, parameters=_BM25))


def _bm25_excess(
    least: float, heaviest: float, statistics: Statistics, parameters: Mapping[str, float]
) -> float:
    """At most how many times weight and impact a summand is, in a document that scores ``least``.

    Both are d over a sum that is linear in d and in the length. So of all d up to the length, and
    all lengths from the shortest on, their ratio is greatest in a corner of that region, or far out
    along an edge. A document whose scores sum to l scores at most

        heaviest (k1 + 1) l / (k1 (1 - b + b l / average))

    which grows with l: the shortest that counts is where this is ``least``. A color's d is none of
    the scores that sum to l: for a query with one, ``least`` is 0, and d may also be far beyond l.
    """
    k1, b, average = parameters["k1"], parameters["b"], statistics.average_length
    if not k1 * b * average:
        return math.inf
    slope = k1 * b / average
    rest = heaviest * (k1 + 1) - least * slope
    shortest = least * k1 * (1 - b) / rest * (1 - 1e-6) if rest > 0 else 0.0

    def ratio(d: float, length: float, constant: float) -> float:
        kept = _BM25["k1"] * ((1 - _BM25["b"]) * constant + _BM25["b"] * length)
        asked = k1 * (1 - b) * constant + slope * length
        return (d + kept) / (d + asked) if d + asked else math.inf

    corners = (0, shortest, 1), (shortest, shortest, 1), (0, 1, 0), (1, 1, 0), (1, 0, 0)
    return (k1 + 1) / (_BM25["k1"] + 1) * max(ratio(*corner) for corner in corners)


# fmt: off
_ALL = (
    Formula("inner", lambda terms, statistics: tuple(terms), is_linear=True),
    Formula("tfidf", _tfidf, needs_statistics=True, is_linear=True),
    Formula("cosine", _unit_length,
            lambda weight, score, context: weight * score / context.norm, "w * d / norm",
            lambda score, context: score / context.norm),
    Formula("sqrt", _roots,
            lambda weight, score, context: weight * np.sqrt(score), "w * Math.sqrt(d)",
            lambda score, context: np.sqrt(score)),
    Formula("bm25", _bm25, _bm25_summand,
            "w * d * (params.k1 + 1) / "
            "(d + params.k1 * (1 - params.b + params.b * (length / params.average)))",
            _bm25_impact, _bm25_excess, parameters=_BM25, needs_statistics=True),
)
# fmt: on
FORMULAS = {formula.name: formula for formula in _ALL}


def summands(
    document: Document,
    formula: Formula,
    parameters: Mapping[str, float],
    terms: Sequence[Term],
    average_length: float,
) -> tuple[Summand, ...]:
    """What each of a query's terms, as the formula weighted them, adds to a document's score."""
    scores = {term.key: term.score for term in document.postings}
    given = formula.with_defaults(parameters)
    context = Context(document.length, document.norm, average_length, given)
    return tuple(
        Summand(term.key, term.score, score, float(formula.summand(term.score, score, context)))
        for term in terms
        if (score := scores.get(term.key)) is not None
    )


def score_of(rows: Sequence[Summand]) -> float:
    """The score: summands added one after the other in double precision, rounded once."""
    return added(row.product for row in rows)


def added(numbers: Iterable[float]) -> float:
    """Numbers added in their order and rounded once to float32."""
    total = 0.0
    for number in numbers:  # not sum(), which since Python 3.12 rounds otherwise than the stores
        total += number
    return to_score(total)
