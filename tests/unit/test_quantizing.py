"""What quantizing changes, on weights by hand; the whole of it in tests/integration."""

from __future__ import annotations

import numpy as np

from imgsearch_es.learning.quantizing import _best_hits, _in_common


def test_hits_share_a_term():
    weights = np.array([[0.9, 0.1, 0], [0.8, 0, 0], [0, 0, 1], [0, 0.5, 0]])
    assert _best_hits(weights) == [{1, 3}, {0}, set(), {0}]


def test_hits_are_the_ten_best():
    weights = np.linspace(1, 0.1, 13)[:, np.newaxis]
    assert _best_hits(weights)[0] == set(range(1, 11))
    assert _best_hits(weights)[12] == set(range(10))


def test_pictures_without_hits_say_nothing():
    assert _in_common([{1, 2}, set(), {3}], [{2}, {7}, {3, 4}]) == 0.75
    assert _in_common([set()], [set()]) == 1
