"""The figure of a sweep: quality against cost, and the Pareto front."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation.drawing import COLORS, make_figure
from imgsearch_es.sweeps.points import Point, curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from imgsearch_es.sweeps.outcome import Sweep

_MARKERS = "os^vDP*X"
_AXES = {"bytes": "bytes per picture", "latency": "median time of a query, ms"}
_FRONT = "#c9ced3"


def pareto(sweep: Sweep, measure: str, cost: str) -> Figure:
    """See ``Sweep.plot``."""
    front = sweep.front(measure, cost)
    if not front:
        raise EvaluationError("nothing was timed: sweep with timed= above 0")
    figure = make_figure((8.6, 4.8))
    axes = figure.add_subplot()
    models = list(dict.fromkeys(point.model for point in sweep.points))
    kinds = list(dict.fromkeys((p.system, p.filters) for p in sweep.points))
    for (model, system, filters), points in curves(sweep.points).items():
        color = COLORS[kinds.index((system, filters)) % len(COLORS)]
        label = " ".join(part for part in (system, filters) if part)
        if len(models) > 1:
            label = f"{model}: {label}"
        marker = _MARKERS[models.index(model) % len(_MARKERS)]
        _curve(axes, points, measure, cost, color, marker, label)
    _draw_front(axes, front, measure, cost)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    if cost == "latency":
        axes.xaxis.set_minor_formatter(lambda value, _: f"{value:,.10g}")
        axes.tick_params(axis="x", which="minor", labelsize="x-small")
    axes.set(xlabel=_AXES[cost], ylabel=f"{measure}, {sweep.plan.confidence:.0%} intervals")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize="small")
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
            x, y, yerr=reach, fmt=marker, color=color, markersize=8, capsize=3, label=label
        )
        return
    axes.plot(x, y, marker=marker, markersize=5, color=color, linewidth=1.4, label=label)
    if cost == "bytes":  # by time, a curve may turn back on itself
        axes.fill_between(x, low, high, color=color, alpha=0.10, linewidth=0)


def _draw_front(axes: Axes, front: list[Point], measure: str, cost: str) -> None:
    """Steps behind the points: what can be had at each cost; labeled with numbers of terms."""
    x = [point.cost(cost) for point in front]
    y = [point.means[measure].mean for point in front]
    _, right = axes.get_xlim()
    axes.step(
        [*x, max(right, x[-1])],
        [*y, y[-1]],
        where="post",
        color=_FRONT,
        linewidth=5,
        zorder=0,
        solid_capstyle="butt",
        label="Pareto front",
    )
    for i, point in enumerate(front):
        text = point.system if point.top_k is None else f"{point.top_k}"
        above = i % 2 == 0 or point.top_k is None
        axes.annotate(
            text,
            (x[i], y[i]),
            xytext=(0, 8 if above else -15),
            textcoords="offset points",
            ha="center",
            fontsize="small",
            parse_math=False,
            bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "alpha": 0.75, "linewidth": 0},
        )
