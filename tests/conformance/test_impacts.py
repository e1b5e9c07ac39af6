"""An index with impacts of formulas answers as the script over all that share a synset does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsearch_es import ImageIndex
from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.errors import ConfigurationError
from imgsearch_es.retrieval.conditions import parse_filters
from imgsearch_es.retrieval.language import parse_words
from imgsearch_es.retrieval.queries import Query, synset_vector
from imgsearch_es.stores import open_store
from imgsearch_es.stores.base import SearchResult, Store
from imgsearch_es.stores.elastic.fetching import OFFERED
from imgsearch_es.vocabulary.synsets import imagenet
from tests.conformance import test_large_vocabulary as large
from tests.conformance.collections import KEYS, extremes, posteriors, ties
from tests.conformance.conftest import SETTINGS, Case, filled, ranking
from tests.conformance.reference import Reference
from tests.conformance.test_ranking import LAW, conditions
from tests.conformance.test_teaching import examples, folder  # noqa: F401 - a fixture

pytestmark = [
    pytest.mark.scripts,
    pytest.mark.node,
    pytest.mark.parametrize("place", ["elasticsearch"], indirect=True),
]
IMPORTED = replace(SETTINGS, analyzer={**SETTINGS.analyzer, "model": {"name": "features"}})


@pytest.fixture(scope="module")
def store(place) -> Iterator[Store]:
    """Of which every third picture is removed again, and one is changed by others."""
    documents, location = posteriors(900) + extremes() + ties(1000), place()
    with filled(location, documents, IMPORTED, impacts=OFFERED) as made:
        made.remove([one.id for one in documents[::3]])
        name, changed = location.rpartition("/")[2], {"metadata": {"by": "others"}}
        made.client.update(index=name, id=documents[1].id, doc=changed, refresh=True)
        yield made


def by_script(store: Store, queries: Sequence[Query]) -> list[SearchResult]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("imgsearch_es.stores.elastic.answers._LOOSEST", 0.0)
        return store.search_many(queries)


def check(store: Store, *queries: Query) -> list[SearchResult]:
    """The same hits, scores and totals as by the script, to the last bit."""
    found = store.search_many(queries)
    for query, one, single, other in zip(
        queries, found, map(store.search, queries), by_script(store, queries), strict=True
    ):
        assert ranking(one) == ranking(single) == ranking(other), query
        assert one.exact
        assert one.total == single.total == other.total
    return found


@LAW
@given(
    vector=st.dictionaries(
        st.sampled_from(KEYS[:60]), st.floats(2.0**-30, 1, width=32), min_size=1, max_size=12
    ),
    strategy=st.sampled_from(OFFERED),
    where=conditions,
    k=st.integers(1, 40),
    offset=st.integers(0, 30),
    parameters=st.fixed_dictionaries({"k1": st.floats(0, 3), "b": st.floats(0, 1)}),
)
def test_random_queries(store, vector, strategy, where, k, offset, parameters):
    terms = synset_vector(Term(key, weight) for key, weight in vector.items())
    options = {"filters": parse_filters(where), "k": k, "offset": offset}
    parameters = parameters if strategy == "bm25" else {}
    usual = Query(terms, strategy=strategy, **options)
    check(store, usual, replace(usual, parameters=parameters))


@pytest.mark.parametrize("strategy", OFFERED)
def test_a_first_window_proves_it_or_a_wider_one(store, strategy):
    words = Query(parse_words("dog vehicle fish", imagenet()).terms, strategy=strategy)
    tied = Query((Term("tabby", 1.0), Term("tiger_cat", 0.5)), strategy=strategy, k=20)
    found = check(store, words, tied, replace(tied, k=5000), Query(words.terms, strategy="sqrt"))
    assert found[0].windows
    assert "no other picture can enter" in found[0].means
    assert max(store.search(replace(tied, k=k)).windows for k in (1, 3, 20)) > 1
    pages = [pair for page in store.pages(replace(words, k=60)) for pair in ranking(page)]
    assert pages == ranking(by_script(store, [replace(words, k=10_000)])[0])


def test_the_index_is_whole_and_harm_to_it_is_seen(store):
    with ImageIndex(store.location) as index:
        harms = index.verify().harms
        assert {harm.part for harm in harms} <= {
            "hit",
            "checksum",
            "kinds",
            "texts",
        }  # of the picture that others changed
        name = store.location.rpartition("/")[2]
        wrong = "ctx._source.impacts.sqrt.replaceAll((k, v) -> v * 1.01)"
        script = f"{wrong}; ctx._source.impacts.remove('cosine')"
        query = {"term": {"synsets": "tabby"}}
        index.store.client.update_by_query(index=name, script=script, query=query, refresh=True)
        assert {"impacts.sqrt", "impacts.cosine"} <= {harm.part for harm in index.verify().harms}
        assert {harm.part for harm in index.store.glance()} == {"hit", "impacts.cosine"}


def test_reindexing_adds_them_and_takes_them_away(
    place,
    folder,  # noqa: F811
    fake_model,
    monkeypatch,
):
    monkeypatch.setattr("imgsearch_es.stores.elastic.aliased._LAST_SEARCHES_SECONDS", 0.0)
    location = place()
    with ImageIndex(location, model="fake") as index:
        index.add(folder)
        assert index.search(image=folder / "dark9.png", strategy="sqrt").means.startswith("match")
    with ImageIndex(location, impacts="sqrt,bm25") as index:
        with pytest.raises(ConfigurationError, match="with impacts=none: leave"):
            index.count()
        assert index.reindex().copied == 16
        index.teach("sunny", like=examples(folder))
        queries = [index.query(text="sunny", strategy=way) for way in ("sqrt", "bm25")]
        assert all(found.hits and found.windows for found in check(index.store, *queries))
        assert index.verify().is_whole
        assert index.store.beside()._wanted_impacts == ("sqrt", "bm25")
    with ImageIndex(location, impacts="none") as index:
        assert index.reindex().copied == index.count() == 16
        assert index.store._impacts == ()


@pytest.mark.parametrize("strategy", OFFERED)
def test_more_classes_than_there_are_fields_for(place, strategy):
    documents = large.make_documents()
    with filled(place(), documents, large.OWN_SETTINGS, impacts=[strategy]) as made:
        reference = Reference(documents, large.VOCABULARY.keys)
        query = Query(large.TERMS, strategy=strategy, k=10)
        expected = reference.score(query)
        hits = Case(made, documents).check_scores(query, expected)
        assert hits.total == len(expected)
        pages = [pair for page in made.pages(query) for pair in ranking(page)]
        assert (pages[:10], len(pages)) == (ranking(hits), len(expected))
        if strategy == "bm25":  # which has no bound without lengths, and nothing else to read
            other = replace(query, parameters={"b": 0})
            Case(made, documents).check_scores(other, reference.score(other))


def test_formulas_that_have_none(place):
    with pytest.raises(ConfigurationError, match="'tfidf' names none of the formulas"):
        open_store(place(), impacts=["sqrt", "tfidf"])
