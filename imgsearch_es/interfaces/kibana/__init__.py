"""Kibana: data views, Discover's columns and a dashboard for an index on Elasticsearch.

To be read in this order: ``aggregations.py`` and ``panels.py`` (what is shown), ``lens.py``,
``vega.py``, ``data_views.py`` and ``dashboard.py`` (as saved objects), ``saved_objects.py`` (their
form), ``install.py`` (into a running Kibana).
"""

from imgsearch_es.interfaces.kibana.dashboard import dashboard_id, index_name, saved_objects
from imgsearch_es.interfaces.kibana.panels import PANELS, LensPanel, Panel, VegaPanel, searched
from imgsearch_es.interfaces.kibana.saved_objects import SavedObject, to_ndjson

__all__ = [
    "PANELS",
    "LensPanel",
    "Panel",
    "SavedObject",
    "VegaPanel",
    "dashboard_id",
    "index_name",
    "saved_objects",
    "searched",
    "to_ndjson",
]
