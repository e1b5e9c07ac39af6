"""The one way up: a value that shows itself imports from here what draws it, when it does.

Galleries and plots are ready once this is imported; the widgets of notebooks need packages that may
be missing, so there are functions for these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imgsearch_es.errors import needed
from imgsearch_es.interfaces import plots
from imgsearch_es.interfaces.gallery import (
    SHOWN,
    VALUES,
    gallery_html,
    hardest_fragment,
    hardest_page,
)
from imgsearch_es.interfaces.html import counted, number

if TYPE_CHECKING:
    from imgsearch_es.interfaces.notebook.judging import JudgingWidget
    from imgsearch_es.interfaces.notebook.search_box import SearchBox

__all__ = [
    "SHOWN", "VALUES", "JudgingWidget", "SearchBox", "counted", "gallery_html", "hardest_fragment",
    "hardest_page", "judging_widget", "number", "plots", "search_box",
]  # fmt: skip


def search_box() -> type[SearchBox]:
    """The widget of ``ImageIndex.browse``; else MissingDependencyError."""
    needed("ipywidgets", "the search box needs ipywidgets, which is not installed", "widgets")
    from imgsearch_es.interfaces.notebook.search_box import SearchBox

    return SearchBox


def judging_widget() -> type[JudgingWidget]:
    """The widget of ``Judging.widget``; else MissingDependencyError."""
    what = "judging in a notebook needs anywidget (on a terminal it is `imgsearch judge`)"
    needed("anywidget", what, "widgets")
    from imgsearch_es.interfaces.notebook.judging import JudgingWidget

    return JudgingWidget
