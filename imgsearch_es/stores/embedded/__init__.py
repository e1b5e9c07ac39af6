"""An index in one DuckDB file: no server, the same ranking as Elasticsearch.

To be read in this order: ``file`` with ``open_file`` (taking turns), ``schema`` and ``open_index``
(documents in tables), ``ranking``, which adds up what a ``snapshot`` has or else ``sources``, and
``store``, which is all of it.
"""

from imgsearch_es.stores.interrupts import deferred

with deferred():  # as Ctrl-C while it is imported ends the process by SIGABRT
    import duckdb  # noqa: F401
