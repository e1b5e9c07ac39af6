"""The one way up: a value that shows itself imports from here what draws it, when it does.

Galleries and plots are ready once this is imported; the widgets of notebooks need packages that may
be missing, so there are functions for these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imgsearch_es.errors import MissingDependencyError, pip_install
from imgsearch_es.interfaces.gallery import hardest as hardest_queries
from imgsearch_es.interfaces.gallery.page import SHOWN, VALUES, gallery_html
from imgsearch_es.interfaces.html import number
from imgsearch_es.interfaces.plots import evaluation, figures

if TYPE_CHECKING:
    from imgsearch_es.interfaces.notebook.judging import JudgingWidget
    from imgsearch_es.interfaces.notebook.search_box import SearchBox

__all__ = [
    "SHOWN", "VALUES", "JudgingWidget", "SearchBox", "evaluation", "figures", "gallery_html",
    "hardest_queries", "judging_widget", "number", "search_box",
]  # fmt: skip


def search_box() -> type[SearchBox]:
    """The widget of ``ImageIndex.browse``; else MissingDependencyError."""
    try:
        from imgsearch_es.interfaces.notebook.search_box import SearchBox
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "the search box needs ipywidgets, which is not installed. "
            f"Install it with: {pip_install('widgets')}"
        ) from error
    return SearchBox


def judging_widget() -> type[JudgingWidget]:
    """The widget of ``Judging.widget``; else MissingDependencyError."""
    try:
        from imgsearch_es.interfaces.notebook.judging import JudgingWidget
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith(("anywidget", "traitlets", "ipywidgets")):
            raise
        raise MissingDependencyError(
            f"judging in a notebook needs anywidget: {pip_install('widgets')}; on a "
            "terminal it is `imgsearch judge`"
        ) from error
    return JudgingWidget
