"""Panels of Kibana's Lens as saved objects.

The form of the state, in elastic/kibana, with the paths of 8.15: ``FormBasedPersistedState`` and
``FormBasedLayer`` of x-pack/plugins/lens/public/datasources/form_based/types.ts, and for the charts
x-pack/plugins/lens/public/visualizations/{xy,heatmap,datatable}. The reference of a layer to its
data view is named by ``getLayerReferenceName`` of form_based/loader.ts.
"""

from __future__ import annotations

from typing import Any

from imgsearch_es.interfaces.kibana.data_views import data_view_reference
from imgsearch_es.interfaces.kibana.panels import LensPanel
from imgsearch_es.interfaces.kibana.saved_objects import NO_QUERY, SavedObject, object_id

LAYER = "layer"
_TYPES = {
    "bars": "lnsXY",
    "columns": "lnsXY",
    "heatmap": "lnsHeatmap",
    "table": "lnsDatatable",
}


def lens_object(panel: LensPanel, index: str) -> SavedObject:
    """A panel as a saved object."""
    state = {
        "datasourceStates": {"formBased": {"layers": {LAYER: _layer(panel)}}},
        "visualization": _visualization(panel),
        "query": NO_QUERY["query"],
        "filters": [],
        "internalReferences": [],
        "adHocDataViews": {},
    }
    attributes = {
        "title": f"{index}: {panel.title}",
        "description": panel.description,
        "visualizationType": _TYPES[panel.chart],
        "state": state,
    }
    view = data_view_reference(index, panel.of_rejected, f"indexpattern-datasource-layer-{LAYER}")
    return SavedObject("lens", object_id(index, panel.name), attributes, (view,))


def _layer(panel: LensPanel) -> dict[str, Any]:
    first = panel.metrics[0]
    columns = {bucket.name: bucket.column(first) for bucket in panel.buckets}
    columns |= {metric.name: metric.column() for metric in panel.metrics}
    return {
        "columns": columns,
        "columnOrder": list(columns),
        "incompleteColumns": {},
        "sampling": 1,
    }


def _visualization(panel: LensPanel) -> dict[str, Any]:
    layer = {"layerId": LAYER, "layerType": "data"}
    buckets = [bucket.name for bucket in panel.buckets]
    metrics = [metric.name for metric in panel.metrics]
    if panel.chart == "table":
        columns = [{"columnId": name, "isTransposed": False} for name in (*buckets, *metrics)]
        return {**layer, "columns": columns}
    if panel.chart == "heatmap":
        return layer | _heatmap(*buckets, value=metrics[0])
    return _bars(panel.chart == "bars", layer, buckets[0], metrics)


def _bars(
    horizontal: bool, layer: dict[str, Any], bucket: str, metrics: list[str]
) -> dict[str, Any]:
    series = "bar_horizontal" if horizontal else "bar"
    drawn = {"seriesType": series, "xAccessor": bucket, "accessors": metrics, "position": "top"}
    return {
        "legend": {"isVisible": False, "position": "right"},
        "valueLabels": "hide",
        "preferredSeriesType": series,
        "axisTitlesVisibilitySettings": {"x": not horizontal, "yLeft": True, "yRight": True},
        "layers": [{**layer, **drawn, "showGridlines": False}],
    }


def _heatmap(x: str, y: str, *, value: str) -> dict[str, Any]:
    return {
        "shape": "heatmap",
        "xAccessor": x,
        "yAccessor": y,
        "valueAccessor": value,
        "legend": {"isVisible": True, "position": "right", "type": "heatmap_legend"},
        "gridConfig": {
            "type": "heatmap_grid",
            "isCellLabelVisible": True,
            "isYAxisLabelVisible": True,
            "isXAxisLabelVisible": True,
            "isYAxisTitleVisible": False,
            "isXAxisTitleVisible": False,
        },
    }
