"""Figures of an experiment: where one system wins, and precision against recall."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation.measures import score
from imgsearch_es.interfaces.plots.figures import make_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from imgsearch_es.evaluation.outcome import Evaluation

LEVELS = tuple(f"IPrec@{level / 10:.1f}" for level in range(11))
_BETTER, _WORSE, _QUIET = "#0b7a75", "#b5532d", "#808890"
COLORS = ("#0b7a75", "#b5532d", "#3a5a9b", "#b8860b", "#7b4b94", "#4d7c3a", "#c2477f", "#5f6b73")
_DASHES = ("-", "--", ":")


def differences(evaluation: Evaluation, system: str, baseline: str, measure: str) -> Figure:
    """See ``Evaluation.plot_differences``."""
    if measure not in evaluation.plan.measures:
        raise EvaluationError(f"{measure} was not measured")
    ours = evaluation.scores[system].values[measure]
    values = np.sort(np.round(ours - evaluation.scores[baseline].values[measure], 12))[::-1]
    figure = make_figure((7.5, 3.4))
    axes = figure.add_subplot()
    colors = np.where(values > 0, _BETTER, np.where(values < 0, _WORSE, _QUIET))
    axes.bar(range(1, len(values) + 1), values, width=1.0, color=colors.tolist())
    axes.axhline(0, color=_QUIET, linewidth=0.8)
    mean = float(values.mean())
    axes.axhline(mean, color="black", linewidth=0.9, linestyle="--")
    beside = axes.get_yaxis_transform()
    axes.text(1.01, mean, f"mean {mean:+.3f}", va="center", transform=beside, fontsize="small")
    better, worse = np.count_nonzero(values > 0), np.count_nonzero(values < 0)
    title = f"{system} against {baseline}: {better} queries better, {worse} worse"
    axes.set_title(title, loc="left", parse_math=False)
    axes.set(xlabel=f"{len(values)} queries, by difference", ylabel=f"difference of {measure}")
    axes.set_xlim(0.5, len(values) + 0.5)
    reach = max(float(np.abs(values).max()), 0.01) * 1.08
    axes.set_ylim(-reach, reach)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def precision_recall(evaluation: Evaluation, systems: Sequence[str]) -> Figure:
    """See ``Evaluation.plot_precision_recall``; trec_eval's interpolation, mean over queries."""
    figure = make_figure((6.4, 4.4))
    axes = figure.add_subplot()
    recall = [level / 10 for level in range(11)]
    for i, name in enumerate(systems):
        found = score(evaluation.task.judgements, evaluation.runs[name], LEVELS)
        precision = [found.mean(level) for level in LEVELS]
        style = _DASHES[i // len(COLORS) % len(_DASHES)]
        color = COLORS[i % len(COLORS)]
        axes.plot(recall, precision, style, marker="o", markersize=3, color=color, label=name)
    axes.set(xlabel="recall", ylabel="interpolated precision", xlim=(-0.02, 1.02))
    low, _ = axes.get_ylim()
    axes.set_ylim(max(0.0, low), 1.02)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize="small")
    axes.set_title(f"{evaluation.task.name}: mean over {len(evaluation.task.judgements)} queries",
                   loc="left", parse_math=False)  # fmt: skip
    return figure
