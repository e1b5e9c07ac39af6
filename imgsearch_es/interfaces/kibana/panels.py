"""The panels of the dashboard, as the requests that prove what they show.

Kibana's Lens makes a request of the columns of a panel: those that put documents into buckets,
nested in their order, then those that measure a bucket. ``_asked`` makes the same request, as
``toEsAggsFn`` of each operation does (elastic/kibana,
x-pack/plugins/lens/public/datasources/form_based/operations/definitions; from 9.0 below
x-pack/platform/plugins/shared/lens). A panel of Vega-Lite holds its request as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from imgsearch_es.interfaces.kibana.dashboard import template

_SHARD_SIZE = 1000
"""What Lens asks of each shard in its mode for accuracy (``accuracyMode``)."""


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel, and its request.

    Attributes:
        name: unique; part of the id of the saved object.
        title: above the panel.
        description: one sentence for people.
        aggregations: of the request.
        of_rejected: counts the ledger of rejected pictures instead of the documents.
    """

    name: str
    title: str
    description: str
    aggregations: dict[str, Any]
    of_rejected: bool

    def body(self) -> dict[str, Any]:
        """The request that computes what the panel shows."""
        return {"size": 0, "aggs": self.aggregations}


def searched(panel: Panel, index: str) -> str:
    """The name of the index that a panel's request goes to."""
    return f"{index}-rejected" if panel.of_rejected else index


def _panel(item: dict[str, Any]) -> Panel:
    attributes = item["attributes"]
    if item["type"] == "lens":
        (layer,) = attributes["state"]["datasourceStates"]["formBased"]["layers"].values()
        aggregations = _asked(layer)
        of_rejected = item["references"][0]["id"].endswith("~rejected")
    else:
        url = attributes["visState"]["params"]["spec"]["data"]["url"]
        aggregations = url["body"]["aggs"]
        of_rejected = url["index"].endswith("-rejected")
    name = item["id"].rpartition("~")[2]
    title = attributes["title"].removeprefix("{index}: ")
    return Panel(name, title, attributes["description"], aggregations, of_rejected)


def _asked(layer: dict[str, Any]) -> dict[str, Any]:
    """The aggregations that Lens makes of the columns of a layer."""
    columns = {name: layer["columns"][name] for name in layer["columnOrder"]}
    counts = {name for name, column in columns.items() if column["operationType"] == "count"}
    aggregations: dict[str, Any] = {}
    buckets = []
    for name, column in columns.items():
        if column["isBucketed"]:
            buckets.append(name)
        elif name not in counts:  # every bucket has a count
            kind = column["operationType"].replace("average", "avg")
            aggregations[name] = {kind: {"field": column["sourceField"]}}
    for name in reversed(buckets):
        inner = {"aggs": aggregations} if aggregations else {}
        aggregations = {name: _bucket(columns[name], counts) | inner}
    return aggregations


def _bucket(column: dict[str, Any], counts: set[str]) -> dict[str, Any]:
    kind, params = column["operationType"], column["params"]
    if kind == "terms":
        by = params["orderBy"]["columnId"]
        asked = {
            "size": params["size"],
            "shard_size": _SHARD_SIZE,
            "order": {"_count" if by in counts else by: params["orderDirection"]},
        }
    elif kind == "range":
        limits = ("from", "to")
        ranges = [{k: r[k] for k in limits if r[k] is not None} for r in params["ranges"]]
        asked = {"ranges": ranges}
    else:  # a date histogram in UTC; Kibana adds the time zone of the browser
        least = 0 if params["includeEmptyRows"] else 1
        asked = {"calendar_interval": params["interval"], "min_doc_count": least}
    return {kind: {"field": column["sourceField"], **asked}}


PANELS: tuple[Panel, ...] = tuple(
    _panel(item) for item in template() if item["type"] in ("lens", "visualization")
)
"""All panels, in the order of the dashboard."""
