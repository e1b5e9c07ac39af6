"""Approximate answers: with enough candidates both stores give the exact ones, and say what is not.

Elasticsearch with each kind of index of nearest neighbors, and a file with the one it has, or
with none: then it answers exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest

from imgsearch_es.errors import ConfigurationError, QueryError
from imgsearch_es.retrieval.conditions import parse_filters
from imgsearch_es.retrieval.dense import COMPARISONS
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.stores import open_store
from imgsearch_es.stores.base import SearchResult
from tests.conformance.collections import posteriors
from tests.conformance.conftest import SETTINGS, Case, filled, ranking

pytestmark = pytest.mark.scripts

DIMENSIONS = 64
SIMILARITIES = {"int8_hnsw": "cosine", "bbq_hnsw": "cosine", "flat": "dot", "hnsw": "euclidean"}
ENOUGH = 380


@dataclass(frozen=True)
class NearCase(Case):
    strategy: str


def _documents() -> list[Document]:
    """Features around centers, of any sign and length; some equal, some zero, some missing."""
    random = np.random.default_rng(5)
    centers = random.normal(size=(12, DIMENSIONS))
    made: list[Document] = []
    for number, document in enumerate(posteriors(400, seed=9)):
        length = random.uniform(0.1, 3)
        vector = length * (centers[number % 12] + random.normal(size=DIMENSIONS))
        if number % 40 == 1:
            vector = made[-1].embedding
        if number % 50 == 3:
            vector = np.zeros(DIMENSIONS)
        embedding = None if number % 50 == 7 else np.asarray(vector, np.float32)
        made.append(replace(document, embedding=embedding))
    return made


@pytest.fixture(scope="module", params=sorted(SIMILARITIES))
def case(request: pytest.FixtureRequest, place) -> Iterator[NearCase]:
    location, similarity = place(), SIMILARITIES[request.param]
    is_server = location.startswith("http")
    options = {"vectors": request.param, "similarity": similarity} if is_server else {}
    if request.param == "int8_hnsw":
        options["vectors"] = request.param
    documents = _documents()  # a feature of zero is refused by none
    settings = replace(SETTINGS, embedding_dimensions=DIMENSIONS)
    with filled(location, documents, settings, **options) as store:
        yield NearCase(store, documents, f"dense-{similarity}")


def both(case: NearCase, **options: object) -> tuple[SearchResult, SearchResult]:
    """The approximate and the exact answer to a query."""
    query = Query((), strategy=case.strategy, **options)
    approximate = case.store.search(replace(query, candidates=ENOUGH))
    if case.store.location.startswith("http") or case.store.approximable() == ():
        assert approximate.exact is (case.store.approximable() == ())
    exact = case.store.search(query)
    assert exact.exact
    return approximate, exact


def queries(case: NearCase) -> list[np.ndarray]:
    return [d.embedding for d in case.documents[20:32] if d.embedding is not None]


def test_enough_candidates_give_the_exact_answer(case):
    for number, vector in enumerate(queries(case)):
        options = {"embedding": vector, "k": 20, "offset": number % 2 * 12}
        approximate, exact = both(case, **options)
        assert ranking(approximate) == ranking(exact) != []
        wanted = Query((), strategy=case.strategy, candidates=ENOUGH, **options)
        many = case.store.search_many([wanted, replace(wanted, k=3)])
        assert [ranking(result) for result in many] == [ranking(exact), ranking(exact)[:3]]


def test_conditions_and_exclusions_leave_enough(case):
    vector = queries(case)[0]
    excluded = tuple(d.id for d in case.documents[20:23])
    options = {
        "filters": parse_filters({"label": "pets", "-format": "PNG", "-score(tench)": {"gt": 0}}),
        "exclude": excluded,
    }
    approximate, exact = both(case, embedding=vector, k=30, **options)
    assert len(approximate.hits) == 30
    assert ranking(approximate) == ranking(exact)
    for hit in approximate.hits:
        assert "pets" in hit.document.labels
        assert hit.document.format != "PNG"
        assert hit.document.id not in excluded
    assert approximate.total >= 30


def test_few_candidates_still_meet_the_conditions(case):
    vector = queries(case)[0]
    filters = parse_filters({"label": "pets", "format": "PNG"})
    query = Query((), strategy=case.strategy, embedding=vector, k=10, filters=filters)
    result = case.store.search(replace(query, candidates=1))
    assert len(result.hits) == 10
    assert all(hit.document.format == "PNG" for hit in result.hits)


def test_threshold(case):
    for vector in queries(case)[:4]:
        scores = [score for score, _ in ranking(both(case, embedding=vector, k=12)[1])]
        approximate, exact = both(case, embedding=vector, k=100, min_score=scores[-1])
        assert ranking(approximate) == ranking(exact)
        assert 12 <= len(approximate.hits) <= approximate.total <= exact.total


def test_pictures_with_a_zero_feature_are_compared_too(case):
    zeros = {d.id for d in case.documents if d.embedding is not None and not d.embedding.any()}
    vector = queries(case)[0]
    approximate, _ = both(case, embedding=vector, k=400)
    found = {hit.document.id: hit.score for hit in approximate.hits}
    assert zeros <= set(found)
    assert len(found) == sum(d.embedding is not None for d in case.documents)
    assert all(
        found[key] == (0 if case.strategy != "dense-euclidean" else found[min(zeros)])
        for key in zeros
    )


def test_every_exact_comparison_works_beside_the_index_of_neighbors(case):
    vector = queries(case)[0]
    for name, comparison in COMPARISONS.items():
        result = case.store.search(Query((), strategy=name, embedding=vector, k=5))
        known = [d for d in case.documents if d.embedding is not None]
        scores = comparison.scores(vector, np.stack([d.embedding for d in known]))
        expected = sorted(scores.astype(np.float32).tolist(), reverse=True)[:5]
        assert [hit.score for hit in result.hits] == expected


def test_stored_features_come_back_as_they_were(case):
    known = {d.id: d for d in case.documents[:100]}
    for key, found in case.store.get(list(known)).items():
        if known[key].embedding is None:
            assert found.embedding is None
        else:
            np.testing.assert_array_equal(found.embedding, known[key].embedding)


def test_an_index_without_neighbors_says_how_to_make_one(place):
    query = Query((), strategy="dense-cosine", embedding=np.ones(8, np.float32), candidates=50)
    with filled(place(), []) as store:
        assert store.approximable() == ()
        if store.location.startswith("http"):
            with pytest.raises(QueryError, match=r"--vectors int8_hnsw --similarity cosine"):
                store.search(query)
        else:
            result = store.search(query)
            assert result.exact
            assert "no approximate" in result.means


@pytest.mark.node
def test_the_index_remembers_and_refuses_other_options(elasticsearch_url, fresh_index_name):
    location = f"{elasticsearch_url}/{fresh_index_name}"
    with_neighbors = open_store(location, vectors="int8_hnsw", similarity="euclidean")
    with_neighbors.create(SETTINGS)
    opened = open_store(location)
    assert opened.approximable() == ("dense-euclidean",)
    query = Query((), strategy="dense-dot", embedding=np.ones(8, np.float32), candidates=50)
    with pytest.raises(QueryError, match="has one for dense-euclidean only"):
        opened.search(query)
    with pytest.raises(ConfigurationError, match="was made with vectors='int8_hnsw'"):
        open_store(location, vectors="hnsw").settings()
    for store in (opened, with_neighbors):
        store.close()
