"""The whole gallery: a fragment for notebooks, or a page of its own."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.interfaces.gallery.card import card
from imgsearch_es.interfaces.gallery.facets import facets_panel
from imgsearch_es.interfaces.gallery.head import matches, query_head
from imgsearch_es.interfaces.gallery.protocols import HitsLike
from imgsearch_es.interfaces.gallery.texts import title
from imgsearch_es.interfaces.markup import Html, tag
from imgsearch_es.pictures.thumbnails import Thumb, embed
from imgsearch_es.retrieval.facets import FacetCount


def gallery_html(
    hits: HitsLike,
    *,
    columns: int | None = None,
    thumbnail: int = 192,
    standalone: bool = False,
    max_bytes: int = 4_000_000,
    facets: Mapping[str, Sequence[FacetCount]] | None = None,
) -> str:
    """Hits as HTML: the query first, then a grid of results, facets beside it.

    A picture that cannot be shown is replaced by a box that says why; it is never an error.

    Args:
        hits: what to show.
        columns: at most so many results in a row; None for as many as fit.
        thumbnail: width of a result in CSS pixels, at least.
        standalone: a whole page, with links to the originals, instead of a notebook's fragment.
        max_bytes: limit for all embedded thumbnails together, encoded. Thumbnails get smaller to
            stay below it, and the last ones are left out.
        facets: values and counts by field, as ``hits.facets()`` gives them; those that do not
            tell pictures apart are left out.

    Raises:
        ConfigurationError: a number is out of range.
    """
    if thumbnail < 1 or max_bytes < 0 or (columns is not None and columns < 1):
        raise ConfigurationError("columns and thumbnail must be at least 1, max_bytes at least 0.")
    results = list(hits)
    pictures = list(hits.query.pictures)
    thumbs = embed([*pictures, *(hit.uri for hit in results)], thumbnail, max_bytes)
    query = query_head(hits, len(results), thumbs[: len(pictures)], standalone)
    cards = cards_of(hits, thumbs[len(pictures) :], standalone)
    grid = _grid(cards, columns, thumbnail) if cards else _nothing()
    panel = facets_panel(facets, f"All {matches(hits)}") if facets and cards else Html()
    body = (query, tag("div", grid, panel, class_="ig-body"), _script())
    if standalone:
        main = tag("body", tag("main", *body), class_="imgsearch-gallery ig-page")
        return document(title(hits.query), main, style())
    name = f"Image search results: {title(hits.query)}"
    return tag("section", style(), *body, class_="imgsearch-gallery", aria_label=name)


def cards_of(hits: HitsLike, thumbs: Sequence[Thumb], standalone: bool = False) -> list[Html]:
    """The results as items of a list, each with its thumbnail."""
    best = max((hit.score for hit in hits), default=0.0)
    return [
        card(hit, thumb, hits.explain(i), best, standalone)
        for i, (hit, thumb) in enumerate(zip(hits, thumbs, strict=True))
    ]


def style() -> Html:
    """The style sheet of galleries; all its rules are scoped to one class."""
    return tag("style", Html(_data("gallery.css")))


def _grid(cards: Sequence[Html], columns: int | None, thumbnail: int) -> Html:
    # The narrowest a result may be; on a phone two fit side by side.
    cell = f"min({thumbnail}px, 50% - 8px)"
    if columns is not None:
        cell = f"max(min(120px, 50% - 8px), (100% - {16 * (columns - 1)}px) / {columns})"
    return tag("ol", *cards, class_="ig-grid", role="list", style=f"--ig-cell: {cell}")


def document(heading: str, body: Html, *styles: Html) -> str:
    """A whole page around galleries; its policy admits their one script and no other.

    Args:
        heading: the page's title.
        body: the element of this name.
        styles: elements for the head.
    """
    digest = base64.b64encode(hashlib.sha256(_data("gallery.js").encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'"
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("title", f"{heading} – imgsearch"),
        *styles,
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _script() -> Html:
    """What the copy buttons do; the one script, and the page's policy admits no other."""
    return tag("script", Html(_data("gallery.js")))


@cache
def _data(name: str) -> str:
    return (files("imgsearch_es.interfaces.gallery") / name).read_text(encoding="utf-8")


def _nothing() -> Html:
    return tag(
        "p",
        tag("strong", "No picture matches this query."),
        " Try a broader word (“dog” stands for every breed), fewer filters, or a picture.",
        class_="ig-empty",
    )
