"""Points of a sweep: a setting and a system with figures and costs; and the best of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from imgsearch_es.evaluation.measures import Scores
from imgsearch_es.evaluation.significance import Interval

COSTS = ("bytes", "latency")


@dataclass(frozen=True, eq=False)
class Point:
    """What one system achieves with one setting: the columns of docs/sweeps.md.

    Where no synsets are compared, ``filters`` is empty, ``top_k`` None and ``terms`` 0. Times are
    nan where nothing was timed.
    """

    model: str
    system: str
    filters: str
    top_k: int | None
    terms: float
    bytes: float
    file_bytes: float
    p50_ms: float
    p95_ms: float
    scores: Scores
    means: Mapping[str, Interval]

    @property
    def name(self) -> str:
        """All but the model: ``auto/plain/10``, ``dense-cosine``."""
        return point_name(self.system, self.filters, self.top_k)

    @property
    def curve(self) -> tuple[str, str, str]:
        """What it has in common with points of another number of terms."""
        return self.model, self.system, self.filters

    def cost(self, kind: str) -> float:
        """Bytes per picture, or milliseconds per query."""
        return self.bytes if kind == "bytes" else self.p50_ms


def point_name(system: str, filters: str, top_k: int | None) -> str:
    """What a point is called, but for its model."""
    return f"{system}/{filters}/{top_k}" if top_k else system


def pareto_front(points: Iterable[Point], measure: str, cost: str) -> list[Point]:
    """The points to which no other is at least equal in both and better in one; cheapest first."""
    best: list[Point] = []
    priced = [point for point in points if not math.isnan(point.cost(cost))]
    for point in sorted(priced, key=lambda p: (p.cost(cost), -p.means[measure].mean, p.name)):
        if not best or point.means[measure].mean > best[-1].means[measure].mean:
            best.append(point)
    return best


def curves(points: Iterable[Point]) -> dict[tuple[str, str, str], list[Point]]:
    """Points that differ by the number of terms only, fewest first; single ones, too."""
    found: dict[tuple[str, str, str], list[Point]] = {}
    for point in points:
        found.setdefault(point.curve, []).append(point)
    for curve in found.values():
        curve.sort(key=lambda point: point.top_k or 0)
    return found
