"""How saved objects come into a Kibana: by its import API, or as requests of newer ones.

https://www.elastic.co/docs/api/doc/kibana/operation/operation-post-saved-objects-import. Kibana is
asked again while it starts, which takes it a minute; the objects replace those of their ids, so it
does no harm if a request arrives twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import tenacity
import urllib3

from imgsearch_es.errors import ConfigurationError, ServerError
from imgsearch_es.interfaces.kibana import SavedObject, to_ndjson
from imgsearch_es.stores.elastic.connection import client_options, not_trusted, split_url
from imgsearch_es.stores.elastic.waiting import last_cause

_SPACE = re.compile(r"[a-z0-9_-]+")
_STARTING = frozenset([429, 502, 503, 504])
_LISTED = 3
_PAUSE_SECONDS = 2.0
_REQUEST_SECONDS = urllib3.Timeout(connect=10.0, read=60.0)
_KINDS = {
    "lnsMetric": "metric", "lnsDatatable": "data_table", "lnsHeatmap": "heatmap", "lnsXY": "xy",
}  # fmt: skip


class _NotReadyError(Exception):
    """Kibana cannot answer now, and why; it may be able to in a moment."""


@dataclass(frozen=True, slots=True)
class Kibana:
    """Where Kibana is, and how to get in: with headers, which are never shown, and certificates."""

    server: str
    space: str | None
    options: Mapping[str, Any] = field(repr=False)

    @classmethod
    def at(cls, url: str, space: str | None = None) -> Kibana:
        """Take apart ``https://user:password@host:5601``.

        Credentials and certificates come from where those of Elasticsearch come from.
        """
        parts, server = split_url(url)
        if space is not None and not _SPACE.fullmatch(space):
            raise ConfigurationError(
                f"a space has lower-case letters, digits, '_' and '-' in its name, not {space!r}; "
                "Kibana shows it in its URL as /s/NAME"
            )
        options = client_options(url)
        headers = {"kbn-xsrf": "imgsearch_es"}
        if "api_key" in options:
            headers["authorization"] = f"ApiKey {options['api_key']}"
        elif "basic_auth" in options:
            headers["authorization"] = f"Basic {options['basic_auth']}"
        trusted = {"ca_certs": options["ca_certs"]} if "ca_certs" in options else {}
        return cls(server + parts.path.rstrip("/"), space, {"headers": headers, **trusted})

    @property
    def root(self) -> str:
        """The URL that pages of Kibana begin with."""
        return self.server if self.space is None else f"{self.server}/s/{self.space}"

    def dashboard_url(self, dashboard: str) -> str:
        """Where people see a dashboard."""
        return f"{self.root}/app/dashboards#/view/{quote(dashboard, safe='~')}"

    def install(self, objects: Sequence[SavedObject], *, seconds: float = 60.0) -> int:
        """Put objects in, in the place of those with their ids; gives their number.

        For so many seconds it waits for a Kibana that starts.
        """
        waiting = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_NotReadyError),
            stop=tenacity.stop_after_delay(seconds),
            wait=tenacity.wait_fixed(_PAUSE_SECONDS),
        )
        try:
            status, answer = waiting(self._post, to_ndjson(objects))
        except tenacity.RetryError as error:
            last = error.last_attempt.exception()
            raise ServerError(
                f"Kibana at {self.server} does not answer after {seconds:g} seconds: {last}"
            ) from last
        return self._installed(status, answer)

    def _post(self, ndjson: str) -> tuple[int, dict[str, Any]]:
        with urllib3.PoolManager(retries=False, timeout=_REQUEST_SECONDS, **self.options) as pool:
            try:
                response = pool.request(
                    "POST",
                    f"{self.root}/api/saved_objects/_import?overwrite=true",
                    fields={"file": ("imgsearch.ndjson", ndjson, "application/ndjson")},
                    redirect=False,
                )
            except urllib3.exceptions.SSLError as error:
                why = not_trusted(self.server, str(error), "IMGSEARCH_ES_CA_CERTS")
                raise ServerError(f"{why} ({last_cause(str(error))})") from error
            except urllib3.exceptions.HTTPError as error:
                raise _NotReadyError(last_cause(str(error))) from error
        if response.status in _STARTING:
            said = " ".join(response.data[:200].decode("utf-8", "replace").split())
            raise _NotReadyError(f"status {response.status}, {said or 'without a reason'}")
        try:
            answer = json.loads(response.data)
        except (ValueError, RecursionError):
            answer = None
        return response.status, answer if isinstance(answer, dict) else {}

    def _installed(self, status: int, answer: dict[str, Any]) -> int:
        if status in (401, 403):
            raise ServerError(
                f"Kibana at {self.server} refuses us ({status}): give credentials by "
                "IMGSEARCH_ES_API_KEY, or IMGSEARCH_ES_USERNAME and IMGSEARCH_ES_PASSWORD, of a "
                "user with the privilege Saved Objects Management"
            )
        if status == 404:
            where = "" if self.space is None else f", or it has no space {self.space!r}"
            raise ServerError(
                f"{self.root} is not a Kibana{where}: is it the URL that you open in the browser?"
            )
        if status != 200 or not isinstance(answer.get("successCount"), int):
            reason = str(answer.get("message") or "the answer is not that of a Kibana")[:300]
            raise ServerError(f"Kibana at {self.server}: {reason} (status {status})")
        if not answer.get("success"):
            raise ServerError(f"Kibana at {self.server} refuses {_refused(answer)}")
        return int(answer["successCount"])


def _refused(answer: Mapping[str, Any]) -> str:
    try:
        errors = list(answer["errors"])
        each = [f"{one['type']} {one['id']} ({_why(one['error'])})" for one in errors[:_LISTED]]
    except (AttributeError, KeyError, TypeError):
        return "the objects, without a reason that can be read"
    more = f" and {len(errors) - _LISTED} more" if len(errors) > _LISTED else ""
    return f"{len(errors)} objects: {', '.join(each)}{more}"


def _why(error: Mapping[str, Any]) -> str:
    if error.get("type") == "missing_references":
        missing = [f"{item['type']} {item['id']}" for item in error["references"]]
        return f"missing: {', '.join(missing):.300}"
    return f"{error.get('message') or error.get('type') or 'no reason given'!s:.300}"


# -- as requests of Kibana 9.4's APIs: data views, and the dashboard that shows them --


def to_requests(objects: Sequence[SavedObject]) -> str:
    """Saved objects as requests for Kibana's console, one after the other.

    Each Lens panel of the template becomes a ``vis`` panel of POST /api/dashboards, by the columns
    that it has there; https://www.elastic.co/docs/api/doc/kibana/group/endpoint-dashboards. The API
    has no form for Vega, so those panels are left out. It is a technical preview, and may change.
    """
    views = [_data_view(item) for item in objects if item.type == "index-pattern"]
    requests = [("POST", "/api/data_views/data_view", view) for view in views]
    path = f"/api/dashboards/{quote(objects[-1].id, safe='~')}"
    requests.append(("PUT", path, _dashboard(objects)))
    return "\n".join(
        f"{method} kbn:{path}\n{json.dumps(body, indent=2)}\n" for method, path, body in requests
    )


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


def _dashboard(objects: Sequence[SavedObject]) -> dict[str, Any]:
    dashboard, known = objects[-1], {item.id: item for item in objects}
    shown = {each["name"]: known[each["id"]] for each in dashboard.references}
    panels = []
    for panel in json.loads(dashboard.attributes["panelsJSON"]):
        item = shown[f"{panel['panelIndex']}:{panel['panelRefName']}"]
        if item.type == "visualization":
            continue
        kind, config = "vis", _chart
        if item.type == "search":
            kind, config = "discover_session", _list
        place = {name: panel["gridData"][name] for name in "xywh"}
        about = {"title": panel["title"], **config(item)}
        panels.append({"type": kind, "grid": place, "config": about})
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
