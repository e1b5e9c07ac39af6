"""Search: from a request to hits that explain themselves, and words that an index is taught.

To be read in this order: ``request`` (what may be asked), ``query_pictures`` and
``query_building`` (a query is made), ``hit`` and ``hits`` (what it finds, and why), ``shown`` (the
way to the interfaces that draw it); ``teaching``, and ``learning_index`` for the façade.
"""
