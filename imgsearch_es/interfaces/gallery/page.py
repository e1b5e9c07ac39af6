"""The whole gallery: a fragment for notebooks, or a page of its own."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.interfaces.gallery.texts import (
    full_scale,
    hit_chips,
    link,
    matches,
    query_chips,
    shape,
    summary,
    title,
    why,
)
from imgsearch_es.interfaces.html import macros, render, words
from imgsearch_es.pictures.files import filename
from imgsearch_es.pictures.thumbnails import Thumb, embed
from imgsearch_es.retrieval.conditions import METADATA
from imgsearch_es.retrieval.facets import FacetCount, conditions_of
from imgsearch_es.search.hits import Hits

SHOWN = ("top_synset", "label", "year", "camera", "format", "width", "bytes")
"""The fields that galleries count."""
VALUES = 8
"""The values of a field that galleries show, most frequent first."""
_FIELDS = {
    "top_synset": "Best synset",
    "synsets": "Synset",
    "label": "Label",
    "year": "Year",
    "camera": "Camera",
    "lens": "Lens",
    "keywords": "Keyword",
    "format": "Format",
    "width": "Width in pixels",
    "height": "Height in pixels",
    "bytes": "File size",
}
_ROLES = {"image": "Query picture", "like": "Liked picture", "dislike": "Disliked picture"}


def gallery_html(
    hits: Hits,
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
        columns: so many results of 4:3 in a row; None for as many as fit.
        thumbnail: width of a result of 4:3 in CSS pixels, at least; rows are as high as that.
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
    # On a phone two results fit side by side, also of 3:2.
    cell = f"min({thumbnail}px, 45% - 8px)"
    if columns is not None:
        cell = f"max(min(120px, 45% - 8px), (100% - {14 * columns}px) / {columns})"
    pictures = list(hits.query.pictures)
    thumbs = embed([*pictures, *(hit.uri for hit in hits)], thumbnail, max_bytes)
    content = parts().gallery(
        head=query_head(hits, thumbs[: len(pictures)], standalone=standalone),
        cards=cards_of(hits, thumbs[len(pictures) :], standalone=standalone),
        cell=cell,
        facets=parts().facets(facet_groups(facets or {}), f"All {matches(hits)}"),
        script=script(),
    )
    if standalone:
        return page("document.html", title=title(hits.query), style=style(), content=content)
    return str(parts().fragment(title(hits.query), style(), content))


def parts() -> Any:
    """The macros that galleries are made of."""
    return macros("gallery.html")


def query_head(hits: Hits, thumbs: Sequence[Thumb], *, standalone: bool = False) -> Markup:
    """The query's pictures, words and terms, and how many pictures match."""
    query = hits.query
    roles = query.roles or ["image"] * len(thumbs)
    names = [filename(one) if isinstance(one, str) else "" for one in query.pictures]
    terms = hits.asked
    chips = query_chips(terms)
    head: Markup = parts().query_head(
        title=title(query),
        # A heading in a notebook's output would enter the notebook's table of contents.
        heading="h1" if standalone else "p",
        pictures=[
            (thumb, f"{_ROLES[role]} {name}".strip(), role)
            for name, role, thumb in zip(names, roles, thumbs, strict=True)
        ],
        terms=chips,
        more=terms[len(chips) :],
        summary=summary(hits),
        hints=query.hints,
    )
    return head


def cards_of(hits: Hits, thumbs: Sequence[Thumb], *, standalone: bool = False) -> list[Markup]:
    """The results as items of a list, each with its thumbnail.

    Bars are relative to the most that a score can be, else to the best of these.
    """
    full = full_scale(hits.query) or max((hit.score for hit in hits), default=0.0)
    cards = []
    for hit, thumb, explanation in zip(hits, thumbs, hits.explain_all(), strict=True):
        card = parts().card(
            hit=hit,
            thumb=thumb,
            shape=shape(hit.document),
            full=full,
            link=link(hit.uri) if standalone else None,
            terms=hit_chips(hit.synsets, explanation),
            why=why(explanation),
        )
        cards.append(card)
    return cards


def style() -> str:
    """The style sheet of galleries; all its rules are scoped to one class."""
    shared = "".join(map(_shared, ("grid.css", "view.css")))
    return f"{_data('gallery.css')}\n.imgsearch-gallery {{\n{shared}}}\n"


def script() -> str:
    """What galleries do where scripts are run: a large view, as the page has it, and copying."""
    view = _shared("view.js").replace("export function", "function")
    return f"(() => {{\n{view}{_data('gallery.js')}}})();\n"


def page(template: str, **values: Any) -> str:
    """A whole page around galleries; its policy admits their one script and no other."""
    digest = base64.b64encode(hashlib.sha256(script().encode()).digest()).decode()
    return render(template, digest=digest, **values)


def value_name(field: str, value: str) -> str:
    """What a value of a facet is called."""
    return words(value) if "synset" in field else value


def facet_groups(
    facets: Mapping[str, Sequence[FacetCount]],
) -> list[tuple[str, list[dict[str, Any]]]]:
    """The name of each field that tells pictures apart, and its counts as they are shown.

    A person's own field is called by its own name.
    """
    groups = []
    for field, counts in facets.items():
        if len(counts) > 1:
            shown: list[dict[str, Any]] = [
                {
                    "text": value_name(field, item["value"]),
                    "count": item["count"],
                    "chosen": conditions_of(field, item["value"]),
                }
                for item in counts
            ]
            groups.append((_FIELDS.get(field, field.removeprefix(METADATA)), shown))
    return groups


def _shared(name: str) -> str:
    """A file that the page of the server has as well."""
    return (files("imgsearch_es.interfaces.server") / "static" / name).read_text(encoding="utf-8")


@cache
def _data(name: str) -> str:
    return (files("imgsearch_es.interfaces.gallery") / name).read_text(encoding="utf-8")
