"""Why a result scores what it scores: the summands as they are shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from imgsearch_es.interfaces.gallery.protocols import ExplanationLike
from imgsearch_es.interfaces.html import number, width, words

ROWS = 20
"""Summands shown; the rest are added up in one line."""
PART_ROWS = 8
"""Summands shown below each part of a fused query."""
LEAST = 0.001
"""A summand this small beside the largest is added up with the rest."""

Row = tuple[str, float, float, float]


def summands(explanation: ExplanationLike) -> list[dict[str, Any]]:
    """The summands of a score, largest first; below a part of a fused query those of its score."""
    inside: Mapping[str, Sequence[Row]] = getattr(explanation, "part_rows", {})
    return _rows(explanation.rows, ROWS, inside)


def _rows(
    rows: Sequence[Row], limit: int, inside: Mapping[str, Sequence[Row]]
) -> list[dict[str, Any]]:
    largest = max((abs(row[3]) for row in rows), default=0.0)
    telling = [row for row in rows if abs(row[3]) >= LEAST * largest][:limit]
    if len(rows) - len(telling) == 1:  # takes no more room than the line "1 more"
        telling = list(rows)
    shown: list[dict[str, Any]] = [
        {
            "name": words(row[0]),
            "factors": _factors(row),
            "product": row[3],
            "inside": _rows(inside.get(row[0], ()), PART_ROWS, {}),
        }
        for row in telling
    ]
    if rest := [row for row in rows if row not in telling]:
        shown.append({"name": f"{len(rest)} more", "product": math.fsum(row[3] for row in rest)})
    return [{**row, "bar": width(abs(row["product"]), largest)} for row in shown]


def _factors(row: Row) -> str:
    _, weight, score, product = row
    if math.isclose(product, weight * score, rel_tol=1e-6):
        return f"{number(weight)} × {number(score)}"
    return f"query {number(weight)}, picture {number(score)}"
