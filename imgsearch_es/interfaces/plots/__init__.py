"""Matplotlib figures of results; matplotlib is imported when one is wanted.

To be read in this order: ``figures`` (how one is asked for), ``hits`` (the only one that imports
matplotlib), ``evaluation`` and ``training``.
"""
