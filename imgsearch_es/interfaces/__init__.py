"""Interfaces: what people use, on top of `ImageIndex`.

``cli`` is the command line, ``server`` the page and the API, ``notebook`` for notebooks;
``gallery``, ``plots`` and ``maps`` show results; ``html`` has what gallery, page and notebook say,
and fills in their templates; ``kibana`` makes a dashboard; ``watching`` keeps an index current.
"""
