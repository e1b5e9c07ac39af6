"""Kibana's saved objects of an index: the template ``dashboard.json``, filled in; and its panels.

The template is what Kibana exports, with two differences that make it readable: attributes that
Kibana keeps as JSON in a string stand there as JSON, and a script is a list of lines. ``{index}``
stands for the index's name.

What refers to an object comes after it. Ids are made of the index's name, so installing twice
replaces; ``~`` is in no index's name, so no two names give one id. Each object names an old version
that Kibana 8.15 and 9 both bring forward (docs/decisions/011); one that names none would count as
the newest.

Where a Vega specification has a URL that is an object, Kibana sends its ``body`` to Elasticsearch;
with ``%context%`` the dashboard's query and filters apply. All keep to what Vega-Lite 5.2 knows;
the map is Vega, to which Kibana gives its ``projection``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.stores.elastic.connection import parse_address

PAGE_PATH = "/?image={{value}}"
"""The page of `imgsearch serve` that shows a picture and those like it; Kibana puts the id in."""
_TEXTS = {
    "fieldAttrs", "fieldFormatMap", "fields", "ignoreParentSettingsJSON", "optionsJSON",
    "panelsJSON", "runtimeFieldMap", "searchSourceJSON", "sourceFilters", "spec", "typeMeta",
    "uiStateJSON", "visState",
}  # fmt: skip
"""Attributes that Kibana keeps as JSON in a string."""
_SHARD_SIZE = 1000
"""What Lens asks of each shard in its mode for accuracy (``accuracyMode``)."""


@dataclass(frozen=True, slots=True)
class SavedObject:
    """One saved object: what its type defines, the objects that it names, and its versions."""

    type: str
    id: str
    attributes: Mapping[str, Any]
    references: Sequence[Mapping[str, str]]
    versions: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """As a line of the file that Kibana imports."""
        line = asdict(self)
        versions = line.pop("versions")
        return {**line, **versions}


def saved_objects(
    index: str, page: str | None = None, words: Mapping[str, str] | None = None
) -> list[SavedObject]:
    """Everything that Kibana needs for an index; ``page`` is the URL of `imgsearch serve`.

    With the names of its visual words there is a panel of them.
    """
    objects = _template()
    if words:
        _add_words(objects, words)
    if page is not None:
        if not page.startswith(("http://", "https://")) or not set(page).isdisjoint("{}?# "):
            raise ConfigurationError(
                "--page is the URL of `imgsearch serve`, such as http://localhost:8000, "
                f"not {page!r}"
            )
        pictures = objects[0]["attributes"]
        url = page.rstrip("/") + PAGE_PATH
        link = {"type": "a", "urlTemplate": url, "labelTemplate": "open"}
        pictures["fieldFormatMap"]["picture"]["params"] = link
        pictures["runtimeFieldMap"]["picture"]["script"]["source"] = "emit(doc['id'].value);"
    saved = []
    for line in (_filled(item, index) for item in objects):
        parts = {name: line.pop(name) for name in ("type", "id", "attributes", "references")}
        saved.append(SavedObject(**parts, versions=line))
    return saved


def index_name(location: str | None) -> str:
    """The name of the index in a URL such as http://localhost:9200/pets; no server is asked."""
    if not location:
        raise ConfigurationError("name the index with --index URL or IMGSEARCH_INDEX")
    if not location.lower().startswith(("http://", "https://")):
        raise ConfigurationError(
            f"Kibana shows indices of Elasticsearch, and {location} is a file; `imgsearch export` "
            "and `import` copy it, for example to http://localhost:9200/pets"
        )
    return parse_address(location).index


def dashboard_id(index: str) -> str:
    """The id of the dashboard of an index."""
    return f"imgsearch~{index}~dashboard"


def to_ndjson(objects: Iterable[SavedObject]) -> str:
    """One object a line, and a newline after the last."""
    return "".join(f"{_compact(item.to_dict())}\n" for item in objects)


