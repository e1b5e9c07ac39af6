"""Search: from a request to hits that explain themselves.

To be read in this order: ``request`` (what may be asked), ``query_pictures`` and
``query_building`` (a query is made), ``hit`` and ``hits`` (what it finds, and why).
"""
