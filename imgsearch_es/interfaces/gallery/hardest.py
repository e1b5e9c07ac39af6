"""The hardest queries as HTML: a heading with the figure for each, and its gallery below.

In a gallery each picture says in place of its labels whether it is relevant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imgsearch_es.interfaces.gallery.page import gallery_html
from imgsearch_es.interfaces.gallery.page import page as page_of
from imgsearch_es.interfaces.html import render

if TYPE_CHECKING:
    from imgsearch_es.evaluation.experiment import Hardest, HardQuery

PAGE_BYTES = 12_000_000
"""Of all thumbnails together."""
THUMBNAIL = 150
_RANKS = 10


def page(found: Hardest) -> str:
    """A page of its own."""
    title = f"The hardest queries for {found.system}"
    return page_of("hardest_page.html", title=title, content=fragment(found))


def fragment(found: Hardest) -> str:
    """For a notebook."""
    limit = PAGE_BYTES // max(len(found), 1)
    queries = [(hard, summary(hard), _gallery(hard, limit)) for hard in found]
    return render("hardest.html", found=found, queries=queries)


def _gallery(hard: HardQuery, limit: int) -> str:
    if hard.hits is None:
        return ""
    marked = hard.hits.labeled(lambda hit: (mark(hard.grades.get(hit.id)),))
    return gallery_html(marked, thumbnail=THUMBNAIL, max_bytes=limit)


def summary(hard: HardQuery) -> str:
    """Where the relevant pictures are in the whole ranking."""
    total = len(hard.ranks) + len(hard.missed)
    if not total:
        return "Nothing is judged relevant."
    shown = ", ".join(map(str, hard.ranks[:_RANKS]))
    more = f" and {len(hard.ranks) - _RANKS} more" if len(hard.ranks) > _RANKS else ""
    where = f"at rank {shown}{more}" if hard.ranks else "nowhere in the ranking"
    missed = f"; {len(hard.missed)} not found" if hard.ranks and hard.missed else ""
    return f"{total} relevant, {where}{missed}."


def mark(grade: int | None) -> str:
    """What to call a grade."""
    if grade is None:
        return "? not judged"
    return "✗ not relevant" if grade < 1 else "✓ relevant" + (f" ({grade})" if grade > 1 else "")
