"""An index in one DuckDB file: no server, the same ranking as Elasticsearch.

To be read in this order: ``file`` with ``gate`` (taking turns), ``schema`` and ``rows``,
``selecting``, ``ranking`` and ``dense`` (SQL), ``searching``, and ``store``, which is all of it.
"""
