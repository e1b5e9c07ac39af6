"""The dashboard, and all saved objects of an index in the order in which they refer to each other.

Panels refer to saved objects by id, so each can be opened and changed by itself. The form of
``panelsJSON``: ``SavedDashboardPanel`` in elastic/kibana,
src/plugins/dashboard/common/content_management/v1/types.ts; how references are named:
src/plugins/dashboard/common/dashboard_saved_object/persistable_state.
"""

from __future__ import annotations

from typing import Any

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.interfaces.kibana.data_views import data_views, saved_searches
from imgsearch_es.interfaces.kibana.lens import lens_object
from imgsearch_es.interfaces.kibana.panels import PANELS, LensPanel, Panel
from imgsearch_es.interfaces.kibana.saved_objects import (
    NO_QUERY,
    Reference,
    SavedObject,
    compact,
    object_id,
)
from imgsearch_es.interfaces.kibana.vega import vega_object
from imgsearch_es.stores.elastic.connection import parse_address

COLUMNS = 48
"""Kibana's grid is so wide; a row is 20 pixels high."""
_WIDTH, _HEIGHT, _LIST_HEIGHT = COLUMNS // 2, 16, 20


def saved_objects(index: str, page: str | None = None) -> list[SavedObject]:
    """Everything that Kibana needs for an index; what refers to others comes after them.

    Args:
        index: the name of the index, an alias on the server.
        page: the URL of `imgsearch serve`, for links to the pictures; None for no server.

    Raises:
        ConfigurationError: ``page`` is no URL that a browser opens.
    """
    searches = saved_searches(index, page)
    drawn = [panel_object(panel, index) for panel in PANELS]
    shown = [*zip(drawn, (panel.title for panel in PANELS), strict=True), (searches[0], "Pictures")]
    return [*data_views(index, page), *searches, *drawn, _dashboard(index, shown)]


def index_name(location: str | None) -> str:
    """The name of the index in a URL such as http://localhost:9200/pets; no server is asked.

    Raises:
        ConfigurationError: there is no location, or it is no index of Elasticsearch.
    """
    if not location:
        raise ConfigurationError("name the index with --index URL or IMGSEARCH_INDEX")
    if not location.lower().startswith(("http://", "https://")):
        raise ConfigurationError(
            f"Kibana shows indices of Elasticsearch, and {location} is a file; `imgsearch export` "
            "and `import` copy it, for example to http://localhost:9200/pets"
        )
    return parse_address(location).index


def panel_object(panel: Panel, index: str) -> SavedObject:
    """A panel as a saved object."""
    return lens_object(panel, index) if isinstance(panel, LensPanel) else vega_object(panel, index)


def dashboard_id(index: str) -> str:
    """The id of the dashboard of an index."""
    return object_id(index, "dashboard")


def _dashboard(index: str, shown: list[tuple[SavedObject, str]]) -> SavedObject:
    options = {
        "useMargins": True,
        "syncColors": False,
        "syncCursor": True,
        "syncTooltips": False,
        "hidePanelTitles": False,
    }
    panels = [_panel(number, item, title) for number, (item, title) in enumerate(shown)]
    attributes = {
        "title": f"{index}: pictures and their synsets",
        "description": "What is in an index of imgsearch_es.",
        "panelsJSON": compact(panels),
        "optionsJSON": compact(options),
        "timeRestore": False,
        "kibanaSavedObjectMeta": {"searchSourceJSON": compact(NO_QUERY)},
    }
    references = tuple(
        Reference(f"{number}:panel_{number}", item.type, item.id)
        for number, (item, _) in enumerate(shown)
    )
    return SavedObject("dashboard", dashboard_id(index), attributes, references)


def _panel(number: int, item: SavedObject, title: str) -> dict[str, Any]:
    """Two in a row; the list of pictures is as wide as the dashboard."""
    is_list = item.type == "search"
    place = {
        "x": 0 if is_list else number % 2 * _WIDTH,
        "y": number // 2 * _HEIGHT,
        "w": COLUMNS if is_list else _WIDTH,
        "h": _LIST_HEIGHT if is_list else _HEIGHT,
        "i": str(number),
    }
    return {
        "type": item.type,
        "gridData": place,
        "panelIndex": str(number),
        "title": title,
        "embeddableConfig": {"enhancements": {}},
        "panelRefName": f"panel_{number}",
    }
