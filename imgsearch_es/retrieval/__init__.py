"""Retrieval: documents, queries and formulas, as values and pure functions.

To be read in this order: ``documents``, ``conditions``, ``scoring`` and ``dense`` (the formulas),
``strategies``, ``fusion``, ``queries``, ``language``, ``feedback``. Nothing here knows a store.
"""
