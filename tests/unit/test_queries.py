"""Queries: words, filters and the weighted synset vector."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.errors import QueryError
from imgsearch_es.retrieval.conditions import of_score, parse_filters
from imgsearch_es.retrieval.dense import CANDIDATES, COMPARISONS
from imgsearch_es.retrieval.language import parse_words
from imgsearch_es.retrieval.queries import Query, synset_vector, to_candidates
from imgsearch_es.retrieval.scoring import FORMULAS, Statistics
from imgsearch_es.retrieval.strategies import (
    DENSE,
    FEATURES,
    MAX_RESULTS,
    PICTURES,
    POSTINGS,
    SHARING,
    STRATEGIES,
    WORDS,
)
from imgsearch_es.vocabulary.synsets import imagenet

TERMS = st.lists(
    st.builds(Term, st.sampled_from("abcdef"), st.floats(2.0**-20, 2, width=32)), max_size=8
)


def words(text):
    return parse_words(text, imagenet())


def keys(text):
    return {term.key for term in words(text).terms}


# -- synset_vector ------------------------------------------------------------------------------


def test_vectors_are_added_synset_by_synset():
    added = synset_vector([Term("b", 0.5), Term("a", 0.25)], [Term("b", 0.25), Term("c", 0.25)])
    assert added == (Term("b", 0.75), Term("a", 0.25), Term("c", 0.25))
    light = [Term("a", 0.0), Term("b", 0.1), Term("c", -1.0), Term("d", 1e-50)]
    assert synset_vector(light) == (Term("b", float(np.float32(0.1))),)
    assert synset_vector() == ()


@given(TERMS, TERMS)
def test_adding_is_commutative_and_ordered(left, right):
    both = synset_vector(left, right)
    assert [t.key for t in both] == [t.key for t in sorted(both, key=lambda t: (-t.score, t.key))]
    assert {t.key: t.score for t in both} == pytest.approx(
        {t.key: t.score for t in synset_vector(right, left)}
    )


# -- words --------------------------------------------------------------------------------------


def test_what_is_known_needs_no_hint():
    assert words("dog").hints == words("cat").hints == words("beagle lynxes").hints == ()


# -- Query --------------------------------------------------------------------------------------

TABBY = (Term("tabby", 1.0),)
WHERE = {"label": ["x", "y"], "width": {"gte": 8}, "filename": {"wildcard": "a*"}}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"terms": ()}, "nothing to search for"),
        ({"strategy": "best"}, "no strategy 'best'; there are auto, impact"),
        ({"k": 0}, "k must be at least 1"),
        ({"offset": -1}, "offset 0, not 10 and -1"),
        ({"k": MAX_RESULTS, "offset": 1}, "at most 10000"),
        ({"strategy": "dense-chi2", "candidates": 10}, "dense-chi2 is always exact: dense-"),
        ({"strategy": "bm25", "candidates": 10}, "bm25 is always exact"),
        ({"strategy": "dense-dot", "candidates": MAX_RESULTS + 1}, "1 to 10000, not 10001"),
        ({"strategy": "dense-dot", "candidates": -1}, "1 to 10000, not -1"),
        (
            {"filters": (of_score("tabby", ["tabby"], "gt", 0.1),) * 33},
            "more than 32 signs",
        ),
    ],
)
def test_a_query_that_makes_no_sense(options, message):
    with pytest.raises(QueryError, match=message):
        Query(**{"terms": TABBY, "embedding": np.ones(3, np.float32), **options})
    assert Query(TABBY, k=1, offset=MAX_RESULTS - 1).k == 1


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        (Query(TABBY, text="tabby cat"), "words: tabby cat"),
        (Query(TABBY, pictures=("/a/b.jpg",)), "image: b.jpg"),
        (Query(TABBY, pictures=(Image.new("RGB", (1, 1)),)), "image: picture"),
        (
            Query(TABBY, text="cat", pictures=("/a/b.jpg",), filters=parse_filters(WHERE)),
            "image: b.jpg; words: cat; label:x,y; width:>=8; filename:a*",
        ),
    ],
)
def test_it_is_shown_in_a_few_words(query, shown):
    assert str(query) == shown


def test_to_elasticsearch_takes_every_strategy_and_its_own_by_default():
    query = Query(TABBY, strategy="script")
    assert query.to_elasticsearch() == query.to_elasticsearch("script")
    assert query.to_elasticsearch("auto") == query.to_elasticsearch("impact")
    assert query.to_elasticsearch("impact") != query.to_elasticsearch("script")
    statistics = Statistics(9, 0.5, {"tabby": 3})
    for name in filter(lambda name: name not in DENSE, STRATEGIES):
        assert query.to_elasticsearch(name, statistics=statistics)["size"] >= query.k


def test_every_strategy_is_complete():
    ways = STRATEGIES.values()
    assert [way.name for way in ways] == list(STRATEGIES)
    assert all(way.description and way.cost for way in ways)
    assert {way.scores_by for way in ways} == {*FORMULAS, *COMPARISONS, "visual-words"}
    assert {way.reads for way in ways} == {POSTINGS, SHARING, PICTURES, FEATURES, WORDS}
    labels = [way.label for way in ways if way.label]
    assert STRATEGIES["auto"].label
    assert len(set(labels)) == len(labels)
    for way in ways:
        assert way.scores_by in (way.name, "inner")
        assert way.compares_all == (way.reads == FEATURES) == way.name.startswith("dense-")
        assert way.by_words == (way.reads == WORDS) == (way.name == "visual-words")
        assert way.is_dense == (way.compares_all or way.by_words)
        assert way.is_dense or not (way.is_distance or way.can_be_approximate)
        assert all(
            f"{name} ({value:g})" in way.description for name, value in way.parameters.items()
        )
        assert way.is_distance == way.description.startswith("minus the ")


def test_candidates_of_an_approximate_search():
    assert (to_candidates(False, None), to_candidates(True, None)) == (0, CANDIDATES)
    assert to_candidates(True, 7) == 7
    with pytest.raises(QueryError, match="also say approximate=True"):
        to_candidates(False, 7)
    with pytest.raises(QueryError, match="1 to 10000, not 0"):
        to_candidates(True, 0)


@pytest.mark.parametrize("name", ["tfidf", "bm25"])
def test_what_weights_by_the_collection_needs_its_statistics(name):
    with pytest.raises(QueryError, match=f"{name} weights by the collection"):
        Query(TABBY).to_elasticsearch(name)
