"""An index behind an alias, on an Elasticsearch server of 8.15 or newer.

To be read in this order: ``connection`` and ``waiting``, ``mapping``, ``strategies`` with ``dense``
and ``neighbors`` (request bodies), ``fetching`` and ``answers``, then ``aliased`` (the index behind
an alias), ``reading`` (what it holds), and ``store``, which is all of it.
"""
