"""Retrieval: documents, queries and formulas, as values and pure functions.

To be read in this order: ``documents``, ``conditions``, ``scoring`` and ``dense`` (the formulas),
``queries``, ``fusion``, ``language``, ``feedback``. Nothing here knows a store or reads a file.
"""
