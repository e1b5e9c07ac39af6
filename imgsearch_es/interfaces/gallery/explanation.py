"""Why a result scores what it scores: the summands as they are shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from imgsearch_es.interfaces.html import number, width, words

if TYPE_CHECKING:
    from imgsearch_es.retrieval.scoring import Summand
    from imgsearch_es.search.hit import Explanation

ROWS = 20
"""Summands shown; the rest are added up in one line."""
PART_ROWS = 8
"""Summands shown below each part of a fused query."""
LEAST = 0.001
"""A summand this small beside the largest is added up with the rest."""


def summands(explanation: Explanation) -> list[dict[str, Any]]:
    """The summands of a score, largest first; below a part of a fused query those of its score."""
    return _rows(explanation.rows, ROWS, explanation.part_rows)


def _rows(
    rows: Sequence[Summand], limit: int, inside: Mapping[str, Sequence[Summand]]
) -> list[dict[str, Any]]:
    largest = max((abs(row.product) for row in rows), default=0.0)
    telling = [row for row in rows if abs(row.product) >= LEAST * largest][:limit]
    if len(rows) - len(telling) == 1:  # takes no more room than the line "1 more"
        telling = list(rows)
    shown: list[dict[str, Any]] = [
        {
            "name": words(row.key),
            "factors": _factors(row),
            "product": row.product,
            "inside": _rows(inside.get(row.key, ()), PART_ROWS, {}),
        }
        for row in telling
    ]
    if rest := [row for row in rows if row not in telling]:
        shown.append(
            {"name": f"{len(rest)} more", "product": math.fsum(row.product for row in rest)}
        )
    return [{**row, "bar": width(abs(row["product"]), largest)} for row in shown]


def _factors(row: Summand) -> str:
    _, weight, score, product = row
    if math.isclose(product, weight * score, rel_tol=1e-6):
        return f"{number(weight)} × {number(score)}"
    return f"query {number(weight)}, picture {number(score)}"
