"""Terms as chips: a synset and its weight, what it adds to the score on hover."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from imgsearch_es.interfaces.html import number, words

if TYPE_CHECKING:
    from imgsearch_es.analysis.analyzer import Term
    from imgsearch_es.search.hit import Explanation

QUERY_TERMS = 8
HIT_TERMS = 4

Summands = Mapping[str, tuple[float, float]]
"""Query weight and part of the score, by synset."""


class Chip(NamedTuple):
    """A term as it is shown: one that query and picture share is marked, its tip says more."""

    text: str
    weight: str
    tip: str
    shared: bool


def query_chips(terms: Sequence[Term]) -> list[Chip]:
    """The leading terms with at least 1 % of the best one's weight."""
    least = 0.01 * max((abs(term.score) for term in terms), default=0.0)
    return [
        _chip(term, f"{term.key}: weight {number(term.score)}", shared=True)
        for term in terms[:QUERY_TERMS]
        if abs(term.score) >= least
    ]


def summands_of(explanation: Explanation) -> Summands:
    """What each synset adds to a score, and how; where ranks are fused, to its part's."""
    if not explanation.part_rows:
        return {key: (weight, part) for key, weight, _, part in explanation.rows}
    added: dict[str, tuple[float, float]] = {}
    for name, factor, score, _ in explanation.rows:
        rows = explanation.part_rows.get(name, ())
        of_score = math.isclose(math.fsum(row[3] for row in rows), score, rel_tol=1e-6)
        for key, weight, _, product in rows:
            share = factor if of_score else 1.0
            before = added.get(key, (0.0, 0.0))
            added[key] = before[0] + share * weight, before[1] + share * product
    return added


def notable(terms: Sequence[Term], summands: Summands) -> list[Term]:
    """The best term and those that make the score, else the next best; best first."""
    rest = sorted(
        range(1, len(terms)),
        key=lambda i: -abs(summands.get(terms[i].key, (0.0, 0.0))[1]),
    )
    return [terms[i] for i in sorted([0, *rest][:HIT_TERMS])] if terms else []


def hit_chip(term: Term, summands: Summands) -> Chip:
    """A term of a result; one that the query has says what it adds."""
    if term.key not in summands:
        return _chip(term, f"{term.key}: {number(term.score)}", shared=False)
    weight, part = summands[term.key]
    if math.isclose(part, weight * term.score, rel_tol=1e-6):
        product = f"{number(weight)} × {number(term.score)} = {number(part)}"
        return _chip(term, f"{term.key}: {product} (query × picture)", shared=True)
    return _chip(term, f"{term.key}: adds {number(part)}", shared=True)


def _chip(term: Term, tip: str, *, shared: bool) -> Chip:
    digits = "<0.01" if 0 < term.score < 0.005 else f"{term.score:.2f}".replace("-", "−")
    return Chip(words(term.key), digits, tip, shared)
