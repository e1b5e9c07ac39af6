"""Adding up postings in NumPy: the best of many scores, and all that tie with the last of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsearch_es.stores.embedded.ranking import best_places, sums


@given(st.lists(st.integers(0, 9), max_size=3000), st.integers(1, 12))
def test_the_best_with_all_ties(numbers, count):
    scores = np.asarray(numbers, dtype=np.float32)
    above = sorted((n for n in numbers if n > 0), reverse=True)
    least = above[min(count, len(above)) - 1] if above else 1
    assert best_places(scores, count).tolist() == [i for i, n in enumerate(numbers) if n >= least]


def test_the_best_of_many_blocks():
    scores = np.random.default_rng(0).random(100_003).astype(np.float32)
    assert best_places(scores, 7).tolist() == sorted(np.argsort(-scores)[:7].tolist())


@pytest.mark.parametrize("size", [6, 5_000_000])
def test_sums_of_few_documents_and_of_few_among_many(size):
    added, lists = np.zeros(size), [np.array([0, size - 1]), np.array([0, 3])]
    for places, summands in zip(lists, ([1.0, 2.25], [0.5, 4.0]), strict=True):
        added[places] += summands
    places, scores, _ = sums(added, lists)
    numbers = np.arange(size) if places is None else places
    found = {int(n): float(s) for n, s in zip(numbers, scores, strict=True) if s}
    assert found == {0: 1.5, size - 1: 2.25, 3: 4.0}
    assert len(scores) <= 6
    assert not added.any()
