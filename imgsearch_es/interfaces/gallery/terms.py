"""Terms as chips: a synset and its weight, what it adds to the score on hover."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from imgsearch_es.interfaces.gallery.protocols import ExplanationLike, TermLike
from imgsearch_es.interfaces.gallery.texts import number, words
from imgsearch_es.interfaces.markup import Html, tag

QUERY_TERMS = 8
HIT_TERMS = 4

Summands = Mapping[str, tuple[float, float]]
"""Query weight and part of the score, by synset."""


def term_list(label: str, chips: Sequence[Html]) -> Html:
    """A list of chips with a name for screen readers; nothing when there are none."""
    if not chips:
        return Html()
    return tag("ul", *chips, class_="ig-terms", role="list", aria_label=label)


def query_chips(terms: Sequence[TermLike]) -> list[Html]:
    """The leading terms with at least 1 % of the best one's weight, then how many more."""
    least = 0.01 * max((abs(term.score) for term in terms), default=0.0)
    count = sum(abs(term.score) >= least for term in terms[:QUERY_TERMS])
    chips = [
        _chip(term.key, term.score, f"{term.key}: weight {number(term.score)}", "ig-shared")
        for term in terms[:count]
    ]
    if rest := terms[count:]:
        more = ", ".join(f"{term.key} {number(term.score)}" for term in rest[:50])
        chips.append(tag("li", f"+{len(rest)} more", title=more))
    return chips


def summands_of(explanation: ExplanationLike) -> Summands:
    """What each synset adds to a score, and how; where ranks are fused, to its part's."""
    part_rows = getattr(explanation, "part_rows", {})
    if not part_rows:
        return {key: (weight, part) for key, weight, _, part in explanation.rows}
    added: dict[str, tuple[float, float]] = {}
    for name, factor, score, _ in explanation.rows:
        rows = part_rows.get(name, ())
        of_score = math.isclose(math.fsum(row[3] for row in rows), score, rel_tol=1e-6)
        for key, weight, _, product in rows:
            share = factor if of_score else 1.0
            before = added.get(key, (0.0, 0.0))
            added[key] = before[0] + share * weight, before[1] + share * product
    return added


def notable(terms: Sequence[TermLike], summands: Summands) -> list[TermLike]:
    """The best term and those that make the score, else the next best; best first."""
    rest = sorted(
        range(1, len(terms)),
        key=lambda i: -abs(summands.get(terms[i].key, (0.0, 0.0))[1]),
    )
    return [terms[i] for i in sorted([0, *rest][:HIT_TERMS])] if terms else []


def hit_chip(term: TermLike, summands: Summands) -> Html:
    """A term of a result; one that the query has is marked, and says on hover what it adds."""
    if term.key not in summands:
        return _chip(term.key, term.score, f"{term.key}: {number(term.score)}", "")
    weight, part = summands[term.key]
    if math.isclose(part, weight * term.score, rel_tol=1e-6):
        product = f"{number(weight)} × {number(term.score)} = {number(part)}"
        tip = f"{term.key}: {product} (query × picture)"
    else:
        tip = f"{term.key}: adds {number(part)}"
    return _chip(term.key, term.score, tip, "ig-shared")


def _chip(key: str, score: float, tip: str, tone: str) -> Html:
    text = tag("mark", words(key)) if tone else tag("span", words(key), class_="ig-key")
    digits = "<0.01" if 0 < score < 0.005 else f"{score:.2f}".replace("-", "−")
    value = tag("span", digits, class_="ig-weight")
    return tag("li", text, " ", value, class_=tone or None, title=tip)
