"""Interfaces: what people use, on top of `ImageIndex`.

``cli`` is the command line, ``server`` the page and the API, ``notebook`` for notebooks;
``gallery``, ``plots`` and ``maps`` show results; ``html`` fills in the templates of gallery, page
and notebook; ``kibana`` makes a dashboard; ``watching`` keeps an index current with folders.
"""
