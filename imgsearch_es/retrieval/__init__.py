"""Retrieval: documents, queries and formulas, as values and pure functions.

To be read in this order: ``documents``, ``spans`` and ``conditions``, ``scoring`` and ``dense``
(the formulas), ``strategies``, ``queries``, ``tokens``, ``traces`` and ``language``, ``feedback``.
Nothing here knows a store.
"""