def _template() -> list[dict[str, Any]]:
    def with_scripts(value: dict[str, Any]) -> dict[str, Any]:
        return {
            key: "\n".join(item) if key.endswith("_script") and isinstance(item, list) else item
            for key, item in value.items()
        }

    text = files("imgsearch_es.interfaces.kibana").joinpath("dashboard.json").read_text("utf-8")
    objects: list[dict[str, Any]] = json.loads(text, object_hook=with_scripts)
    return objects


def _add_words(objects: list[dict[str, Any]], words: Mapping[str, str]) -> None:
    """Add a panel of visual words, made after that of synsets, at the end of the dashboard."""
    entries = [{"key": key, "value": name} for key, name in words.items()]
    looked_up = {"id": "static_lookup", "params": {"lookupEntries": entries}}
    objects[0]["attributes"]["fieldFormatMap"]["visual_word"] = looked_up
    (synsets,) = (each for each in objects if each["id"].endswith("~synsets-by-count"))
    text = json.dumps(synsets)
    for before, after in (
        ('"synsets"', '"visual_word"'),
        ("synsets-by-count", "visual-words"),
        ("Synsets by count", "Visual words"),
        ("a synset is among the terms", "a visual word is one of the three heaviest"),
    ):
        text = text.replace(before, after)
    panel, dashboard = json.loads(text), objects[-1]
    objects.insert(-1, panel)
    panels = dashboard["attributes"]["panelsJSON"]
    number, last = str(len(panels)), panels[-1]
    below = last["gridData"]["y"] + last["gridData"]["h"]
    shown = {"x": 0, "y": below, "w": 48, "h": 16, "i": number}
    panels.append(
        {
            **{**last, "title": "Visual words", "gridData": shown, "panelIndex": number},
            "panelRefName": f"panel_{number}",
        }
    )
    reference = {"name": f"{number}:panel_{number}", "type": "lens", "id": panel["id"]}
    dashboard["references"].append(reference)


def _filled(value: Any, index: str, key: str = "", *, in_spec: bool = False) -> Any:
    """A value of the template with the index's name in it, as Kibana keeps it.

    What is within a specification of Vega is Vega's, whatever its name.
    """
    within = in_spec or key == "spec"
    if isinstance(value, str):
        return value.replace("{index}", index)
    if isinstance(value, dict):
        value = {k: _filled(item, index, k, in_spec=within) for k, item in value.items()}
    elif isinstance(value, list):
        value = [_filled(item, index, in_spec=within) for item in value]
    return _compact(value) if key in _TEXTS and not in_spec else value


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel of the dashboard, as the request that proves what it shows."""

    name: str
    """Part of the saved object's id."""
    title: str
    description: str
    aggregations: dict[str, Any]
    of_rejected: bool
    """Whether it counts the ledger's entries instead of documents."""

    def body(self) -> dict[str, Any]:
        """The request that computes what the panel shows."""
        if not self.aggregations:  # the total, without a bucket
            return {"size": 0, "track_total_hits": True}
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
        data = attributes["visState"]["params"]["spec"]["data"]
        url = (data[0] if isinstance(data, list) else data)["url"]  # Vega has several
        aggregations = url["body"]["aggs"]
        of_rejected = url["index"].endswith("-rejected")
    name = item["id"].rpartition("~")[2]
    title = attributes["title"].removeprefix("{index}: ")
    return Panel(name, title, attributes["description"], aggregations, of_rejected)


def _asked(layer: dict[str, Any]) -> dict[str, Any]:
    """The aggregations that Lens makes of the columns of a layer.

    Those that put documents into buckets come first, nested in their order, then those that measure
    a bucket, as ``toEsAggsFn`` of each operation has it (elastic/kibana, lens/public/datasources/
    form_based/operations/definitions).
    """
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
    _panel(item) for item in _template() if item["type"] in ("lens", "visualization")
)
"""All panels, in the order of the dashboard."""
