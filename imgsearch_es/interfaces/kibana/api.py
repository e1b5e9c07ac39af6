"""The dashboard as requests of Kibana 9.4's APIs: data views, and the dashboard that shows them.

Each Lens panel of the template becomes a ``vis`` panel of POST /api/dashboards, by the columns that
it has there; https://www.elastic.co/docs/api/doc/kibana/group/endpoint-dashboards. The API has no
form for Vega, so those panels are left out. It is a technical preview, and may change.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from imgsearch_es.interfaces.kibana.dashboard import SavedObject

_KINDS = {
    "lnsMetric": "metric",
    "lnsDatatable": "data_table",
    "lnsHeatmap": "heatmap",
    "lnsXY": "xy",
}


def to_requests(objects: Sequence[SavedObject]) -> str:
    """Saved objects as requests for Kibana's console, one after the other."""
    return (
        "\n\n".join(
            f"{method} kbn:{path}\n{json.dumps(body, indent=2)}"
            for method, path, body in _requests(objects)
        )
        + "\n"
    )


def _requests(objects: Sequence[SavedObject]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for item in objects:
        if item.type == "index-pattern":
            yield "POST", "/api/data_views/data_view", _data_view(item)
    dashboard = objects[-1]
    yield "PUT", f"/api/dashboards/{quote(dashboard.id, safe='~')}", _dashboard(dashboard, objects)


def _data_view(item: SavedObject) -> dict[str, Any]:
    known = item.attributes
    view = {
        "id": item.id,
        "title": known["title"],
        "name": known["name"],
        "allowNoIndex": True,
        "runtimeFieldMap": json.loads(known["runtimeFieldMap"]),
        "fieldFormats": json.loads(known["fieldFormatMap"]),
    }
    return {"data_view": view, "override": True}


def _dashboard(dashboard: SavedObject, objects: Sequence[SavedObject]) -> dict[str, Any]:
    known = {item.id: item for item in objects}
    shown = {each["name"]: known[each["id"]] for each in dashboard.references}
    panels = []
    for panel in json.loads(dashboard.attributes["panelsJSON"]):
        item = shown[f"{panel['panelIndex']}:{panel['panelRefName']}"]
        if item.type == "visualization":
            continue
        is_list = item.type == "search"
        config = _list(item) if is_list else _chart(item)
        place = panel["gridData"]
        panels.append(
            {
                "type": "discover_session" if is_list else "vis",
                "grid": {name: place[name] for name in "xywh"},
                "config": {"title": panel["title"], **config},
            }
        )
    controls = json.loads(dashboard.attributes["controlGroupInput"]["panelsJSON"])
    return {
        "title": dashboard.attributes["title"],
        "description": dashboard.attributes["description"],
        "pinned_panels": [
            _control(control, shown[f"controlGroup_{key}:optionsListDataView"])
            for key, control in controls.items()
        ],
        "panels": panels,
    }


def _control(control: Mapping[str, Any], view: SavedObject) -> dict[str, Any]:
    given = control["explicitInput"]
    return {
        "type": "options_list_control",
        "width": control["width"],
        "grow": control["grow"],
        "config": {
            "title": given["title"],
            "data_view_id": view.id,
            "field_name": given["fieldName"],
        },
    }


def _source(item: SavedObject) -> dict[str, str]:
    return {"type": "data_view_reference", "ref_id": item.references[0]["id"]}


def _list(item: SavedObject) -> dict[str, Any]:
    """The table of pictures."""
    tab = {
        "data_source": _source(item),
        "query": {"language": "kql", "expression": ""},
        "column_order": item.attributes["columns"],
        "sort": [{"name": name, "direction": way} for name, way in item.attributes["sort"]],
    }
    return {"tabs": [tab]}


def _chart(item: SavedObject) -> dict[str, Any]:
    state = item.attributes["state"]
    (layer,) = state["datasourceStates"]["formBased"]["layers"].values()
    columns = [(name, layer["columns"][name]) for name in layer["columnOrder"]]
    metrics = [name for name, column in columns if not column["isBucketed"]]
    made = {name: _operation(column, metrics) for name, column in columns}
    buckets = [made[name] for name, column in columns if column["isBucketed"]]
    values, drawn = [made[name] for name in metrics], state["visualization"]
    kind, source = _KINDS[item.attributes["visualizationType"]], _source(item)
    head = {"type": kind, "description": item.attributes["description"]}
    if kind == "metric":
        return {**head, "data_source": source, "metrics": [{"type": "primary", **values[0]}]}
    if kind == "data_table":
        return {**head, "data_source": source, "rows": buckets, "metrics": values}
    if kind == "heatmap":
        axes = {name: made[drawn[f"{name}Accessor"]] for name in ("x", "y")}
        return {**head, "data_source": source, **axes, "metric": values[0]}
    (shown,) = drawn["layers"]
    one = {"type": shown["seriesType"], "data_source": source, "x": buckets[0], "y": values}
    return {**head, "layers": [one]}


def _operation(column: Mapping[str, Any], metrics: Sequence[str]) -> dict[str, Any]:
    """A column of Lens as an operation of the API."""
    kind, params = column["operationType"], column["params"]
    made: dict[str, Any] = {"operation": kind, "label": column["label"]}
    if kind == "terms":
        by = {"type": "metric", "metric_index": metrics.index(params["orderBy"]["columnId"])}
        made |= {"fields": [column["sourceField"]], "limit": params["size"]}
        return {**made, "rank_by": {**by, "direction": params["orderDirection"]}}
    if kind != "count":
        made["field"] = column["sourceField"]
    if kind == "range":
        names = {"from": "gt", "to": "lte"}
        made["ranges"] = [
            {names[side]: each[side] for side in names if each[side] is not None}
            for each in params["ranges"]
        ]
    if kind == "date_histogram":
        made["suggested_interval"] = params["interval"]
        made["use_original_time_range"] = params["ignoreTimeRange"]
        made["include_empty_rows"] = params["includeEmptyRows"]
    return made
