"""Matplotlib figures: ``figures`` of results, ``evaluation`` of experiments."""
