"""Batches: some objects with all or some of their pictures, so that pairs occur in each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.learning.examples import Examples


def batches(
    examples: Examples, objects: int, pictures: int, rng: np.random.Generator
) -> Iterator[NDArray[np.intp]]:
    """One epoch: every object once, and of each as many pictures as allowed.

    Args:
        examples: what to learn from.
        objects: how many a batch has; the last batch has what is left, but never one alone.
        pictures: the most of one object in a batch, chosen at random.
        rng: gives the order.

    Returns:
        Places in ``examples``, batch by batch.
    """
    order = rng.permutation(len(examples.names))
    parts = np.array_split(order, max(1, round(len(order) / objects)))
    by_object = np.argsort(examples.groups, kind="stable")
    starts = np.searchsorted(examples.groups[by_object], np.arange(len(examples.names) + 1))
    for part in parts:
        chosen = []
        for number in part:
            own = by_object[starts[number] : starts[number + 1]]
            chosen.append(own if len(own) <= pictures else rng.permutation(own)[:pictures])
        yield np.concatenate(chosen)
