"""k-reciprocal re-ranking."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from imgsearch_es.errors import QueryError
from imgsearch_es.search.hits import Hits
from imgsearch_es.search.reranking import reciprocal_order


def at(*degrees):
    """Unit vectors in the plane."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def encoded(query, vectors, k1, k2, mix):
    """The paper's definitions with sets, one picture at a time."""
    points = np.vstack([query[None], vectors]).astype(float)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    everyone = range(len(points))

    def distance(a, b):
        return max(1 - float(points[a] @ points[b]), 0) if a != b else 0.0

    nearest = [sorted(everyone, key=lambda g: (g != p, distance(p, g), g)) for p in everyone]

    def neighbors(p, k):
        return nearest[p][:k]

    def mutual(p, k):
        return {g for g in neighbors(p, k + 1) if p in neighbors(g, k + 1)}

    @functools.cache
    def row(p):
        own = mutual(p, k1)
        more = (mutual(q, round(k1 / 2)) for q in own)
        whole = own.union(*(r for r in more if len(own & r) >= 2 / 3 * len(r)))
        return np.array([np.exp(-distance(p, g)) if g in whole else 0 for g in everyone])

    rows = [np.mean([row(g) for g in neighbors(p, k2)], axis=0) for p in everyone]
    return [
        (1 - mix) * (1 - np.minimum(rows[0], r).sum() / np.maximum(rows[0], r).sum())
        + mix * distance(0, g)
        for g, r in list(enumerate(rows))[1:]
    ]


@pytest.mark.parametrize(("k1", "k2", "mix"), [(20, 6, 0.3), (6, 3, 0.3), (4, 1, 0.0), (8, 2, 1.0)])
def test_as_the_definitions_read(k1, k2, mix):
    random = np.random.default_rng(k1)
    for _ in range(5):
        query = random.normal(size=4).astype(np.float32)
        vectors = (random.normal(size=(30, 4)) + query / 2).astype(np.float32)
        expected = encoded(query, vectors, k1, k2, mix)
        order = reciprocal_order(query, vectors, k1, k2, mix)
        assert sorted(order) == list(range(30))
        ranked = [expected[i] for i in order]
        assert ranked == pytest.approx(sorted(ranked), abs=1e-9)


def test_the_querys_own_crowd_comes_first():
    """The nearest hit belongs to another crowd; the query's own crowd overtakes it."""
    query = at(0)[0]
    other, own = at(7, 7.5, 8, 8.5, 9), at(-2, -4, -6, -8, -1)
    order = reciprocal_order(query, np.vstack([other, own]), k1=4, k2=2)
    assert set(order[:5]) == {5, 6, 7, 8, 9}


def test_doubles_and_zeros():
    vectors = np.vstack([at(0, 0, 0, 90), np.zeros((2, 2), np.float32)])
    order = reciprocal_order(at(0)[0], vectors)
    assert order[:3] == [0, 1, 2]
    assert sorted(order) == list(range(6))
    assert reciprocal_order(at(0)[0], at(5)) == [0]


def test_copies_are_equally_far_however_products_are_rounded():
    """With the dimensions in another order every distance is the same, but for its last digits."""
    random = np.random.default_rng(0)
    for _ in range(20):
        vectors = random.random((40, 64), np.float32)[random.integers(0, 25, 40)]
        order = reciprocal_order(vectors[0], vectors)
        assert reciprocal_order(vectors[0, ::-1], vectors[:, ::-1]) == order


def test_hits_are_reranked(index, photos):
    cat = photos / "cats" / "cat.0.png"
    hits = index.search(image=cat, strategy="dense-cosine", k=9, offset=1)
    reranked = hits.rerank()
    vectors = np.stack([index.get(hit.id).embedding for hit in hits])
    order = reciprocal_order(hits.query.embedding, vectors)
    assert reranked.uris == [hits[i].uri for i in order]
    assert [hit.rank for hit in reranked] == list(range(2, 11))
    assert {hit.rank for hit in hits[::-1].rerank()} == set(range(2, 11))
    assert {hit.id: hit.score for hit in reranked} == {hit.id: hit.score for hit in hits}
    assert (hits.exact, reranked.exact) == (True, False)
    assert "re-ranked" in reranked.means
    assert reranked.refine(like=0).query.roles == ("image", "like")
    none = index.search(image=cat, strategy="dense-cosine", where={"label": "none"})
    assert len(none.rerank()) == 0


def test_nothing_to_rerank_by(index, photos):
    hits = index.search(image=photos / "cats" / "cat.0.png")
    with pytest.raises(QueryError, match="search with a strategy dense-"):
        hits.rerank()
    with pytest.raises(QueryError, match="do not know their index"):
        Hits(hits.query, index.store.search(hits.query)).rerank()
    dense = index.search(image=photos / "cats" / "cat.0.png", strategy="dense-dot")
    index.remove(dense[0].id)
    for again in (dense.rerank, lambda: dense.refine(like=0)):
        with pytest.raises(QueryError, match="no longer has"):
            again()
