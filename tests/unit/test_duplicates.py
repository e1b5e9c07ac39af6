"""Grouping by hash and by cosine, without any store."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from imgsearch_es.errors import QueryError
from imgsearch_es.retrieval.duplicates import (
    NEAR,
    Fingerprint,
    _are_near,
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


@pytest.mark.parametrize("block", [2, 7, 1000])
def test_blocks_make_no_difference(block):
    random = np.random.default_rng(3)
    vectors = random.normal(size=(150, 3))
    prints = [print_of(f"{i:03}", str(i), *vector) for i, vector in enumerate(vectors)]
    assert find_groups(prints, 0.995, block=block) == find_groups(prints, 0.995)


def test_rounding_does_not_decide():
    """At a threshold that is some pair's very cosine, the pair is near; just above, it is not."""
    random = np.random.default_rng(5)
    rows = random.normal(size=(60, 300)).astype(np.float32)
    wide = rows.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1)
    exact = ((wide @ wide.T) / np.outer(norms, norms)).astype(np.float32)
    for i, j in ((0, 1), (4, 9), (20, 50)):
        above = np.nextafter(exact[i, j], np.float32(2))
        for threshold in (exact[i, j], above):
            expected = exact >= threshold
            np.testing.assert_array_equal(_are_near(rows, rows, float(threshold)), expected)


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
