"""Pictures: files become pixels.

To be read in this order: ``places``, ``files``, ``addresses`` and ``archives`` (bytes and names),
``sources`` and ``manifests`` (which files), ``images`` with ``decoders`` and ``photo`` (one
picture, decoded, and how it was taken), ``turns``, ``thumbnails``, ``demo``.
"""
