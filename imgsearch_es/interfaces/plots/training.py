"""The curves of a training: loss, and the score of the held-out objects."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from imgsearch_es.interfaces.plots.figures import make_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from imgsearch_es.learning.history import TrainingReport

_HEAD, _LEARNED, _QUIET = "#0b7a75", "#b5532d", "#808890"


def plot_curves(report: TrainingReport) -> Figure:
    """See ``TrainingReport.plot``."""
    figure = make_figure((9, 3.2))
    losses, scores = figure.subplots(1, 2)
    numbers = [epoch.number for epoch in report.history]
    losses.plot(numbers, [e.loss for e in report.history], color=_LEARNED, label="learned from")
    held_out = [epoch.validation_loss for epoch in report.history]
    losses.plot(numbers, held_out, color=_HEAD, label="held out")
    losses.set_ylabel("loss")
    scores.plot([0, *numbers], [report.start_score, *(e.score for e in report.history)],
                color=_HEAD, label="head")  # fmt: skip
    scores.axhline(report.raw_score, color=_QUIET, linestyle="--", label="features as they are")
    scores.plot([report.best], [report.best_score], "o", color=_HEAD)
    scores.set_ylabel("N-S of held-out objects")
    for axes in (losses, scores):
        _finish(axes)
    return figure


def save_curves(report: TrainingReport, path: str | os.PathLike[str]) -> None:
    """See ``TrainingReport.save_plot``."""
    save_figure(plot_curves(report), path, "figure")


def _finish(axes: Axes) -> None:
    axes.set_xlabel("epoch")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
