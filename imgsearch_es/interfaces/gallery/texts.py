"""What a gallery says: titles and links, terms as chips, and the summands of a score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.analysis.filters import Box
from imgsearch_es.analysis.terms import is_word
from imgsearch_es.interfaces.html import number, share, words
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.retrieval.scoring import Summand
from imgsearch_es.retrieval.strategies import STRATEGIES
from imgsearch_es.search.hit import Explanation
from imgsearch_es.search.hits import Hits

QUERY_TERMS = 8
HIT_TERMS = 4
HIT_WORDS = 2
"""Visual words among these, where hits are ranked by them."""
ROWS = 20
"""Summands shown; the rest are added up in one line."""
PART_ROWS = 8
"""Summands shown below each part of a fused query."""
LEAST = 0.001
"""A summand this small beside the largest is added up with the rest."""

Summands = Mapping[str, tuple[float, float]]
"""Query weight and part of the score, by synset."""


def title(query: Query) -> str:
    """A line for a person; synsets given as such have no words, and are named themselves."""
    shown = str(query).removeprefix("words: ")
    return shown or ", ".join(words(term.key) for term in query.terms[:3])


def link(uri: str) -> str | None:
    """A link to a file or web page; None for a URI that a browser should not be sent to."""
    if uri.lower().startswith(("http://", "https://", "file://")):
        return uri
    return Path(uri).as_uri() if Path(uri).is_absolute() else None


def matches(hits: Hits) -> str:
    """How many pictures match, for people; "or more" where counting was ended early."""
    more = "" if hits.total_is_exact else " or more"
    return f"{hits.total:,}{more} match{'' if hits.total == 1 else 'es'}"


def traces(hits: Hits) -> str:
    """That more pictures are ranked than count; nothing where that is not so."""
    if hits.query.counts is None or hits.ranked == hits.total:
        return ""
    more = f"{hits.ranked - hits.total:,} more" if hits.ranked_is_exact else "more"
    return f"{more} that show a trace of it follow"


def summary(hits: Hits) -> str:
    """How many pictures match, and how they were found."""
    took = f"{hits.took_ms:.1f}" if hits.took_ms < 100 else f"{hits.took_ms:,.0f}"
    parts = (
        matches(hits) if len(hits) >= hits.total else f"{len(hits):,} of {matches(hits)}",
        traces(hits),
        hits.strategy,
        "exact" if hits.exact else "approximate",
        f"{took} ms",
    )
    return " · ".join(part for part in parts if part)


def shape(document: Document) -> str:
    """The class of a picture by its shape, from 0.6 to 2.5 wide for each high, by 0.05.

    Others are shown whole.
    """
    ratio = document.width / document.height if document.is_read else 4 / 3
    shown = min(max(round(20 * ratio), 12), 50)
    return f"r{shown}" + ("" if abs(shown / 20 - ratio) < 0.1 else " whole")


class Chip(NamedTuple):
    """A term as it is shown: one that query and picture share is marked, its tip says more."""

    text: str
    weight: str
    tip: str
    shared: bool
    box: Box | None = None
    """Where in the picture the term was best."""


def query_chips(terms: Sequence[Term]) -> list[Chip]:
    """The leading terms with at least 1 % of the best one's weight."""
    least = 0.01 * max((abs(term.score) for term in terms), default=0.0)
    return [
        _chip(term, f"weight {number(term.score)}", shared=True)
        for term in terms[:QUERY_TERMS]
        if abs(term.score) >= least
    ]


def hit_chips(terms: Sequence[Term], explanation: Explanation) -> list[Chip]:
    """A result's best term and what makes its score, else the next best; best first."""
    added, words = _added(explanation), word_terms(explanation)[:HIT_WORDS]
    rest = sorted(range(1, len(terms)), key=lambda i: -abs(added.get(terms[i].key, (0.0, 0.0))[1]))
    places = sorted([0, *rest][: HIT_TERMS - len(words)])
    shown = [*words, *(terms[i] for i in places if terms)]
    return [_with_box(_hit_chip(term, added), explanation.boxes.get(term.key)) for term in shown]


def word_terms(explanation: Explanation) -> list[Term]:
    """The visual words that query and picture share, with the picture's weights; most first."""
    rows = [row for rows in (explanation.rows, *explanation.part_rows.values()) for row in rows]
    return [Term(row.key, row.document_score) for row in rows if is_word(row.key)]


