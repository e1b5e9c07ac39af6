"""Panels of Vega-Lite as saved objects.

A visualization of Kibana holds its Vega specification as text. Where the specification has a URL
that is an object, Kibana sends its ``body`` to Elasticsearch; with ``%context%`` the dashboard's
query and filters apply (elastic/kibana,
src/plugins/vis_types/vega/public/data_model/es_query_parser.ts). The specifications keep to what
Vega-Lite 5.2, of Kibana 8.15, knows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from imgsearch_es.interfaces.kibana.panels import BY_MEAN_SCORE, TOGETHER, VegaPanel, searched
from imgsearch_es.interfaces.kibana.saved_objects import NO_QUERY, SavedObject, compact, object_id

SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
"""Names the version; Kibana loads nothing from there."""
_FIT = {"type": "fit", "contains": "padding"}


def vega_object(panel: VegaPanel, index: str) -> SavedObject:
    """A panel as a saved object."""
    title = f"{index}: {panel.title}"
    state = {
        "title": title,
        "type": "vega",
        "params": {"spec": compact(specification(panel, index))},
        "aggs": [],
    }
    attributes = {
        "title": title,
        "description": panel.description,
        "version": 1,
        "visState": compact(state),
        "uiStateJSON": "{}",
        "kibanaSavedObjectMeta": {"searchSourceJSON": compact(NO_QUERY)},
    }
    return SavedObject("visualization", object_id(index, panel.name), attributes)


def specification(panel: VegaPanel, index: str) -> dict[str, Any]:
    """The Vega-Lite specification, with the request in the place of data."""
    request = {"%context%": True, "index": searched(panel, index), "body": panel.body()}
    return {
        "$schema": SCHEMA,
        "autosize": _FIT,
        "data": {"url": request, "format": {"property": panel.rows}},
        **_DRAWINGS[panel.name](),
    }


def _mean_scores() -> dict[str, Any]:
    score = {"field": "mean_score", "type": "quantitative", "title": "mean score"}
    return {
        "mark": "bar",
        "encoding": {
            "y": {"field": "synset", "type": "nominal", "sort": "-x", "title": None},
            "x": score,
            "tooltip": [
                {"field": "synset", "type": "nominal"},
                {**score, "format": ".3f"},
                {"field": "pictures", "type": "quantitative"},
            ],
        },
    }


def _together() -> dict[str, Any]:
    """A matrix of those companions that are rows themselves, without the diagonal."""
    return {
        "transform": [
            {"flatten": ["other.buckets"], "as": ["with"]},
            {"calculate": "datum.with.key", "as": "companion"},
            {"calculate": "datum.with.doc_count", "as": "pictures"},
            {"calculate": "datum.key === datum.companion ? 1 : 0", "as": "itself"},
            {
                "joinaggregate": [{"op": "max", "field": "itself", "as": "is_row"}],
                "groupby": ["companion"],
            },
            {"filter": "datum.is_row === 1 && datum.itself === 0"},
        ],
        "mark": "rect",
        "encoding": {
            "y": {"field": "key", "type": "nominal", "title": None},
            "x": {"field": "companion", "type": "nominal", "title": None},
            "color": {"field": "pictures", "type": "quantitative", "title": "pictures"},
            "tooltip": [
                {"field": "key", "type": "nominal", "title": "synset"},
                {"field": "companion", "type": "nominal", "title": "with"},
                {"field": "pictures", "type": "quantitative"},
            ],
        },
    }


_DRAWINGS: dict[str, Callable[[], dict[str, Any]]] = {
    BY_MEAN_SCORE.name: _mean_scores,
    TOGETHER.name: _together,
}
