"""What an experiment measured: each system's figures, and how sure they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation.collection import Collection
from imgsearch_es.evaluation.measures import Scores
from imgsearch_es.evaluation.plan import Plan
from imgsearch_es.evaluation.runs import Run
from imgsearch_es.evaluation.significance import Comparison, Interval, compare, interval
from imgsearch_es.evaluation.tasks import Task


@dataclass(frozen=True, eq=False)
class Measured:
    """What an experiment measured: an `Evaluation`, but for showing it."""

    plan: Plan
    task: Task
    collection: Collection
    runs: Mapping[str, Run]
    scores: Mapping[str, Scores]
    about: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def mean(self, system: str, measure: str) -> Interval:
        """A system's mean with its confidence interval.

        Raises:
            EvaluationError: there is no such system or measure.
        """
        if measure not in self._scores(system).values:
            raise EvaluationError(
                f"{measure} was not measured: {', '.join(self.plan.measures)} were"
            )
        return self._means[system, measure]

    @cached_property
    def _means(self) -> dict[tuple[str, str], Interval]:
        plan = self.plan
        return {
            (name, measure): interval(
                values, confidence=plan.confidence, kind=plan.interval, seed=plan.seed
            )
            for name, scores in self.scores.items()
            for measure, values in scores.values.items()
        }

    def compare(self, baseline: str, systems: Iterable[str] | None = None) -> list[Comparison]:
        """Compare systems with a baseline by every measure.

        Args:
            baseline: the name of a system.
            systems: those to compare with it, by default all others.

        Raises:
            EvaluationError: there is no such system.
        """
        figures = self._scores(baseline)
        others = [name for name in systems or self.scores if name != baseline]
        return [
            comparison
            for measure in self.plan.measures
            for comparison in compare(
                measure,
                (baseline, figures.values[measure]),
                {name: self._scores(name).values[measure] for name in others},
                confidence=self.plan.confidence,
                kind=self.plan.interval,
                seed=self.plan.seed,
            )
        ]

    @cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        """All other systems against the one of ``plan.compare``; none without it."""
        return () if self.plan.compare is None else tuple(self.compare(self.plan.compare))

    def topic_name(self, query: str) -> str:
        """What to call a query: the name of its picture, or its id."""
        return self.collection.name(query)

    def _scores(self, system: str) -> Scores:
        if system not in self.scores:
            raise EvaluationError(
                f"{system} is not one of the systems: {', '.join(self.scores)} are"
            )
        return self.scores[system]
