"""Figures of experiments: where one system wins, precision and recall, cost, a training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from imgsearch_es.errors import EvaluationError
from imgsearch_es.interfaces.plots.figures import make_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from imgsearch_es.evaluation.outcome import Evaluation
    from imgsearch_es.evaluation.sweeps.outcome import Point, Sweep
    from imgsearch_es.learning.learner import TrainingReport

_BETTER, _WORSE, _QUIET = "#0b7a75", "#b5532d", "#808890"
COLORS = ("#0b7a75", "#b5532d", "#3a5a9b", "#b8860b", "#7b4b94", "#4d7c3a", "#c2477f", "#5f6b73")
_DASHES = ("-", "--", ":")
_MARKERS, _FEATURE_MARKERS = "os^vP*X8", "Ddhp<>H1"
"""Of models: for synsets, and for deep features alone."""
_MANY = 16
"""Of more curves, those that do not reach the front are gray and have no name."""
_COSTS = {"bytes": "bytes per picture", "latency": "median time of a query, ms"}


def differences(evaluation: Evaluation, system: str, baseline: str, measure: str) -> Figure:
    """See ``Evaluation.plot_differences``."""
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
    from imgsearch_es.evaluation.measures import score

    figure = make_figure((6.4, 4.4))
    axes = figure.add_subplot()
    recall = [level / 10 for level in range(11)]
    levels = [f"IPrec@{level:.1f}" for level in recall]
    for i, name in enumerate(systems):
        found = score(evaluation.task.judgements, evaluation.runs[name], levels)
        precision = [found.mean(level) for level in levels]
        style = _DASHES[i // len(COLORS) % len(_DASHES)]
        color = COLORS[i % len(COLORS)]
        axes.plot(recall, precision, style, marker="o", markersize=3, color=color, label=name)
    axes.set(xlabel="recall", ylabel="interpolated precision", xlim=(-0.02, 1.02))
    low, _ = axes.get_ylim()
    axes.set_ylim(max(0.0, low), 1.02)
    _finish(axes)
    axes.set_title(f"{evaluation.task.name}: mean over {len(evaluation.task.judgements)} queries",
                   loc="left", parse_math=False)  # fmt: skip
    return figure


def pareto(sweep: Sweep, measure: str, cost: str) -> Figure:
    """See ``Sweep.plot``."""
    from imgsearch_es.evaluation.sweeps.outcome import curves

    front = sweep.front(measure, cost)
    if not front:
        raise EvaluationError("nothing was timed: sweep with timed= above 0")
    figure = make_figure((8.6, 4.8))
    axes = figure.add_subplot()
    models = list(dict.fromkeys(point.model for point in sweep.points))
    drawn = curves(sweep.points)
    if len(drawn) > _MANY:
        reached = {point.curve for point in front}
        rest = [point for key in drawn.keys() - reached for point in drawn[key]]
        drawn = {key: points for key, points in drawn.items() if key in reached}
        axes.plot([p.cost(cost) for p in rest], [p.means[measure].mean for p in rest], "o",
                  color="#c9ced3", markersize=3, label=f"{len(rest)} others")  # fmt: skip
    kinds = dict.fromkeys(key[1:] for key in drawn)
    colors = {kind: COLORS[i % len(COLORS)] for i, kind in enumerate(kinds)}
    for (model, system, filters, asked), points in drawn.items():
        parts = (system, filters, f"query {asked}" if asked else "")
        label = " ".join(part for part in parts if part)
        if len(models) > 1:
            label = f"{model}: {label}"
        markers = _MARKERS if filters else _FEATURE_MARKERS
        marker = markers[models.index(model) % len(markers)]
        _curve(axes, points, measure, cost, colors[system, filters, asked], marker, label)
    x, y = [p.cost(cost) for p in front], [p.means[measure].mean for p in front]
    axes.step(  # behind the points: what can be had at each cost
        [*x, max(axes.get_xlim()[1], x[-1])], [*y, y[-1]], where="post", color="#c9ced3",
        linewidth=5, zorder=0, solid_capstyle="butt", label="Pareto front",
    )  # fmt: skip
    _label(axes, front, measure, cost, colors)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    if cost == "latency":
        axes.xaxis.set_minor_formatter(lambda value, _: f"{value:,.10g}")
        axes.tick_params(axis="x", which="minor", labelsize="x-small")
    axes.set(xlabel=_COSTS[cost], ylabel=f"{measure}, {sweep.plan.confidence:.0%} intervals")
    _finish(axes)
    title = f"{sweep.task}: {sweep.queries:,} queries, {sweep.pictures:,} pictures"
    axes.set_title(f"{title}; numbers of terms at the front",
                   loc="left", parse_math=False, fontsize="medium")  # fmt: skip
    return figure


def plot_curves(report: TrainingReport) -> Figure:
    """See ``TrainingReport.plot``."""
    figure = make_figure((9, 3.2))
    losses, scores = figure.subplots(1, 2)
    numbers = [epoch.number for epoch in report.history]
    losses.plot(numbers, [e.loss for e in report.history], color=_WORSE, label="learned from")
    held_out = [epoch.validation_loss for epoch in report.history]
    losses.plot(numbers, held_out, color=_BETTER, label="held out")
    losses.set_ylabel("loss")
    scores.plot([0, *numbers], [report.start_score, *(e.score for e in report.history)],
                color=_BETTER, label="head")  # fmt: skip
    scores.axhline(report.raw_score, color=_QUIET, linestyle="--", label="features as they are")
    scores.plot([report.best], [report.best_score], "o", color=_BETTER)
    scores.set_ylabel("N-S of held-out objects")
    for axes in (losses, scores):
        axes.set_xlabel("epoch")
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _finish(axes: Axes) -> None:
    """A grid, and a legend beside it, with a Pareto front last."""
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    handles, names = axes.get_legend_handles_labels()
    order = sorted(range(len(names)), key=lambda i: names[i] == "Pareto front")
    axes.legend([handles[i] for i in order], [names[i] for i in order], loc="center left",
                bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize="small")  # fmt: skip


def _curve(
    axes: Axes, points: list[Point], measure: str, cost: str, color: str, marker: str, label: str
) -> None:
    """The points of one system and chain, by number of terms, and how sure they are."""
    priced = [point for point in points if not math.isnan(point.cost(cost))]
    x = [point.cost(cost) for point in priced]
    means = [point.means[measure] for point in priced]
    y = [mean.mean for mean in means]
    low = [mean.mean if math.isnan(mean.low) else mean.low for mean in means]
    high = [mean.mean if math.isnan(mean.high) else mean.high for mean in means]
    if len(priced) == 1:
        reach = [[y[0] - low[0]], [high[0] - y[0]]]
        axes.errorbar(x, y, yerr=reach, fmt=marker, color=color, markersize=7, capsize=3,
                      label=label)  # fmt: skip
        return
    by_size = cost == "bytes"  # by time, a curve may turn back on itself
    width = 1.4 if by_size else 0.4
    axes.plot(x, y, marker=marker, markersize=5, color=color, linewidth=width, label=label)
    if by_size:
        axes.fill_between(x, low, high, color=color, alpha=0.10, linewidth=0)


def _label(
    axes: Axes,
    front: list[Point],
    measure: str,
    cost: str,
    colors: Mapping[tuple[str, str, int | None], str],
) -> None:
    """Numbers of terms, in their curves' colors, by turns above and below; names of the others."""
    for i, point in enumerate(front):
        is_feature = point.top_k is None
        axes.annotate(
            point.system if is_feature else str(point.top_k),
            (point.cost(cost), point.means[measure].mean),
            xytext=(9, 5) if is_feature else (0, -15 if i % 2 else 8),
            textcoords="offset points",
            ha="left" if is_feature else "center",
            color=colors[point.curve[1:]],
            fontsize="small",
            fontweight="bold",
            parse_math=False,
            bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "alpha": 0.75, "linewidth": 0},
        )
