"""Pictures: files become pixels.

To be read in this order: ``files`` and ``archives`` (bytes and names), ``sources`` and
``manifests`` (which files), ``images`` with ``colors`` (one picture, decoded), ``thumbnails``,
``demo``.
"""
