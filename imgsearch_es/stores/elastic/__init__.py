"""An index behind an alias, on an Elasticsearch server of 8.15 or newer.

To be read in this order: ``connection`` and ``waiting``, ``mapping``, ``clauses``, ``fetching``,
``dense`` and ``answers`` (requests and answers), then ``aliased`` (the index behind an alias),
``reading`` (what it holds), ``writing``, and ``store``.
"""
