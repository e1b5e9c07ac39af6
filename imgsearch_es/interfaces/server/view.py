"""What the templates show: hits, facets and explanations as a person reads them."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.interfaces.html import words
from imgsearch_es.interfaces.server.state import LAST_PAGE, PAGE_SIZE, State
from imgsearch_es.interfaces.server.uploads import NAME as UPLOAD_NAME
from imgsearch_es.interfaces.server.uploads import Upload
from imgsearch_es.retrieval.conditions import METADATA, shown_value
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.facets import FacetCount, Facets
from imgsearch_es.retrieval.language import MAX_PARTS
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.search.hits import Hits

FACET_FIELDS = {
    "synsets": "Seen in the picture",
    "label": "Label",
    "format": "Format",
    "width": "Width in pixels",
    "bytes": "File size",
}
_CHIPS = 4
_VECTOR = 9
_TELLING = 0.005
"""A synset with a smaller score is 0.00 to a person."""
FACETS_SHOWN = 7
_ROLES = {"image": "Query picture", "like": "Liked", "dislike": "Disliked"}


def chips(document: Document, asked: Collection[str]) -> list[Term]:
    """A picture's best synsets, first those that the query has."""
    ordered = sorted(document.terms, key=lambda term: (term.key not in asked, -term.score))
    return ([term for term in ordered if term.score >= _TELLING] or ordered[:1])[:_CHIPS]


def vector(query: Query) -> list[Term]:
    """What a query with pictures is: its heaviest synsets."""
    return [term for term in query.terms if term.score >= _TELLING][:_VECTOR]


def share_url(query: Query, state: State) -> str | None:
    """A link that says what was seen in an uploaded picture, instead of naming the upload.

    Uploads are forgotten, and are nobody else's; their synsets with weights are words of the
    query language. None where the page's own URL does, or where this would not give the same.
    """
    uploaded = any(map(UPLOAD_NAME.fullmatch, (*state.image, *state.like, *state.dislike)))
    selecting = query.must or query.must_not or query.filters
    if not uploaded or selecting or query.is_dense or not 0 < len(query.terms) <= MAX_PARTS:
        return None
    text = " ".join(f"synset:{shown_value(term.key)}^{term.score:.7g}" for term in query.terms)
    return state.url(q=text, image=(), like=(), dislike=(), region="")


def alt_of(document: Document) -> str:
    """What a screen reader says of a picture: what is seen in it, and its name."""
    seen = ", ".join(words(term.key) for term in document.terms[:2])
    return f"{seen}: {document.filename}" if seen else document.filename


def example(picture: Document | Upload, role: str) -> dict[str, str]:
    """A picture of the query."""
    if isinstance(picture, Upload):
        name, alt, version = "your picture", "your picture", "1"
    else:
        name, alt, version = picture.filename, alt_of(picture), picture.sha256[:12]
    alt = f"{_ROLES[role]}: {alt}"
    return {"id": picture.id, "role": role, "name": name, "alt": alt, "version": version}


def facet_groups(counted: Facets, state: State) -> list[tuple[str, list[FacetCount], set[str]]]:
    """Fields with their counts, the chosen values first; fields that say nothing are left out."""
    groups = []
    for field, counts in counted.items():
        chosen = {one.partition("=")[2] for one in state.where if one.startswith(f"{field}=")}
        known = {item["value"] for item in counts}
        gone: list[FacetCount] = [{"value": one, "count": 0} for one in sorted(chosen - known)]
        values = sorted([*counts, *gone], key=lambda item: item["value"] not in chosen)
        if len(values) > 1 or chosen:
            groups.append((field, values, chosen))
    return groups


def title_of(field: str) -> str:
    """What a facet is called; a person's own field by its own name."""
    return FACET_FIELDS.get(field, field.removeprefix(METADATA))


def name_of(field: str, value: str) -> str:
    """What a value of a facet is called."""
    return words(value) if field == "synsets" else value


def summary(hits: Hits, state: State) -> dict[str, Any]:
    """Where in the ranking this page is."""
    first = (state.page - 1) * PAGE_SIZE + 1
    last = min(LAST_PAGE, math.ceil(hits.total / PAGE_SIZE))
    return {
        "first": first,
        "last": first + len(hits) - 1,
        "total": f"{hits.total:,}" + ("" if hits.total_is_exact else "+"),
        "pages": last,
        "previous": state.url(page=state.page - 1, region=state.region) if state.page > 1 else None,
        "next": state.url(page=state.page + 1, region=state.region) if state.page < last else None,
    }


def share(score: float, best: float) -> float:
    """Percent of the best score; of distances, whose scores are negative, all."""
    return round(100 * score / best, 1) if best > 0 else 100.0
