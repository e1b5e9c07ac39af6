"""The head of a gallery: the query, and what was found."""

from __future__ import annotations

from collections.abc import Sequence

from imgsearch_es.interfaces.gallery.frames import frame
from imgsearch_es.interfaces.gallery.protocols import HitsLike
from imgsearch_es.interfaces.gallery.terms import query_chips, term_list
from imgsearch_es.interfaces.gallery.texts import basename, title
from imgsearch_es.interfaces.markup import Html, tag
from imgsearch_es.pictures.thumbnails import Thumb

_ROLES = {"image": "Query picture", "like": "Liked picture", "dislike": "Disliked picture"}


def query_head(hits: HitsLike, shown: int, thumbs: Sequence[Thumb], standalone: bool) -> Html:
    """The query's pictures, words and terms, and how many pictures match."""
    query = hits.query
    roles = getattr(query, "roles", ()) or ["image"] * len(thumbs)
    pictures = [
        frame(thumb, f"{_ROLES[role]} {basename(source)}".strip(), role)
        for source, role, thumb in zip(query.pictures, roles, thumbs, strict=True)
    ]
    # A heading in a notebook's output would enter the notebook's table of contents.
    about = tag(
        "div",
        tag("p", "Query", class_="ig-eyebrow"),
        tag("h1" if standalone else "p", title(query), class_="ig-words", dir="auto"),
        term_list("Terms of the query", query_chips(query.terms)),
        tag("p", _summary(hits, shown), class_="ig-summary"),
        class_="ig-about",
    )
    shelf = tag("div", *pictures, class_="ig-pictures") if pictures else Html()
    return tag("div", shelf, about, class_="ig-query")


def matches(hits: HitsLike) -> str:
    """How many pictures match, for people; "or more" where counting was ended early."""
    more = "" if getattr(hits, "total_is_exact", True) else " or more"
    return f"{hits.total:,}{more} match{'' if hits.total == 1 else 'es'}"


def _summary(hits: HitsLike, shown: int) -> str:
    took = f"{hits.took_ms:.1f}" if hits.took_ms < 100 else f"{hits.took_ms:,.0f}"
    parts = (
        matches(hits) if shown >= hits.total else f"{shown:,} of {matches(hits)}",
        hits.strategy,
        "exact" if hits.exact else "approximate",
        f"{took} ms",
    )
    return " · ".join(part for part in parts if part)
