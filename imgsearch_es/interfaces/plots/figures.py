"""Matplotlib figures of results; matplotlib is imported when one is wanted.

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
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from imgsearch_es.errors import ConfigurationError, ImgsearchError, needed
from imgsearch_es.interfaces.html import number, title, words
from imgsearch_es.pictures import files
from imgsearch_es.pictures.thumbnails import reason, shrink_all

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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


def save_figure(figure: Figure, path: str | os.PathLike[str], what: str, **options: Any) -> None:
    """Write a figure (``what`` in an error) into a file of the kind that its name says, else PNG.

    Raises:
        ConfigurationError: the file cannot be written; it is there whole or not.
    """
    try:
        with files.replacing(Path(path)) as draft:
            figure.savefig(draft, format=Path(path).suffix[1:] or "png", **options)
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
        color, alpha = _ACCENT if bar.value >= 0 else _AGAINST, 0.4 if bar.is_inside else 1
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
