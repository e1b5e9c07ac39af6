"""An index in one DuckDB file: no server, the same ranking as Elasticsearch.

To be read in this order: ``file`` with ``open_file`` and ``beside`` (taking turns), ``schema`` and
``rows``, ``selecting`` and ``ranking``, ``searching``, and ``store``, which is all of it.
"""
