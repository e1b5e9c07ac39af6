"""Matplotlib figures of hits, explanations, experiments and trainings.

Matplotlib is imported when one is wanted.

Figures are made without pyplot, so none stays behind in its global list, nothing has to be closed,
and each shows itself in a notebook. Texts are never parsed as mathematics: a ``$`` in a file name
is a dollar.
"""

from __future__ import annotations

import io
import math
import os
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from imgsearch_es.errors import ConfigurationError, EvaluationError, ImgsearchError, needed
from imgsearch_es.interfaces.html import number, title, words
from imgsearch_es.pictures import files
from imgsearch_es.pictures.thumbnails import reason, shrink_all

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from imgsearch_es.evaluation.outcome import Evaluation
    from imgsearch_es.evaluation.sweeps.outcome import Point, Sweep
    from imgsearch_es.learning.learner import TrainingReport
    from imgsearch_es.search.hit import Explanation
    from imgsearch_es.search.hits import Hits

ROWS = 20  # summands drawn; the rest become one bar
PART_ROWS = 6  # summands drawn below a part of a fused query
_SIDE = 512  # pixels; a cell of the grid is about 2 inches wide
_BETTER, _WORSE, _QUIET = "#0b7a75", "#b5532d", "#808890"
COLORS = ("#0b7a75", "#b5532d", "#3a5a9b", "#b8860b", "#7b4b94", "#4d7c3a", "#c2477f", "#5f6b73")
_DASHES = ("-", "--", ":")
_MARKERS, _FEATURE_MARKERS = "os^vP*X8", "Ddhp<>H1"
"""Of models: for synsets, and for deep features alone."""
_MANY = 16
"""Of more curves, those that do not reach the front are gray and have no name."""
_SIGNED = 1 << 16
"""Bytes at the begin or end of a PNG, SVG or PDF in which matplotlib names itself."""
_COSTS = {"bytes": "bytes per picture", "latency": "median time of a query, ms"}


class Bar(NamedTuple):
    """A bar, the text beside it, and whether it is a summand of the part above it."""

    name: str
    value: float
    text: str
    is_inside: bool = False


