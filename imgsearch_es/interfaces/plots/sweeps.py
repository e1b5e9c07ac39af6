"""The figure of a sweep: quality against cost, and the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation.sweeps.points import Point, curves
from imgsearch_es.interfaces.plots.evaluation import COLORS
from imgsearch_es.interfaces.plots.figures import make_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from imgsearch_es.evaluation.sweeps.outcome import Sweep

_MARKERS, _FEATURE_MARKERS = "os^vP*X8", "Ddhp<>H1"
"""Of models: for synsets, and for deep features alone."""
_AXES = {"bytes": "bytes per picture", "latency": "median time of a query, ms"}
_FRONT, _GRAY = "Pareto front", "#c9ced3"


def pareto(sweep: Sweep, measure: str, cost: str) -> Figure:
    """See ``Sweep.plot``."""
    front = sweep.front(measure, cost)
    if not front:
        raise EvaluationError("nothing was timed: sweep with timed= above 0")
    figure = make_figure((8.6, 4.8))
    axes = figure.add_subplot()
    models = list(dict.fromkeys(point.model for point in sweep.points))
    kinds = dict.fromkeys((point.system, point.filters) for point in sweep.points)
    colors = {kind: COLORS[i % len(COLORS)] for i, kind in enumerate(kinds)}
    for (model, system, filters), points in curves(sweep.points).items():
        color = colors[system, filters]
        label = " ".join(part for part in (system, filters) if part)
        if len(models) > 1:
            label = f"{model}: {label}"
        markers = _MARKERS if filters else _FEATURE_MARKERS
        marker = markers[models.index(model) % len(markers)]
        _curve(axes, points, measure, cost, color, marker, label)
    _draw_front(axes, front, measure, cost)
    _label(axes, front, measure, cost, colors)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    if cost == "latency":
        axes.xaxis.set_minor_formatter(lambda value, _: f"{value:,.10g}")
        axes.tick_params(axis="x", which="minor", labelsize="x-small")
    axes.set(xlabel=_AXES[cost], ylabel=f"{measure}, {sweep.plan.confidence:.0%} intervals")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    handles, names = axes.get_legend_handles_labels()
    order = sorted(range(len(names)), key=lambda i: names[i] == _FRONT)  # the front comes last
    axes.legend(
        [handles[i] for i in order],
        [names[i] for i in order],
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        frameon=False,
        fontsize="small",
    )
    axes.set_title(
        f"{sweep.task}: {sweep.queries:,} queries, {sweep.pictures:,} pictures; numbers of terms "
        "at the front",
        loc="left",
        parse_math=False,
        fontsize="medium",
    )
    return figure


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
        axes.errorbar(
            x, y, yerr=reach, fmt=marker, color=color, markersize=7, capsize=3, label=label
        )
        return
    by_size = cost == "bytes"  # by time, a curve may turn back on itself
    width = 1.4 if by_size else 0.4
    axes.plot(x, y, marker=marker, markersize=5, color=color, linewidth=width, label=label)
    if by_size:
        axes.fill_between(x, low, high, color=color, alpha=0.10, linewidth=0)


def _draw_front(axes: Axes, front: list[Point], measure: str, cost: str) -> None:
    """Steps behind the points: what can be had at each cost."""
    x = [point.cost(cost) for point in front]
    y = [point.means[measure].mean for point in front]
    _, right = axes.get_xlim()
    axes.step(
        [*x, max(right, x[-1])],
        [*y, y[-1]],
        where="post",
        color=_GRAY,
        linewidth=5,
        zorder=0,
        solid_capstyle="butt",
        label=_FRONT,
    )


def _label(
    axes: Axes,
    front: list[Point],
    measure: str,
    cost: str,
    colors: Mapping[tuple[str, str], str],
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
            color=colors[point.system, point.filters],
            fontsize="small",
            fontweight="bold",
            parse_math=False,
            bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "alpha": 0.75, "linewidth": 0},
        )
