"""What a sweep found: points, what they lose against a baseline, and how many terms are enough."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgsearch_es.evaluation.sweeps import manifest, report, results
from imgsearch_es.evaluation.sweeps.measured import Measured, check_cost
from imgsearch_es.evaluation.sweeps.points import COSTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Sweep(Measured):
    """Quality, time and size of many settings; shows itself as a table in a notebook.

    Attributes:
        plan: what was asked for.
        task: the judgements' name.
        pictures: how many are searched in.
        queries: how many are asked.
        points: by model, then as the systems and filters were named, fewest terms first.
        about: fingerprints of data, judgements and models.
        notes: what a reader of the figures should know.
    """

    def plot(self, measure: str | None = None, cost: str = "bytes") -> Figure:
        """Quality against cost, with the Pareto front (needs matplotlib).

        Args:
            measure: of quality; by default the first.
            cost: "bytes" per picture, or "latency" of a query.

        Raises:
            EvaluationError: there is no such measure or cost, or nothing was timed.
            MissingDependencyError: matplotlib is not installed.
        """
        from imgsearch_es.interfaces.plots.sweeps import pareto

        return pareto(self, self._measure(measure), check_cost(cost))

    def manifest(self) -> dict[str, Any]:
        """All that another person needs to get the same figures, as JSON values."""
        return manifest.manifest_of(self)

    def write(self, folder: str | os.PathLike[str], *, plots: bool = True) -> list[Path]:
        """Write tables, Parquet (with pyarrow), plots and the manifest; gives the files.

        Raises:
            EvaluationError: a file cannot be written.
            MissingDependencyError: plots need matplotlib.
        """
        return results.write_results(self, Path(folder), self._plots() if plots else {})

    def _plots(self) -> dict[str, Figure]:
        timed = any(not math.isnan(point.p50_ms) for point in self.points)
        return {cost: self.plot(cost=cost) for cost in COSTS if cost == "bytes" or timed}

    def to_markdown(self) -> str:
        """The table of points, and how many terms are enough."""
        return report.to_markdown(self)

    def to_latex(self) -> str:
        """The table for the package booktabs."""
        return report.to_latex(self)

    def to_csv(self) -> str:
        """A line for each point and measure, with all digits."""
        return report.to_csv(self)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return report.to_dict(self)

    def _repr_html_(self) -> str:
        return report.to_html(self)

    def __repr__(self) -> str:
        return self.to_markdown()