def make_figure(size: tuple[float, float]) -> Figure:
    """An empty figure of so many inches, which shows itself in a notebook.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    needed("matplotlib.figure", "plots need matplotlib, which is not installed", "notebook")
    from matplotlib.figure import Figure

    class NotebookFigure(Figure):
        """A figure that shows itself even when pyplot was never imported."""

        def savefig(self, *arguments: Any, **options: Any) -> None:
            """As ever, but not a warning for each letter that the font lacks: it shows a box."""
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Glyph .* missing from")
                super().savefig(*arguments, **options)

        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png", bbox_inches="tight")
            return buffer.getvalue()

    return NotebookFigure(figsize=size, layout="constrained")


def check_figure(path: Path | None, what: str) -> None:
    """ConfigurationError, before the work, where `save_figure` could not write after it."""
    if path is None:
        return
    files.check_folder_of(path)
    known = make_figure((1, 1)).canvas.get_supported_filetypes()
    if path.suffix and path.suffix[1:].lower() not in known:
        kinds = ", ".join(sorted(known))
        raise ConfigurationError(f"cannot write the {what} {path}: its name may end in {kinds}")
    _check_replaced(path, what)


def _check_replaced(path: Path, what: str) -> None:
    """ConfigurationError where another file would be written over than an earlier plot."""
    if not path.is_file() or not os.access(path, os.R_OK):
        return
    with path.open("rb") as file:
        begin, size = file.read(_SIGNED), path.stat().st_size
        file.seek(max(0, size - _SIGNED))
        if size and b"matplotlib" not in (begin + file.read()).lower():
            raise ConfigurationError(
                f"cannot write the {what} {path}: it is there already, and no plot: name another "
                "file"
            )


def save_figure(figure: Figure, path: str | os.PathLike[str], what: str, **options: Any) -> None:
    """Write a figure (``what`` in an error) into a file of the kind that its name says, else PNG.

    Raises:
        ConfigurationError: the file cannot be written; it is there whole or not.
    """
    target = files.whole(path)
    _check_replaced(target, what)
    try:
        with files.replacing(target) as draft:
            figure.savefig(draft, format=target.suffix[1:] or "png", **options)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"cannot write the {what} {path}: {files.reason(error)}"
        ) from error


def plot(hits: Hits, *, columns: int = 5) -> Figure:
    """Hits as a matplotlib figure: the query on top, then a grid titled by score."""
    if columns < 1:
        raise ConfigurationError("columns must be at least 1.")
    results = list(hits)
    pictures = list(hits.query.pictures)[:columns]
    columns = min(columns, max(len(results), len(pictures), 3))
    top = 1 if pictures else 0
    rows = top + math.ceil(len(results) / columns)
    figure = make_figure((2.1 * columns, 1.9 * max(rows, 1) + 0.4))
    images = list(shrink_all([*pictures, *(hit.uri for hit in results)], _SIDE))
    if hits.query.text or not pictures:
        figure.suptitle(title(hits.query), fontsize="x-large", fontweight="bold", parse_math=False)
    grid = figure.add_gridspec(max(rows, 1), columns)
    start = (columns - len(pictures)) // 2
    roles = hits.query.roles or ["image"] * len(pictures)
    for i, image in enumerate(images[: len(pictures)]):
        caption = "query" if roles[i] == "image" else f"{roles[i]}d"
        _draw(figure.add_subplot(grid[0, start + i]), image, caption)
    for i, (hit, image) in enumerate(zip(results, images[len(pictures) :], strict=True)):
        row, column = divmod(i, columns)
        _draw(figure.add_subplot(grid[top + row, column]), image, number(hit.score))
    if not results:
        figure.supxlabel("No picture matches this query.", color=_QUIET)
    return figure


def plot_explanation(explanation: Explanation) -> Figure:
    """The summands of one score as horizontal bars, largest first, with their factors."""
    bars = _bars(explanation)
    figure = make_figure((7.5, 0.9 + 0.34 * max(len(bars), 1)))
    axes = figure.add_subplot()
    axes.set_title(f"score {number(explanation.total)}", loc="left", fontweight="bold")
    beside = axes.get_yaxis_transform()  # x in widths of the axes, y in bars
    for place, bar in enumerate(bars):
        color, alpha = _BETTER if bar.value >= 0 else _WORSE, 0.4 if bar.is_inside else 1
        axes.barh(place, bar.value, height=0.62, color=color, alpha=alpha)
        axes.text(1.02, place, bar.text, va="center", transform=beside, parse_math=False)
    axes.set_yticks(range(len(bars)), [bar.name for bar in bars], parse_math=False)
    axes.invert_yaxis()
    axes.axvline(0, color=_QUIET, linewidth=0.8)
    label = "query weight × document score"
    if explanation.part_rows:
        more = "; below it what its synsets add" if any(bar.is_inside for bar in bars) else ""
        label = f"what each part adds{more}"
    axes.set_xlabel(label, color=_QUIET)
    axes.tick_params(left=False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def _bars(explanation: Explanation) -> list[Bar]:
    """A bar for each summand; of a fused query for each part, and below it its largest summands."""
    fused, rows = explanation.part_rows, list(explanation.rows)
    if not fused:
        rows.sort(key=lambda row: -abs(row.product))
    bars = []
    for key, weight, score, product in rows[:ROWS]:
        text = f"{number(weight)} × {number(score)} = {number(product)}"
        bars.append(Bar(words(key), product, text))
        inside = fused.get(key, ())
        if inside and math.isclose(math.fsum(row.product for row in inside), score, rel_tol=1e-6):
            for row in inside[:PART_ROWS]:
                added = weight * row.product
                bars.append(Bar(f"{words(row.key)}   ", added, number(added), is_inside=True))
    if left := [row.product for row in rows[ROWS:]]:
        bars.append(Bar(f"{len(left)} more", math.fsum(left), number(math.fsum(left))))
    return bars


def _draw(axes: Axes, image: Image.Image | ImgsearchError, caption: str) -> None:
    axes.set_title(caption, fontsize="medium", parse_math=False)
    axes.set_box_aspect(0.75)
    if not isinstance(image, ImgsearchError):
        axes.set_axis_off()
        axes.imshow(image)
        # Equal boxes keep the titles of a row on one line; the picture is shown whole inside.
        axes.set_adjustable("datalim")
        return
    axes.set(xticks=[], yticks=[], facecolor="none")
    axes.spines[:].set(linestyle=(0, (3, 3)), color=_QUIET)
    text = "Not shown\n" + textwrap.shorten(reason(image), 90)
    text = "\n".join(textwrap.fill(line, 24) for line in text.splitlines())
    label = axes.text(0.5, 0.5, text, parse_math=False, transform=axes.transAxes)
    label.set(ha="center", va="center", fontsize="small", color=_QUIET, in_layout=False)


# -- experiments and trainings ---------------------------------------------------------------------


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
    heading = f"{system} against {baseline}: {better} queries better, {worse} worse"
    axes.set_title(heading, loc="left", parse_math=False)
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
    _finish(axes, f"{evaluation.task.name}: mean over {len(evaluation.task.judgements)} queries")
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
    axes.set(xlabel=_COSTS[cost], ylabel=f"{measure}, {sweep.plan.level} intervals")
    heading = f"{sweep.task}: {sweep.queries:,} queries, {sweep.pictures:,} pictures"
    _finish(axes, f"{heading}; numbers of terms at the front", fontsize="medium")
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


def _finish(axes: Axes, heading: str, **looks: Any) -> None:
    """A title, a grid, and a legend beside it, with a Pareto front last."""
    axes.set_title(heading, loc="left", parse_math=False, **looks)
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
