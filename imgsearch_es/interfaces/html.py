"""What galleries, the page and notebooks say, and how their templates become HTML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.analysis.filters import Box
from imgsearch_es.analysis.terms import is_word
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.retrieval.scoring import Summand
from imgsearch_es.retrieval.spans import marked
from imgsearch_es.retrieval.strategies import STRATEGIES
from imgsearch_es.search.hit import Explanation
from imgsearch_es.search.hits import Hits
from imgsearch_es.vocabulary.colors import COLOR, is_color

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

# Control characters are shown; lone surrogates and characters that reorder text are replaced.
_VISIBLE = {code: 0x2400 + code for code in range(32)} | {127: 0x2421}
_VISIBLE |= dict.fromkeys(
    [*range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000)], 0xFFFD
)
_QUERY_TERMS = 8
_HIT_TERMS = 4
_HIT_WORDS = 2
"""Visual words among these, where hits are ranked by them."""
_ROWS = 20
"""Summands shown; the rest are added up in one line."""
_PART_ROWS = 8
"""Summands shown below each part of a fused query."""
_LEAST = 0.001
"""A summand this small beside the largest is added up with the rest."""


@cache
def templates() -> Environment:
    """Those of galleries, the page and notebooks; text is never markup."""
    from jinja2 import Environment, PackageLoader

    def visible(value: object) -> object:
        return value.translate(_VISIBLE) if type(value) is str else value

    made = Environment(
        loader=PackageLoader("imgsearch_es.interfaces"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=visible,
    )
    made.filters.update(number=number, words=words, width=width, share=share, marked=marked)
    return made


def render(template: str, **values: Any) -> Markup:
    """A template filled in; what is not ``Markup`` is escaped, and its control characters shown."""
    from markupsafe import Markup

    return Markup(templates().get_template(template).render(values))  # noqa: S704


def number(value: float) -> str:
    """A score for reading: three decimals, fewer for large ones, exponent for tiny ones."""
    size = abs(value)
    if not math.isfinite(value) or size == 0:
        return f"{value:g}"
    if size < 0.0005:
        return f"{value:.1e}"
    return f"{value:.{3 if size < 10 else 2 if size < 100 else 1}f}".replace("-", "−")


def words(key: str) -> str:
    """A key for reading: ``golden_retriever`` is "golden retriever", ``color:red`` "red"."""
    return key.removeprefix(COLOR).replace("_", " ")


def share(value: float, full: float) -> float:
    """Percent of the full scale, 0 to 100."""
    found = value / full if full > 0 and math.isfinite(value / full) else 0.0
    return round(100 * min(max(found, 0.0), 1.0), 1)


def width(value: float, full: float) -> str:
    """A bar's style: as long as a value is to the full scale."""
    return f"width: {share(value, full):.1f}%"


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


def counted(hits: Hits) -> str:
    """How many of how many pictures were found for what."""
    shown = f"{len(hits)} of " if len(hits) < hits.total else ""
    more = "" if hits.total_is_exact else " or more"
    follow = f"; {traces(hits)}" if traces(hits) else ""
    return f"{shown}{hits.total:,}{more} for {hits.query}{follow}"


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
        for term in terms[:_QUERY_TERMS]
        if abs(term.score) >= least
    ]


def hit_chips(terms: Sequence[Term], explanation: Explanation) -> list[Chip]:
    """A result's best term and what makes its score, else the next best; best first."""
    added, words = _added(explanation), word_terms(explanation)[:_HIT_WORDS]
    rest = sorted(range(1, len(terms)), key=lambda i: -abs(added.get(terms[i].key, (0.0, 0.0))[1]))
    places = sorted([0, *rest][: _HIT_TERMS - len(words)])
    shown = [*words, *(terms[i] for i in places if terms)]
    chips = []
    for term in shown:
        chip, box = _hit_chip(term, added), explanation.boxes.get(term.key)
        if box is not None:
            place = ", ".join(map(str, box))
            tip = f"{chip.tip}; best at {place} (left, top, right, bottom)"
            chip = chip._replace(tip=tip, box=box)
        chips.append(chip)
    return chips


def word_terms(explanation: Explanation) -> list[Term]:
    """The visual words that query and picture share, with the picture's weights; most first."""
    rows = [row for rows in (explanation.rows, *explanation.part_rows.values()) for row in rows]
    return [Term(row.key, row.document_score) for row in rows if is_word(row.key)]


def _added(explanation: Explanation) -> dict[str, tuple[float, float]]:
    """Query weight and part of the score by synset; where ranks are fused, of its part's."""
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


def _hit_chip(term: Term, added: Mapping[str, tuple[float, float]]) -> Chip:
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
    the weights' sum (Cauchy and Schwarz), by a cosine 1. Colors add up to 1 beside synsets, but are
    no part of the length that a cosine divides by.
    """
    way = STRATEGIES[query.strategy]
    if query.sort is not None or query.fusion is not None:
        return None
    if way.is_dense or not query.terms:
        return 1.0 if way.name == "dense-cosine" else None
    weights = [(is_color(term.key), max(term.score, 0.0)) for term in query.terms]
    synsets, colors = ([w for kind, w in weights if kind == of] for of in (False, True))
    most = {
        "inner": max(synsets, default=0.0) + max(colors, default=0.0),
        "sqrt": math.sqrt(math.fsum(synsets)) + math.sqrt(math.fsum(colors)),
        "cosine": 0.0 if colors else 1.0,
    }
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
    rows: Sequence[Summand], inside: Mapping[str, Sequence[Summand]], limit: int = _ROWS
) -> list[dict[str, Any]]:
    """The summands of a score, each with its share of it; below a part of a fusion those inside."""
    largest = max((abs(row.product) for row in rows), default=0.0)
    full = math.fsum(max(row.product, 0.0) for row in rows) or largest
    telling = [row for row in rows if abs(row.product) >= _LEAST * largest][:limit]
    if len(rows) - len(telling) == 1:  # takes no more room than the line "1 more"
        telling = list(rows)
    shown: list[dict[str, Any]] = [
        {
            "key": row.key,
            "name": words(row.key),
            "factors": _factors(row),
            "product": row.product,
            "inside": summands(inside.get(row.key, ()), {}, _PART_ROWS),
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
