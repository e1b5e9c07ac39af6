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


@pytest.mark.parametrize("far", [5, 5_000_000])
def test_sums_of_documents_near_and_far_apart(far):
    documents = np.asarray([0, far, 0, far, 3], dtype=np.int32)
    numbers, scores = sums(documents, np.asarray([1.0, 2.0, 0.5, 0.25, 4.0]))
    found = {int(n): float(s) for n, s in zip(numbers, scores, strict=True) if s}
    assert found == {0: 1.5, far: 2.25, 3: 4.0}
    assert len(numbers) <= 6
