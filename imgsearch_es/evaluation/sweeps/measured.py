"""What a sweep measured: points, what they lose against a baseline, how many terms are enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation.significance import Comparison, Interval, compare, interval
from imgsearch_es.evaluation.sweeps.plan import SweepPlan
from imgsearch_es.evaluation.sweeps.points import COSTS, Point, curves, pareto_front

MARGIN = 0.01
"""A loss that does not matter, where nobody says."""


@dataclass(frozen=True, slots=True)
class Enough:
    """How many terms are enough for one model, system and chain of term filters.

    Attributes:
        model: the analyzer's name.
        system: the system's name.
        filters: the chain.
        top_k: the least number of terms that is enough, and every larger one, too.
        most: the largest number of terms, which it is compared with.
        difference: of the means, with the confidence interval of the sweep.
    """

    model: str
    system: str
    filters: str
    top_k: int
    most: int
    difference: Interval


@dataclass(frozen=True, eq=False)
class Measured:
    """Quality, time and size of many settings: an `Sweep`, but for showing it."""

    plan: SweepPlan
    task: str
    pictures: int
    queries: int
    points: tuple[Point, ...]
    about: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def point(self, name: str, model: str | None = None) -> Point:
        """A point by its name, such as ``auto/plain/10`` or ``dense-cosine``.

        Args:
            name: of the point.
            model: by default the first that has it.

        Raises:
            EvaluationError: there is none.
        """
        for point in self.points:
            if point.name == name and model in (None, point.model):
                return point
        raise EvaluationError(
            f"the sweep has no point {name}; there are {', '.join(p.name for p in self.points[:9])}"
        )

    def front(self, measure: str | None = None, cost: str = "bytes") -> list[Point]:
        """The Pareto front: points to which no other is equal or better in both, cheapest first.

        Args:
            measure: of quality; by default the first.
            cost: "bytes" per picture, or "latency" of a query.

        Raises:
            EvaluationError: there is no such measure or cost.
        """
        return pareto_front(self.points, self._measure(measure), check_cost(cost))

    @cached_property
    def comparisons(self) -> dict[tuple[str, str, str], Comparison]:
        """Points against the baseline of their model, by model, point's name and measure."""
        found: dict[tuple[str, str, str], Comparison] = {}
        for model in dict.fromkeys(point.model for point in self.points):
            mine = {p.name: p.scores.values for p in self.points if p.model == model}
            baseline = self.plan.compare
            if baseline is None or baseline not in mine:
                continue
            for measure in self.plan.measures:
                others = {n: values[measure] for n, values in mine.items() if n != baseline}
                compared = compare(
                    measure, (baseline, mine[baseline][measure]), others, **self._sureness
                )
                found |= {(model, c.system, measure): c for c in compared}
        return found

    def enough(self, measure: str | None = None, margin: float = MARGIN) -> list[Enough]:
        """How many terms are enough: the mean is hardly below that of the most terms.

        So many are enough when, query by query, the confidence interval of the difference to the
        most terms lies above minus the margin, for this number of terms and every larger one.

        Args:
            measure: by default the first.
            margin: the loss that does not matter, in the units of the measure.

        Raises:
            EvaluationError: there is no such measure, or the margin is not above 0.
        """
        name = self._measure(measure)
        if margin <= 0:
            raise EvaluationError(f"the margin is above 0, not {margin}")
        found = []
        for curve in curves(self.points).values():
            *fewer, most = curve
            chosen, difference = most, Interval(0.0, 0.0, 0.0)
            for point in reversed(fewer):
                lost = interval(
                    point.scores.values[name] - most.scores.values[name], **self._sureness
                )
                if not lost.low >= -margin:
                    break
                chosen, difference = point, lost
            if chosen.top_k is not None and most.top_k is not None:
                found.append(Enough(*most.curve, chosen.top_k, most.top_k, difference))
        return found

    @property
    def _sureness(self) -> dict[str, Any]:
        plan = self.plan
        return {"confidence": plan.confidence, "kind": plan.interval, "seed": plan.seed}

    def _measure(self, name: str | None) -> str:
        if name is not None and name not in self.plan.measures:
            raise EvaluationError(f"{name} was not measured: {', '.join(self.plan.measures)} were")
        return name or self.plan.measures[0]


def check_cost(name: str) -> str:
    """A cost that there is.

    Raises:
        EvaluationError: there is none of this name.
    """
    if name not in COSTS:
        raise EvaluationError(f"there is no cost {name!r}; there are {', '.join(COSTS)}")
    return name
