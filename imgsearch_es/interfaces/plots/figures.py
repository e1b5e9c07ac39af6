"""Matplotlib figures of results, made by ``hits``, which is imported when one is wanted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgsearch_es.errors import ConfigurationError, MissingDependencyError, pip_install
from imgsearch_es.pictures.files import reason, replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from imgsearch_es.search.hit import Explanation
    from imgsearch_es.search.hits import Hits


def plot(hits: Hits, *, columns: int = 5, figsize: tuple[float, float] | None = None) -> Figure:
    """Hits as a matplotlib figure: the query on top, then a grid titled by score.

    The figure does not belong to pyplot: a notebook shows it once, nothing has to be closed.

    Args:
        hits: what to show.
        columns: results in a row.
        figsize: width and height in inches; None for a size that fits the rows.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        ConfigurationError: ``columns`` is less than 1.
    """
    if columns < 1:
        raise ConfigurationError("columns must be at least 1.")
    try:
        from imgsearch_es.interfaces.plots.hits import plot_hits
    except ModuleNotFoundError as error:
        raise no_matplotlib() from error
    return plot_hits(hits, columns, figsize)


def plot_explanation(explanation: Explanation) -> Figure:
    """The summands of one score as horizontal bars, largest first, with their factors.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from imgsearch_es.interfaces.plots.hits import plot_summands
    except ModuleNotFoundError as error:
        raise no_matplotlib() from error
    return plot_summands(explanation)


def make_figure(size: tuple[float, float]) -> Figure:
    """An empty figure of so many inches, which shows itself in a notebook.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from imgsearch_es.interfaces.plots.hits import NotebookFigure
    except ModuleNotFoundError as error:
        raise no_matplotlib() from error
    return NotebookFigure(figsize=size, layout="constrained")


def save_figure(figure: Figure, path: str | os.PathLike[str], what: str, **options: Any) -> None:
    """Write a figure into a file, of the kind that its name says; it is there whole or not.

    Args:
        figure: what to write.
        path: of the file; without a suffix it is a PNG.
        what: the figure is called in an error.
        options: of ``Figure.savefig``.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    try:
        with replacing(Path(path)) as draft:
            figure.savefig(draft, format=Path(path).suffix[1:] or "png", **options)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot write the {what} {path}: {reason(error)}") from error


def no_matplotlib() -> MissingDependencyError:
    """What to say where a figure was asked for and cannot be drawn."""
    return MissingDependencyError(
        f"plots need matplotlib, which is not installed. Install it with: {pip_install('notebook')}"
    )
