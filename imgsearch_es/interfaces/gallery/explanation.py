"""Why a result scores what it scores: its summands, folded away until they are asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from imgsearch_es.interfaces.gallery.protocols import ExplanationLike
from imgsearch_es.interfaces.gallery.texts import number, words
from imgsearch_es.interfaces.markup import Html, tag

ROWS = 20
"""Summands shown; the rest are added up in one line."""
PART_ROWS = 8
"""Summands shown below each part of a fused query."""
LEAST = 0.001
"""A summand this small beside the largest is added up with the rest."""

Row = tuple[str, float, float, float]


def explanation_details(explanation: ExplanationLike, filename: str, uri: str) -> Html:
    """The score's summands as a list that opens on a click or by the keyboard.

    Args:
        explanation: of the result's score.
        filename: of the result, for a screen reader.
        uri: of the result, to read and to copy.
    """
    rows = explanation.rows
    summary = tag("summary", "Explain", tag("span", f" {filename}", class_="ig-unseen"))
    text = f"Score {number(explanation.total)}"
    text += ", the sum of:" if len(rows) > 1 else ", by:" if rows else "."
    inside: Mapping[str, Sequence[Row]] = getattr(explanation, "part_rows", {})
    place = tag("p", tag("bdi", uri), class_="ig-path")
    body = tag("div", tag("p", text), _rows(rows, ROWS, inside), place)
    return tag("details", summary, body, class_="ig-explain")


def _rows(
    rows: Sequence[Row], limit: int, inside: Mapping[str, Sequence[Row]] | None = None
) -> Html:
    largest = max((abs(row[3]) for row in rows), default=0.0)
    telling = [row for row in rows if abs(row[3]) >= LEAST * largest][:limit]
    if len(rows) - len(telling) == 1:  # takes no more room than the line "1 more"
        telling = list(rows)
    items = [_row(row, largest, (inside or {}).get(row[0], ())) for row in telling]
    if rest := [row for row in rows if row not in telling]:
        left = math.fsum(row[3] for row in rest)
        items.append(_item(f"{len(rest)} more", "", left, largest, Html()))
    return tag("ul", *items, role="list") if items else Html()


def _row(row: Row, largest: float, inside: Sequence[Row]) -> Html:
    key, weight, score, product = row
    if math.isclose(product, weight * score, rel_tol=1e-6):
        factors = f"{number(weight)} × {number(score)}"
    else:
        factors = f"query {number(weight)}, picture {number(score)}"
    return _item(words(key), factors, product, largest, _rows(inside, PART_ROWS))


def _item(name: str, factors: str, product: float, largest: float, below: Html) -> Html:
    share = abs(product) / largest if largest > 0 else 0.0
    width = f"width: {100 * share if math.isfinite(share) else 0:.1f}%"
    bar = tag("span", style=width, class_="ig-against" if product < 0 else None)
    return tag(
        "li",
        tag("span", name, class_="ig-key"),
        tag("span", f" {factors}", class_="ig-factors") if factors else Html(),
        tag("span", " = ", class_="ig-unseen"),
        tag("span", number(product), class_="ig-weight"),
        tag("span", bar, class_="ig-bar", aria_hidden="true"),
        below,
    )
