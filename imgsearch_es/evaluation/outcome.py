"""What an experiment found: figures, comparisons, tables, plots, and all of it in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation import manifest, report, results
from imgsearch_es.evaluation.measured import Measured

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Evaluation(Measured):
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
        return results.write_results(self, Path(folder), list(self._plots()) if plots else [])

    def _plots(self) -> Iterator[tuple[str, Figure]]:
        yield "precision-recall", self.plot_precision_recall()
        baseline = self.plan.compare
        for name in self.scores if baseline else ():
            if name != baseline:
                yield f"differences-{results.file_name(name)}", self.plot_differences(name)

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
