"""Documents in files: moving an index, or indexing what was analyzed elsewhere.

``docs/exchange.md`` describes the two formats, JSON Lines and Parquet, for other tools;
``docs/features.md`` the files of deep features alone. To be read in this order: ``rows``,
``formats``, ``feature_files``, ``documents``.
"""
