"""The matplotlib figures behind ``figures.plot``; the one module that imports matplotlib.

Figures are made without pyplot, so none stays behind in its global list, and each draws itself in a
notebook. Texts are never parsed as mathematics: a ``$`` in a file name is a dollar.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from imgsearch_es.errors import ImgsearchError
from imgsearch_es.interfaces.gallery.texts import title
from imgsearch_es.interfaces.html import number, words
from imgsearch_es.pictures.thumbnails import reason, shrink_all

if TYPE_CHECKING:
    from imgsearch_es.search.hit import Explanation
    from imgsearch_es.search.hits import Hits

ROWS = 20  # summands drawn; the rest become one bar
PART_ROWS = 6  # summands drawn below a part of a fused query
_SIDE = 512  # pixels; a cell of the grid is about 2 inches wide
_ACCENT, _AGAINST, _QUIET = "#0b7a75", "#b5532d", "#808890"


class Bar(NamedTuple):
    """A bar, the text beside it, and whether it is a summand of the part above it."""

    name: str
    value: float
    text: str
    is_inside: bool = False


class NotebookFigure(Figure):
    """A figure that shows itself in a notebook even when pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", bbox_inches="tight")
        return buffer.getvalue()


def plot_hits(hits: Hits, columns: int, figsize: tuple[float, float] | None) -> Figure:
    """See ``figures.plot``."""
    results = list(hits)
    pictures = list(hits.query.pictures)[:columns]
    columns = min(columns, max(len(results), len(pictures), 3))
    images = list(shrink_all([*pictures, *(hit.uri for hit in results)], _SIDE))
    top = 1 if pictures else 0
    rows = top + math.ceil(len(results) / columns)
    figure = NotebookFigure(
        figsize=figsize or (2.1 * columns, 1.9 * max(rows, 1) + 0.4), layout="constrained"
    )
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


def plot_summands(explanation: Explanation) -> Figure:
    """See ``figures.plot_explanation``."""
    bars = _part_bars(explanation) if explanation.part_rows else _summand_bars(explanation)
    figure = NotebookFigure(figsize=(7.5, 0.9 + 0.34 * max(len(bars), 1)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(f"score {number(explanation.total)}", loc="left", fontweight="bold")
    _bars(axes, bars)
    if explanation.part_rows:
        more = "; below it what its synsets add" if any(bar.is_inside for bar in bars) else ""
        axes.set_xlabel(f"what each part adds{more}", color=_QUIET)
    return figure


def _summand_bars(explanation: Explanation) -> list[Bar]:
    rows = sorted(explanation.rows, key=lambda row: -abs(row[3]))
    bars = [_bar(words(key), rest) for key, *rest in rows[:ROWS]]
    if left := [row[3] for row in rows[ROWS:]]:
        bars.append(Bar(f"{len(left)} more", math.fsum(left), number(math.fsum(left))))
    return bars


def _part_bars(explanation: Explanation) -> list[Bar]:
    """A bar for each part of a fused query, and below it those of its largest summands."""
    bars = []
    for name, *factors in explanation.rows:
        bars.append(_bar(name, factors))
        summands = explanation.part_rows.get(name, ())
        weight, score, _ = factors
        if math.isclose(math.fsum(row[3] for row in summands), score, rel_tol=1e-6):
            for key, _, _, product in summands[:PART_ROWS]:
                added = weight * product
                bars.append(Bar(f"{words(key)}   ", added, number(added), is_inside=True))
    return bars


def _bar(name: str, factors: Sequence[float]) -> Bar:
    weight, score, product = factors
    return Bar(name, product, f"{number(weight)} × {number(score)} = {number(product)}")


def _bars(axes: Axes, bars: Sequence[Bar]) -> None:
    places = range(len(bars))
    values = [bar.value for bar in bars]
    colors = [_ACCENT if value >= 0 else _AGAINST for value in values]
    drawn = axes.barh(places, values, height=0.62, color=colors)
    for patch, bar in zip(drawn, bars, strict=True):
        patch.set_alpha(0.4 if bar.is_inside else 1)
    for place, bar in enumerate(bars):
        beside = axes.get_yaxis_transform()  # x in widths of the axes, y in bars
        axes.text(1.02, place, bar.text, va="center", transform=beside, parse_math=False)
    axes.set_yticks(places, [bar.name for bar in bars], parse_math=False)
    axes.invert_yaxis()
    axes.axvline(0, color=_QUIET, linewidth=0.8)
    axes.set_xlabel("query weight × document score", color=_QUIET)
    axes.tick_params(left=False)
    axes.spines[["top", "right", "left"]].set_visible(False)


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
