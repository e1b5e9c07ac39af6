"""Analysis: pixels become weighted terms and a deep feature.

To be read in this order: ``plugins`` (parts by name), ``configuration``, ``filters``,
``embedding_filters``, ``decoding`` (pixels for the model), ``models``, ``terms``, and ``analyzer``,
which is all of them in a row.
"""
