"""Pages: they add up to one ranking, whatever is written meanwhile and however far they go."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.errors import StoreError
from imgsearch_es.retrieval.conditions import parse_filters
from imgsearch_es.retrieval.dense import COMPARISONS
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.search.hits import pages
from imgsearch_es.stores.base import Store
from imgsearch_es.stores.elastic.store import ElasticStore
from tests.conformance.collections import DIMENSIONS, document, posteriors, ties
from tests.conformance.conftest import STRATEGIES, filled, ranking
from tests.conformance.test_ranking import LAW

TERMS = (Term("tabby", 0.5), Term("tiger_cat", 0.3), Term("Egyptian_cat", 0.2))


def make_documents() -> list[Document]:
    """Realistic ones, and 1,000 that tie or nearly do, by synsets and by deep feature."""
    random = np.random.default_rng(5)
    made = []
    for number, item in enumerate(posteriors(400, seed=8) + ties()):
        vector = np.ones(DIMENSIONS, np.float32)
        if number % 3:  # apart by less than float32 sums can tell
            vector[number % DIMENSIONS] += np.float32(number % 40) * np.float32(2e-7)
        if number % 5 == 0:
            vector = random.uniform(0, 1, DIMENSIONS).astype(np.float32)
        made.append(replace(item, embedding=vector))
    return made


def check(store: Store, query: Query) -> None:
    """The pages against one search for everything, and their own promises."""
    everything = store.search(replace(query, k=10_000 - query.offset))
    assert everything.exact
    found = list(pages(store, query))
    flat = [hit for page in found for hit in page]
    assert ranking(flat) == ranking(everything.hits)
    assert [hit.rank for hit in flat] == list(
        range(query.offset + 1, query.offset + 1 + len(everything.hits))
    )
    assert all(len(page) == query.k for page in found[:-1])
    assert all(page.exact for page in found)
    if found:
        assert 0 < len(found[-1]) <= query.k
        assert found[-1].total == len(flat) + query.offset
        assert found[-1].total_is_exact
        assert found[0].explain(0).total == found[0][0].score
        assert found[0][0].document.embedding is None


@pytest.mark.parametrize(
    ("strategy", "size"),
    [
        *((strategy, 90) for strategy in (*STRATEGIES, "tfidf")),
        *(pytest.param(name, 90, marks=pytest.mark.scripts) for name in ("cosine", "sqrt", "bm25")),
        ("auto", 1000),
    ],
)
def test_synsets(case, strategy, size):
    check(case.store, Query(TERMS, strategy=strategy, k=size))


@pytest.mark.scripts
@pytest.mark.parametrize(
    ("strategy", "size"), [*((name, 90) for name in sorted(COMPARISONS)), ("dense-cosine", 1000)]
)
def test_deep_features(case, strategy, size):
    vector = np.linspace(0.5, 1.5, DIMENSIONS, dtype=np.float32)
    check(case.store, Query((), strategy=strategy, embedding=vector, k=size))


@pytest.mark.scripts
@pytest.mark.parametrize("min_score", [0.9, 0.9899495, 2.0])
def test_a_dense_min_score(case, min_score):
    vector = np.linspace(0.5, 1.5, DIMENSIONS, dtype=np.float32)
    options = {"strategy": "dense-cosine", "embedding": vector, "k": 110}
    check(case.store, Query((), min_score=min_score, **options))


@LAW
@given(
    size=st.integers(1, 60),
    offset=st.integers(0, 400),
    strategy=st.sampled_from(["auto", "tfidf"]),
    where=st.sampled_from([{"width": {"lt": 110}}, {"label": "pets"}, {"-format": "PNG"}]),
)
def test_any_size_and_offset(case, size, offset, strategy, where):
    terms = (Term("tench", 1.0), Term("goldfish", 0.25))
    filters = parse_filters(where)
    check(case.store, Query(terms, strategy=strategy, k=size, offset=offset, filters=filters))


@pytest.mark.parametrize(
    "strategy", ["auto", pytest.param("script", marks=pytest.mark.scripts), "tfidf"]
)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_least_score(case, strategy, share):
    best = case.store.search(Query(TERMS, strategy=strategy, k=1)).hits[0].score
    check(case.store, Query(TERMS, strategy=strategy, k=40, min_score=best * share))


def test_nothing_matches(case):
    filters = parse_filters({"label": "nobody's"})
    assert list(pages(case.store, Query(TERMS, filters=filters))) == []


@pytest.mark.scripts
@pytest.mark.parametrize("strategy", ["auto", "tfidf", "dense-cosine"])
def test_others_write_between_pages(place, strategy):
    """New documents do not appear, nothing shifts or comes twice, the file is free."""
    made = make_documents()[:400]
    options = {"embedding": np.ones(DIMENSIONS, np.float32)} if strategy in COMPARISONS else {}
    terms = () if options else tuple(Term(t.key, 1.0) for d in made[:9] for t in d.terms[:2])
    terms = tuple({term.key: term for term in terms}.values())
    query = Query(terms, strategy=strategy, k=20, **options)
    with filled(place(), made) as store:
        before = store.search(replace(query, k=10_000)).hits
        assert len(before) > 60
        reading = pages(store, query)
        found = list(next(reading))
        best, gone, changed = before[0].document, before[30].document, before[35].document
        stored = store.get([best.id, changed.id])
        copies = [replace(stored[best.id], id=f"{i:032x}") for i in range(50)]
        renamed = replace(stored[changed.id], labels=("renamed",))
        assert store.write([*copies, renamed]).rejected == []
        assert store.remove([gone.id, copies[0].id]) == 2
        store.finish()
        found += [hit for page in reading for hit in page]
        left = [hit for hit in before if hit.document.id != gone.id]
        is_file = not isinstance(store, ElasticStore)
        assert ranking(found) == ranking(left if is_file else before)
        assert [hit.rank for hit in found] == list(range(1, len(found) + 1))
        (shown,) = [hit for hit in found if hit.id == changed.id]
        assert (shown.labels == ("renamed",)) is is_file
        after = [hit for page in pages(store, query) for hit in page]
        assert len(after) == len(left) + 49


@pytest.mark.scripts
def test_more_than_one_search_gives_dense_too(place):
    """10,400 hits, by synset and over a least score, where a search ends at 10,000."""
    made = [
        replace(
            document(f"many/{i}.jpg", [("tabby", 0.25 + i % 100 / 1000)], number=i),
            embedding=np.array([1, i % 1000 / 5000, *[0] * (DIMENSIONS - 2)], np.float32),
        )
        for i in range(10_400)
    ]
    expected = sorted((-np.float32(d.terms[0].score), d.id) for d in made)
    with filled(place(), made) as store:
        found = [h for page in pages(store, Query((Term("tabby", 1.0),), k=5000)) for h in page]
        assert [(-np.float32(hit.score), hit.id) for hit in found] == expected
        options = {"strategy": "dense-cosine", "embedding": made[0].embedding, "k": 3000}
        query = Query((), min_score=0.9, **options)
        assert sum(len(page) for page in pages(store, query)) == 10_400
        half = replace(query, min_score=1 / np.sqrt(1 + 0.1**2) - 1e-7)
        assert {hit.id for page in pages(store, half) for hit in page} == {
            d.id for d in made if d.embedding[1] <= np.float32(0.1)
        }


@pytest.mark.node
def test_the_point_in_time_is_closed_and_one_that_is_gone_is_told(
    fresh_index_name, elasticsearch_url
):
    with filled(f"{elasticsearch_url}/{fresh_index_name}", ties(300)) as store:

        def contexts() -> int:
            found = store.client.indices.stats(index=fresh_index_name, metric="search")
            return found["_all"]["primaries"]["search"]["open_contexts"]

        query = Query(TERMS, k=100)
        reading = pages(store, query)
        assert (len(next(reading)), contexts()) == (100, 1)
        reading.close()
        assert contexts() == 0
        assert (len(list(pages(store, query))), contexts()) == (3, 0)
        reading = pages(store, query)
        next(reading)
        client = store.client
        store.close()
        reading.close()  # an iterator left over when the index is closed
        assert client.count(index=fresh_index_name)["count"] == 300  # of another thread
        reading = pages(store, query)
        next(reading)
        assert contexts() > 0
        store.client.indices.delete(index=f"{fresh_index_name}-000001")
        with pytest.raises(StoreError, match="search again"):
            next(reading)
