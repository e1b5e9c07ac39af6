"""Grouping by hash and by cosine, without any store."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from imgsearch_es.errors import QueryError
from imgsearch_es.retrieval.dense import near_pairs
from imgsearch_es.retrieval.duplicates import (
    NEAR,
    Fingerprint,
    describe_group,
    find_groups,
    to_threshold,
)
from tests.conformance.collections import document


def print_of(name: str, sha256: str, *vector: float) -> Fingerprint:
    return Fingerprint(name, sha256, np.array(vector, np.float32) if vector else None)


def test_exact():
    prints = [print_of("c", "1"), print_of("b", "2"), print_of("a", "1"), print_of("d", "3")]
    assert find_groups(prints) == [["a", "c"]]
    assert find_groups([]) == []
    assert find_groups(prints[1:2]) == []


def test_near_is_transitive():
    angles = [0.0, 0.2, 0.4, 1.5]  # neighbors are near (cos 0.98), the ends are not (0.92)
    prints = [print_of(str(i), str(i), np.cos(a), np.sin(a)) for i, a in enumerate(angles)]
    assert find_groups(prints, 0.95) == [["0", "1", "2"]]
    assert find_groups(prints[:1] + prints[2:], 0.95) == []


def test_a_hash_joins_near_groups():
    prints = [
        print_of("a", "1", 1, 0),
        print_of("b", "2", 2, 0),
        print_of("c", "2"),
        print_of("d", "3", 0, 1),
        print_of("e", "2", 0, 3),
    ]
    assert find_groups(prints, 0.99) == [["a", "b", "c", "d", "e"]]
    assert find_groups(prints) == [["b", "c", "e"]]


def test_zero_is_near_nothing():
    prints = [print_of("a", "1", 0, 0), print_of("b", "2", 0, 0), print_of("c", "3", 1, 0)]
    assert find_groups(prints, 0.01) == []


def test_a_picture_read_twice_is_no_double_of_itself():
    prints = [print_of("a", "1", 1, 0), print_of("a", "2", 1, 0)]
    assert find_groups(prints, 0.9) == []


def reference(vectors: np.ndarray) -> np.ndarray:
    """The cosines of all pairs."""
    wide = vectors.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1)
    return ((wide @ wide.T) / np.outer(norms, norms)).astype(np.float32)


def pairs(vectors: np.ndarray, threshold: float, **sizes: int) -> set[tuple[int, int]]:
    found = near_pairs(vectors, threshold, **sizes)
    return {(min(a, b), max(a, b)) for one, two in found for a, b in zip(one, two, strict=True)}


def expected(cosines: np.ndarray, threshold: float) -> set[tuple[int, int]]:
    return set(zip(*np.nonzero(np.triu(cosines >= np.float32(threshold), 1)), strict=True))


@pytest.mark.parametrize("dimensions", [1, 3, 70, 300])
@pytest.mark.parametrize("kind", ["normal", "positive", "clustered", "same"])
def test_all_pairs_are_found_and_no_other(kind, dimensions):
    random = np.random.default_rng(3)
    vectors = random.normal(size=(250, dimensions))
    if kind == "positive":
        vectors = np.maximum(vectors, 0) + 1e-3
    elif kind == "clustered":
        vectors = vectors[:40][random.integers(40, size=250)] + 0.2 * vectors
    elif kind == "same":
        vectors = vectors[random.integers(3, size=250)]
    lengths = 10.0 ** random.uniform(-18, 18, size=(250, 1))
    vectors = (vectors * lengths).astype(np.float32)
    cosines = reference(vectors)
    for threshold in (0.2, 0.95, 1.0):
        found = pairs(vectors, threshold)
        assert found == expected(cosines, threshold)
        for rows, columns in ((7, 20), (64, 64), (100, 30)):
            assert pairs(vectors, threshold, rows=rows, columns=columns) == found


def test_rounding_does_not_decide():
    """At a threshold that is some pair's very cosine, the pair is near; just above, it is not."""
    vectors = np.random.default_rng(5).normal(size=(60, 300)).astype(np.float32)
    cosines = reference(vectors)
    for i, j in ((0, 1), (4, 9), (20, 50)):
        above = np.nextafter(cosines[i, j], np.float32(2))
        for threshold in map(float, (cosines[i, j], above)):
            assert pairs(vectors, threshold) == expected(cosines, threshold)


def test_a_thousand_of_the_same_picture():
    prints = [print_of(f"{i:05}", str(i), 1, 2, 3) for i in range(1000)]
    (group,) = find_groups(prints, 1.0)
    assert len(group) == 1000


@pytest.mark.parametrize("near", [0, -1, 1.01, float("nan"), "much"])
def test_threshold(near):
    assert list(map(to_threshold, (None, False, True, 0.5, 1))) == [None, None, NEAR, 0.5, 1.0]
    with pytest.raises(QueryError, match="near is a cosine above 0"):
        to_threshold(near)


def test_describe_group():
    vector = np.array([1.0, 0.0], np.float32)
    small = replace(document("a.jpg", [], number=1), embedding=vector)
    large = replace(document("b.jpg", [], number=2), embedding=vector + vector[::-1], width=900)
    bare = replace(document("c.jpg", [], number=3), embedding=None)
    group = describe_group([small, bare, large])
    assert [d.filename for d in group.pictures] == ["b.jpg", "c.jpg", "a.jpg"]
    assert group.similarities == (1.0, None, float(np.float32(0.5**0.5)))
    assert not group.exact
    assert all(d.embedding is None for d in group.pictures)
    shown = group.to_dict()
    assert shown["exact"] is False
    assert shown["pictures"][1]["similarity"] is None
    assert shown["pictures"][0]["uri"] == large.uri
    assert describe_group([small, replace(small, id="0" * 32)]).exact
