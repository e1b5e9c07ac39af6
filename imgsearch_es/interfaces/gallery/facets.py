"""Facets beside the results: what all pictures that match have, and how many of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imgsearch_es.interfaces.html import words
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


def facet_groups(
    facets: Mapping[str, Sequence[FacetCount]],
) -> list[tuple[str, list[dict[str, Any]]]]:
    """The name of each field that tells pictures apart, and its counts as they are shown."""
    return [
        (
            field_name(field),
            [
                {
                    "text": value_name(field, item["value"]),
                    "count": item["count"],
                    "condition": " ".join(map(str, conditions_of(field, item["value"]))),
                }
                for item in counts
            ],
        )
        for field, counts in facets.items()
        if len(counts) > 1
    ]


def field_name(field: str) -> str:
    """What a facet is called; a person's own field by its own name."""
    return _NAMES.get(field, field.removeprefix(METADATA))


def value_name(field: str, value: str) -> str:
    """What a value of a facet is called."""
    return words(value) if "synset" in field else value
