"""Facets beside the results: what all pictures that match have, and how many of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from imgsearch_es.interfaces.gallery.texts import words
from imgsearch_es.interfaces.markup import Html, tag
from imgsearch_es.retrieval.conditions import METADATA
from imgsearch_es.retrieval.facets import FacetCount, conditions_of

SHOWN = ("top_synset", "label", "format", "width", "bytes")
"""The fields that galleries count."""
VALUES = 8
"""The values of a field that galleries show, most frequent first."""

_NAMES = {
    "top_synset": "Best synset",
    "synsets": "Synset",
    "label": "Label",
    "format": "Format",
    "width": "Width in pixels",
    "height": "Height in pixels",
    "bytes": "File size",
}


def facets_panel(facets: Mapping[str, Sequence[FacetCount]], matches: str) -> Html:
    """A list of counts for each field, to fold away; nothing when no field tells pictures apart.

    Args:
        facets: values and counts by field, as ``ImageIndex.facets`` gives them.
        matches: how many pictures were counted, for people.
    """
    told = {field: counts for field, counts in facets.items() if len(counts) > 1}
    if not told:
        return Html()
    lists = [
        tag("details", tag("summary", field_name(field)), _counts(field, counts), open="")
        for field, counts in told.items()
    ]
    head = tag("p", matches, class_="ig-eyebrow")
    return tag("section", head, *lists, class_="ig-facets", aria_label=f"Facets: {matches}")


def field_name(field: str) -> str:
    """What a facet is called; a person's own field by its own name."""
    return _NAMES.get(field, field.removeprefix(METADATA))


def _counts(field: str, counts: Sequence[FacetCount]) -> Html:
    most = max(item["count"] for item in counts)
    return tag("ul", *(_count(field, item, most) for item in counts), role="list")


def _count(field: str, item: FacetCount, most: int) -> Html:
    value = item["value"]
    condition = " ".join(map(str, conditions_of(field, value)))
    bar = tag("span", style=f"width: {100 * item['count'] / most:.1f}%")
    return tag(
        "li",
        tag("span", words(value) if "synset" in field else value, class_="ig-key"),
        " ",
        tag("span", f"{item['count']:,}", class_="ig-weight"),
        tag("span", bar, class_="ig-bar", aria_hidden="true"),
        title=f"In a query: {condition}",
    )