def _with_box(chip: Chip, box: Box | None) -> Chip:
    if box is None:
        return chip
    place = ", ".join(map(str, box))
    return chip._replace(tip=f"{chip.tip}; best at {place} (left, top, right, bottom)", box=box)


def _added(explanation: Explanation) -> Summands:
    """What each synset adds to a score, and how; where ranks are fused, to its part's."""
    if not explanation.part_rows:
        return {key: (weight, part) for key, weight, _, part in explanation.rows}
    added: dict[str, tuple[float, float]] = {}
    for name, factor, score, _ in explanation.rows:
        rows = explanation.part_rows.get(name, ())
        of_score = math.isclose(math.fsum(row[3] for row in rows), score, rel_tol=1e-6)
        share = factor if of_score else 1.0
        for key, weight, _, product in rows:
            before = added.get(key, (0.0, 0.0))
            added[key] = before[0] + share * weight, before[1] + share * product
    return added


def _hit_chip(term: Term, added: Summands) -> Chip:
    """A term of a result; one that the query has says what it adds."""
    if term.key not in added:
        return _chip(term, number(term.score), shared=False)
    weight, part = added[term.key]
    if math.isclose(part, weight * term.score, rel_tol=1e-6):
        product = f"{number(weight)} × {number(term.score)} = {number(part)}"
        return _chip(term, f"{product} (query × picture)", shared=True)
    return _chip(term, f"adds {number(part)}", shared=True)


def _chip(term: Term, tip: str, *, shared: bool) -> Chip:
    digits = "<0.01" if 0 < term.score < 0.005 else f"{term.score:.2f}".replace("-", "−")
    return Chip(words(term.key), digits, f"{term.key}: {tip}", shared)


def full_scale(query: Query) -> float | None:
    """The most that a score can be, where the strategy has such a thing and scores add up to 1.

    By formula (1) that is the heaviest term's weight, by the square roots of products the root of
    the weights' sum (Cauchy and Schwarz), by a cosine 1.
    """
    way = STRATEGIES[query.strategy]
    if query.sort is not None or query.fusion is not None:
        return None
    if way.is_dense or not query.terms:
        return 1.0 if way.name == "dense-cosine" else None
    weights = [max(term.score, 0.0) for term in query.terms]
    most = {"inner": max(weights), "sqrt": math.sqrt(math.fsum(weights)), "cosine": 1.0}
    return most.get(way.formula.name) or None


class Why(NamedTuple):
    """The summands of a score as they are shown, their sum, and where each was best."""

    rows: list[dict[str, Any]]
    total: float
    boxes: Mapping[str, Box]


def why(explanation: Explanation) -> Why | None:
    """What makes the score of a hit; None where nothing does."""
    rows = summands(explanation.rows, explanation.part_rows)
    return Why(rows, explanation.total, explanation.boxes) if rows else None


def summands(
    rows: Sequence[Summand], inside: Mapping[str, Sequence[Summand]], limit: int = ROWS
) -> list[dict[str, Any]]:
    """The summands of a score, each with its share of it; below a part of a fusion those inside."""
    largest = max((abs(row.product) for row in rows), default=0.0)
    full = math.fsum(max(row.product, 0.0) for row in rows) or largest
    telling = [row for row in rows if abs(row.product) >= LEAST * largest][:limit]
    if len(rows) - len(telling) == 1:  # takes no more room than the line "1 more"
        telling = list(rows)
    shown: list[dict[str, Any]] = [
        {
            "key": row.key,
            "name": words(row.key),
            "factors": _factors(row),
            "product": row.product,
            "inside": summands(inside.get(row.key, ()), {}, PART_ROWS),
        }
        for row in telling
    ]
    if rest := [row for row in rows if row not in telling]:
        shown.append(
            {"name": f"{len(rest)} more", "product": math.fsum(row.product for row in rest)}
        )
    return [{**row, "share": share(abs(row["product"]), full)} for row in shown]


def _factors(row: Summand) -> str:
    _, weight, score, product = row
    if math.isclose(product, weight * score, rel_tol=1e-6):
        return f"{number(weight)} × {number(score)}"
    return f"query {number(weight)}, picture {number(score)}"
