"""Queries by example: Rocchio's laws, parts and views, and ImageIndex and Hits with them."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.errors import QueryError
from imgsearch_es.interfaces.gallery import gallery_html
from imgsearch_es.retrieval.feedback import (
    ROCCHIO,
    VIEWS,
    Example,
    Rocchio,
    crop,
    mean_embedding,
    mean_terms,
    views_of,
)
from imgsearch_es.retrieval.queries import Query, synset_vector
from imgsearch_es.search.hits import Hits

KEYS = ("tabby", "lynx", "beagle", "sofa", "beach")
scores = st.floats(2**-20, 1, width=32)
vectors = st.dictionaries(st.sampled_from(KEYS), scores, min_size=1).map(
    lambda weights: synset_vector([Term(key, score) for key, score in weights.items()])
)
several = st.lists(vectors, max_size=4)
embeddings = st.lists(st.floats(-4, 4, width=32), min_size=3, max_size=3).map(
    lambda values: np.array(values, dtype=np.float32)
)
weights = st.floats(0, 4)


def score(terms, document):
    """Formula (1)."""
    weight = {term.key: term.score for term in terms}
    return math.fsum(weight.get(term.key, 0.0) * term.score for term in document)


# -- Rocchio's laws -----------------------------------------------------------------------------


@given(query=vectors, alpha=weights)
def test_no_feedback_is_the_identity(query, alpha):
    assert Rocchio(alpha=alpha).terms(query) == query
    assert Rocchio(beta=0, gamma=0).terms(query, [query], [query]) == query


@given(query=vectors, liked=several, disliked=several, random=st.randoms())
def test_the_order_of_pictures_does_not_matter(query, liked, disliked, random):
    expected = ROCCHIO.terms(query, liked, disliked)
    random.shuffle(liked)
    random.shuffle(disliked)
    assert ROCCHIO.terms(query, liked, disliked) == expected
    assert mean_terms(liked) == mean_terms(liked[::-1])
    assert mean_terms([query]) == mean_terms([query] * 4) == query
    assert mean_terms([]) == ()


@given(query=vectors, disliked=several, document=vectors)
def test_dislike_alone_never_raises_a_score(query, disliked, document):
    moved = ROCCHIO.terms(query, (), disliked)
    assert {term.key for term in moved} <= {term.key for term in query}
    assert score(moved, document) <= score(query, document)


@given(query=vectors, liked=several, document=vectors)
def test_like_alone_never_lowers_a_score(query, liked, document):
    assert score(ROCCHIO.terms(query, liked), document) >= score(query, document)


@given(query=vectors, liked=several, disliked=several)
def test_terms_are_a_query(query, liked, disliked):
    moved = ROCCHIO.terms(query, liked, disliked)
    assert all(term.score > 0 and term.score == np.float32(term.score) for term in moved)
    assert list(moved) == sorted(moved, key=lambda term: (-term.score, term.key))
    assert len({term.key for term in moved}) == len(moved)


def test_rocchio_by_hand():
    query = (Term("tabby", 0.5), Term("sofa", 0.125))
    liked = [(Term("tabby", 0.5), Term("lynx", 0.25)), (Term("lynx", 0.75),)]
    disliked = [(Term("sofa", 1.0), Term("beach", 1.0))]
    moved = {term.key: term.score for term in ROCCHIO.terms(query, liked, disliked)}
    expected = {"tabby": 0.5 + 0.75 * 0.25, "lynx": 0.75 * 0.5}  # sofa: 0.125 - 0.15 is below 0
    assert moved == pytest.approx(expected, rel=1e-6)


@given(st.lists(embeddings, min_size=1, max_size=4))
def test_the_mean_of_deep_features(features):
    mean = mean_embedding(features)
    assert mean.dtype == np.float32
    np.testing.assert_allclose(mean, np.mean(features, axis=0), atol=1e-6)
    for order in itertools.permutations(features):
        assert np.array_equal(mean_embedding(order), mean)


@given(query=embeddings, liked=st.lists(embeddings, max_size=3))
def test_deep_features_move_towards_the_liked(query, liked):
    moved = ROCCHIO.embedding(query, liked)
    if not liked:
        assert moved is query
        return
    target = np.mean(np.stack(liked).astype(float), axis=0)
    expected = (query + 0.75 * target) / 1.75
    np.testing.assert_allclose(moved, expected, atol=1e-5)
    assert np.linalg.norm(moved - target) <= np.linalg.norm(query - target) + 1e-5


@given(query=embeddings, liked=st.lists(embeddings, max_size=3), shift=embeddings)
def test_deep_features_may_lie_anywhere(query, liked, shift):
    """Moving all pictures moves the result with them: no distance depends on the origin."""
    disliked = [query - 1]
    here = ROCCHIO.embedding(query, liked, disliked)
    there = ROCCHIO.embedding(query + shift, [x + shift for x in liked], [disliked[0] + shift])
    np.testing.assert_allclose(there, here + shift, atol=1e-4)


def test_deep_features_without_a_pull():
    feature = np.ones(3, np.float32)
    assert ROCCHIO.embedding(None, (), [feature]) is None
    np.testing.assert_array_equal(ROCCHIO.embedding(None, [feature]), feature)
    with pytest.raises(QueryError, match="lower gamma"):
        Rocchio(gamma=1).embedding(feature, (), [feature])


@pytest.mark.parametrize("value", [-0.1, 1e7, math.inf, math.nan, "1"])
def test_a_wrong_weight(value):
    with pytest.raises(QueryError, match=r"gamma must be a number from 0 to 1e\+06"):
        Rocchio(gamma=value)


def test_expand():
    picture = Example("/a.png", (Term("sofa", 1.0),), None, "/a.png")
    query = Query((Term("tabby", 1.0),), text="tabby")
    assert {term.key for term in ROCCHIO.expand(query, [picture]).terms} == {"tabby", "sofa"}
    with pytest.raises(QueryError, match="nothing is left"):
        Rocchio(gamma=9).expand(query, (), [Example("/b", query.terms, None, "/b")])
    dense = Query((), strategy="dense-dot", embedding=np.ones(3, np.float32))
    with pytest.raises(QueryError, match="deep feature"):
        ROCCHIO.expand(dense, [picture])


# -- parts and views ----------------------------------------------------------------------------

SQUARES = Image.fromarray(np.arange(4 * 8 * 3, dtype=np.uint8).reshape(4, 8, 3))


def test_a_region_in_pixels_or_fractions():
    pixels = np.asarray(SQUARES)
    np.testing.assert_array_equal(crop(SQUARES, (2, 1, 6, 3)), pixels[1:3, 2:6])
    np.testing.assert_array_equal(crop(SQUARES, (0.25, 0.25, 0.75, 0.75)), pixels[1:3, 2:6])
    np.testing.assert_array_equal(crop(SQUARES, (0, 0, 1, 1)), pixels)
    np.testing.assert_array_equal(crop(SQUARES, (0, 0, 8, 4)), pixels)


@pytest.mark.parametrize(
    ("region", "reason"),
    [
        ((4, 0, 4, 4), "empty"),
        ((6, 0, 2, 4), "empty"),
        ((0.5, 0.1, 0.51, 0.9), "empty"),
        ((0, 0, 9, 4), "reaches outside the picture, which is 8 x 4"),
        ((-1, 0, 4, 4), "outside"),
        ((0, 0, 4), "four numbers"),
        ("0,0,4,4", "four numbers"),
        ((0, 0, math.nan, 4), "four numbers"),
        (7, "four numbers"),
        ((0, 0, 10**400, 4), "four numbers"),
    ],
)
def test_a_wrong_region(region, reason):
    with pytest.raises(QueryError, match=reason):
        crop(SQUARES, region)


def test_views():
    views = list(views_of(SQUARES, tuple(VIEWS)))
    assert [view.size for view in views] == [
        *[(8, 4)] * 2, (4, 8), (8, 4), (4, 8), *[(6, 3)] * 5,
    ]  # fmt: skip
    assert views[0] is SQUARES
    np.testing.assert_array_equal(views[1], np.asarray(SQUARES)[:, ::-1])
    np.testing.assert_array_equal(views[-1], np.asarray(SQUARES)[0:3, 1:7])
    assert len(list(views_of(SQUARES, ("mirror", "mirror")))) == 2
    assert len(list(views_of(Image.new("RGB", (1, 1)), ("crops",)))) == 6
    with pytest.raises(QueryError, match="no view 'zoom'; there are mirror, rotations, crops"):
        list(views_of(SQUARES, ("zoom",)))


# -- ImageIndex ---------------------------------------------------------------------------------


@pytest.fixture
def cats(photos):
    return [photos / "cats" / f"cat.{i}.png" for i in range(6)]


def asking(picture):
    """A document or an analysis as it asks: with its ten best classes."""
    return replace(picture, terms=picture.terms[:10])


def test_several_pictures_are_their_mean(index, cats):
    query = index.query(image=cats[:2])
    assert query.terms == mean_terms([asking(index.get(cat)).terms for cat in cats[:2]])
    assert query.pictures == tuple(map(str, cats[:2]))
    assert str(query) == "image: cat.0.png, cat.1.png"
    assert index.query(image=cats[1::-1]).terms == query.terms
    dense = index.query(image=cats[:2], strategy="dense-cosine")
    expected = np.mean([index.get(cat).embedding for cat in cats[:2]], axis=0)
    np.testing.assert_allclose(dense.embedding, expected, rtol=1e-6)


def test_like_and_dislike(index, cats):
    a, b, c = (asking(index.get(cat)).terms for cat in cats[:3])
    query = index.query(image=cats[0], like=[cats[1]], dislike=cats[2])
    assert query.terms == ROCCHIO.terms(a, [b], [c])
    assert str(query) == "image: cat.0.png; like: cat.1.png; dislike: cat.2.png"
    assert query.pictures == tuple(map(str, cats[:3]))
    only = index.query(like=cats[:2])
    assert [term.key for term in only.terms] == [t.key for t in index.query(image=cats[:2]).terms]
    with pytest.raises(QueryError, match="dislike= only moves"):
        index.query(dislike=cats[0])


def test_pictures_in_every_form(index, cats, fake_model):
    hits = index.search(image=cats[0], strategy="dense-cosine")
    pixels = np.asarray(Image.open(cats[0]))
    forms = [hits[0], hits[0].document, hits[0].id, str(cats[0]), cats[0]]
    expected = index.query(image=cats[0]).terms
    for form in forms:
        assert index.query(image=form).terms == expected
        assert index.query(image=[form, form]).terms == expected
    assert index.query(image=hits).pictures == tuple(hits.uris)
    assert fake_model.calls == 0  # all of it is in the index
    for form in [pixels, Image.fromarray(pixels), cats[0].read_bytes()]:
        assert {t.key for t in index.query(image=form).terms} == {t.key for t in expected}
    fake_model.calls = 0
    assert len(index.query(image=[pixels, hits[1], pixels[::-1]]).pictures) == 3
    assert fake_model.calls == 1  # those in memory together


def test_exclude_self_leaves_out_all_pictures(index, cats):
    hits = index.search(image=cats[0], like=cats[1], dislike=cats[2], exclude_self=True, k=50)
    assert not set(hits.uris) & set(map(str, cats[:3]))


def test_a_region(index, cats):
    part = np.asarray(Image.open(cats[0]))[5:15, 10:25]
    expected = {(t.key, t.score) for t in asking(index.analyze(part)).terms}
    for picture in (cats[0], index.get(cats[0]).id, index.get(cats[0]), Image.open(cats[0])):
        query = index.query(image=picture, region=(10, 5, 25, 15))
        assert {(t.key, t.score) for t in query.terms} == expected
        assert query.pictures[0].size == (15, 10)  # the part is what is shown
    assert (
        str(index.query(image=cats[0], region=(10, 5, 25, 15))) == "image: 10,5,25,15 of cat.0.png"
    )
    with pytest.raises(QueryError, match="outside the picture, which is 30 x 20"):
        index.query(image=cats[0], region=(10, 5, 31, 15))
    for images in (cats[:2], None):
        with pytest.raises(QueryError, match="region is of one picture"):
            index.query(image=images, text="tabby", region=(10, 5, 25, 15))


def test_views_are_averaged_in_one_batch(index, cats, fake_model):
    query = index.query(image=cats[0], views=("mirror", "crops"))
    assert fake_model.calls == 1
    shots = list(views_of(Image.open(cats[0]).convert("RGB"), ("mirror", "crops")))
    assert query.terms == mean_terms([index.analyze(shot).terms for shot in shots])[:10]
    assert query.pictures == (str(cats[0]),)
    with pytest.raises(QueryError, match="no view"):
        index.query(image=cats[0], views=("upside-down",))
    with pytest.raises(QueryError, match="views are of the pictures"):
        index.query(text="tabby", views=("mirror",))


def test_the_index_keeps_no_pixels(index):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    index.add(pixels)
    hit = index.search(image=pixels, strategy="dense-cosine", k=1)[0]
    assert index.query(image=hit).terms  # by what is stored
    for picture in (hit, hit.id, hit.uri):
        with pytest.raises(QueryError, match="keeps no pixels"):
            index.query(image=picture, region=(0, 0, 4, 4))


def test_pseudo_relevance_feedback(index, cats):
    asked = {"image": cats[0], "strategy": "dense-euclidean"}
    plain = index.search(**asked, k=3)
    expected = ROCCHIO.expand(plain.query, [index.get(hit.id) for hit in plain])
    hits = index.search(**asked, k=4, feedback=3)
    assert len(hits) == 4
    assert np.array_equal(hits.query.embedding, expected.embedding)
    assert str(hits.query) == "image: cat.0.png; feedback: best 3"
    with pytest.raises(QueryError, match="feedback is a number of hits"):
        index.query(image=cats[0], feedback=-1)


# -- Hits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["tfidf", "dense-cosine"])
def test_refine(index, cats, strategy):
    hits = index.search(image=cats[0], strategy=strategy, k=5, offset=1)
    good, bad = ([asking(index.get(hits[i].id)) for i in which] for which in ((0, 3), (1,)))
    refined = hits.refine(like=[0, 3, -2], dislike=1)
    expected = ROCCHIO.expand(hits.query, good, bad)
    if hits.query.is_dense:
        assert np.array_equal(refined.query.embedding, expected.embedding)
    else:
        assert refined.query.terms == expected.terms
    assert (refined.query.k, refined.query.offset, refined[0].rank) == (5, 0, 1)
    names = [hits[i].filename for i in (0, 3, 1)]
    assert str(refined.query) == (
        f"image: cat.0.png; like: {names[0]}, {names[1]}; dislike: {names[2]}"
    )
    again = refined.refine(like=0, k=2)
    assert len(again) == 2
    assert again.query.roles == ("image", "like", "like", "dislike", "like")


def test_refine_to_unseen_pictures(index, cats):
    hits = index.search(image=cats[0], k=3)
    first = hits.refine(like=[0], dislike=[2], k=12, unseen=True)
    second = first.refine(like=0, k=12, unseen=True)
    judged = {hits[0].id, hits[2].id, first[0].id}
    assert not {hit.id for hit in second} & judged
    assert len(second) == len(first) - 1


def test_refine_what_is_not_there(index, cats):
    hits = index.search(image=cats[0], k=3)
    for wrong in (3, -4, [0, 7]):
        with pytest.raises(QueryError, match=r"there is no hit .*: they are 0 to 2"):
            hits.refine(like=wrong)
    with pytest.raises(QueryError, match="which hits are good or bad"):
        hits.refine()
    with pytest.raises(QueryError, match="liked and disliked"):
        hits.refine(like=[0, 1], dislike=[-2])
    none = index.search(image=cats[0], where={"label": "none"})
    with pytest.raises(QueryError, match="there is no hit 0: there are none"):
        none.refine(like=0)
    with pytest.raises(QueryError, match="do not know their index"):
        Hits(hits.query, index.store.search(hits.query)).refine(like=0)


def test_the_gallery_shows_what_is_liked(index, cats):
    page = gallery_html(index.search(image=cats[0], like=cats[1], dislike=cats[2]))
    assert 'alt="Query picture cat.0.png"' in page
    assert 'class="ig-frame ig-like" title="Liked picture cat.1.png"' in page
    assert 'class="ig-frame ig-dislike" title="Disliked picture cat.2.png"' in page
