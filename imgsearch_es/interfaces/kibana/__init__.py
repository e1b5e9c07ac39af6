"""Kibana: data views, Discover's columns and a dashboard for an index on Elasticsearch.

To be read in this order: ``dashboard.json`` (all that Kibana shows), ``dashboard.py`` (fills it in
for an index, and gives the requests of its panels), ``install.py`` (into a running Kibana),
``api.py`` (as requests of Kibana's newer APIs).
"""

from imgsearch_es.interfaces.kibana.dashboard import (
    PANELS,
    Panel,
    SavedObject,
    dashboard_id,
    index_name,
    saved_objects,
    searched,
    to_ndjson,
)

__all__ = [
    "PANELS", "Panel", "SavedObject", "dashboard_id", "index_name", "saved_objects", "searched",
    "to_ndjson",
]  # fmt: skip
