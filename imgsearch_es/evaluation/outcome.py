"""What an experiment found: figures, comparisons, tables, plots, and all of it in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation import manifest, report, results
from imgsearch_es.evaluation.collection import Collection
from imgsearch_es.evaluation.measures import Scores
from imgsearch_es.evaluation.plan import Plan
from imgsearch_es.evaluation.runs import Run
from imgsearch_es.evaluation.significance import Comparison, Interval, compare, interval
from imgsearch_es.evaluation.tasks import Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an experiment found; shows itself as a table in a notebook.

    Attributes:
        plan: what was asked for.
        task: the queries and their judgements.
        collection: the pictures searched in.
        runs: what each system answered, by name.
        scores: each system's figures, by name.
        about: the index: its location, analyzer, weights, and what its store runs on.
        notes: what a reader of the figures should know.
    """

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

    def plot_differences(
        self, system: str, baseline: str | None = None, measure: str | None = None
    ) -> Figure:
        """Per query, how much better or worse a system is than a baseline (needs matplotlib)."""
        other = baseline or self.plan.compare
        if other is None:
            raise EvaluationError("which baseline? Give baseline=, or compare= to evaluate")
        from imgsearch_es.interfaces.plots.evaluation import differences

        name = measure or self.plan.measures[0]
        return differences(self, self._known(system), self._known(other), name)

    def plot_precision_recall(self, systems: Sequence[str] | None = None) -> Figure:
        """Interpolated precision at eleven levels of recall (needs matplotlib)."""
        from imgsearch_es.interfaces.plots.evaluation import precision_recall

        return precision_recall(self, [self._known(s) for s in systems or self.scores])

    def manifest(self) -> dict[str, Any]:
        """All that another person needs to get the same figures, as JSON values."""
        return manifest.manifest_of(self)

    def write(self, folder: str | os.PathLike[str], *, plots: bool = True) -> list[Path]:
        """Write tables, runs, qrels, manifest and plots into a folder; gives the files.

        Raises:
            EvaluationError: a file cannot be written.
            MissingDependencyError: plots need matplotlib.
        """
        return results.write_results(self, Path(folder), plots=plots)

    def to_markdown(self) -> str:
        """The table of means, and of comparisons where there are some."""
        return report.to_markdown(self)

    def to_latex(self) -> str:
        """The table of means for the package booktabs."""
        return report.to_latex(self)

    def to_csv(self) -> str:
        """All means, intervals and comparisons, a line for each system and measure."""
        return report.to_csv(self)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return report.to_dict(self)

    def _repr_html_(self) -> str:
        return report.to_html(self)

    def __repr__(self) -> str:
        return self.to_markdown()

    def _known(self, system: str) -> str:
        self._scores(system)
        return system

    def _scores(self, system: str) -> Scores:
        if system not in self.scores:
            raise EvaluationError(
                f"{system} is not one of the systems: {', '.join(self.scores)} are"
            )
        return self.scores[system]
