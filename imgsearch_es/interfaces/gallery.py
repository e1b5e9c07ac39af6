"""Results as people look at them: an HTML gallery for notebooks and pages, also of hard queries.

The HTML loads nothing from outside: thumbnails are embedded, and the style sheet (gallery.css) is
scoped to one class. Its one script (gallery.js) copies a path at a click on "Copy path"; the policy
of a page admits no other. The templates escape all text, so that a file name or a word can never
become markup.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.interfaces.html import (
    full_scale,
    hit_chips,
    link,
    matches,
    query_chips,
    render,
    shape,
    summary,
    templates,
    title,
    why,
    words,
)
from imgsearch_es.pictures.files import filename
from imgsearch_es.pictures.thumbnails import Thumb, embed
from imgsearch_es.retrieval.conditions import METADATA
from imgsearch_es.retrieval.facets import FacetCount, conditions_of
from imgsearch_es.search.hits import Hits

if TYPE_CHECKING:
    from imgsearch_es.evaluation.experiment import Hardest, HardQuery

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
_PAGE_BYTES = 12_000_000
"""Of all thumbnails of a page of hard queries."""
_RANKS = 10


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

    A picture that cannot be shown is replaced by a box that says why. There are ``columns``
    results of 4:3 in a row, else as many as fit of at least ``thumbnail`` CSS pixels. To stay
    below ``max_bytes``, encoded, thumbnails get smaller, and the last ones are left out. A
    ``standalone`` page has links to the originals.
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
        return _page("document.html", title=title(hits.query), style=style(), content=content)
    return str(parts().fragment(title(hits.query), style(), content))


def parts() -> Any:
    """The macros that galleries are made of, to be called with values."""
    return templates().get_template("gallery.html").module


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
    return [
        parts().card(
            hit=hit,
            thumb=thumb,
            shape=shape(hit.document),
            full=full,
            link=link(hit.uri) if standalone else None,
            terms=hit_chips(hit.synsets, explanation),
            why=why(explanation),
        )
        for hit, thumb, explanation in zip(hits, thumbs, hits.explain_all(), strict=True)
    ]


def style() -> str:
    """The style sheet of galleries; all its rules are scoped to one class."""
    shared = "".join(_text(f"server/static/{name}.css") for name in ("grid", "view"))
    return f"{_text('templates/gallery.css')}\n.imgsearch-gallery {{\n{shared}}}\n"


def script() -> str:
    """What galleries do where scripts are run: a large view, as the page has it, and copying."""
    view = _text("server/static/view.js").replace("export function", "function")
    return f"(() => {{\n{view}{_text('templates/gallery.js')}}})();\n"


@cache
def _text(path: str) -> str:
    return files("imgsearch_es.interfaces").joinpath(path).read_text(encoding="utf-8")


def _page(template: str, **values: Any) -> str:
    """A whole page around galleries; its policy admits their one script and no other."""
    digest = base64.b64encode(hashlib.sha256(script().encode()).digest()).decode()
    return render(template, digest=digest, **values)


def value_name(field: str, value: str) -> str:
    """What a value of a facet is called."""
    return words(value) if "synset" in field else value


def facet_groups(
    facets: Mapping[str, Sequence[FacetCount]],
) -> list[tuple[str, list[dict[str, Any]]]]:
    """The name of each field that tells pictures apart, and its counts as they are shown."""
    return [
        (
            _FIELDS.get(field, field.removeprefix(METADATA)),
            [
                {
                    "text": value_name(field, item["value"]),
                    "count": item["count"],
                    "chosen": conditions_of(field, item["value"]),
                }
                for item in counts
            ],
        )
        for field, counts in facets.items()
        if len(counts) > 1
    ]


def hardest_page(found: Hardest) -> str:
    """A page of the hardest queries: a heading with the figure for each, and its gallery below."""
    title = f"The hardest queries for {found.system}"
    return _page("hardest_page.html", title=title, content=hardest_fragment(found))


def hardest_fragment(found: Hardest) -> str:
    """The same for a notebook."""
    limit = _PAGE_BYTES // max(len(found), 1)
    queries = [(hard, hardest_summary(hard), _gallery(hard, limit)) for hard in found]
    return render("hardest.html", found=found, queries=queries)


def _gallery(hard: HardQuery, limit: int) -> str:
    """Each picture says in place of its labels whether it is relevant."""
    if hard.hits is None:
        return ""
    marked = hard.hits.labeled(lambda hit: (mark(hard.grades.get(hit.id)),))
    return gallery_html(marked, thumbnail=150, max_bytes=limit)


def hardest_summary(hard: HardQuery) -> str:
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
