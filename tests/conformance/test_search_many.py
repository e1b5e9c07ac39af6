"""Many queries at once: the answers that each query alone would get."""

from __future__ import annotations

from dataclasses import replace

import pytest

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.retrieval.conditions import parse_filters
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.queries import Query, synset_vector
from imgsearch_es.retrieval.strategies import STRATEGIES
from imgsearch_es.stores.base import SearchResult, Store
from tests.conformance.collections import posteriors, ties
from tests.conformance.conftest import SETTINGS

pytestmark = pytest.mark.scripts

WORDS = 4
OWN_SETTINGS = SETTINGS.with_visual_words(WORDS)


def check(store: Store, queries: list[Query]) -> None:
    many = store.search_many(queries)
    assert [essence(result) for result in many] == [
        essence(store.search(query)) for query in queries
    ]


def essence(result: SearchResult) -> tuple:
    """Everything but the time it took."""
    ranked = [(hit.score, hit.document.id, hit.document.terms) for hit in result.hits]
    rest = replace(result, hits=(), took_ms=0.0)
    return ranked, rest


def make_documents() -> list[Document]:
    return posteriors(300, seed=8) + ties(900)


def mixed(documents: list[Document]) -> list[Query]:
    """Every strategy, in turn, with conditions, pages and thresholds."""
    queries = []
    for number, document in enumerate(documents):
        strategy = sorted(STRATEGIES)[number % len(STRATEGIES)]
        options = {
            "strategy": strategy,
            "visual_words": WORDS,
            "k": 1 + number % 25,
            "offset": number % 4,
            "filters": parse_filters([{}, {"format": ["PNG", "GIF"]}][number % 2]),
            "exclude": (document.id,) if number % 3 else (),
        }
        if STRATEGIES[strategy].is_dense:
            least = -20.0 if number % 2 else None
            queries.append(Query((), embedding=document.embedding + 1, threshold=least, **options))
        else:
            queries.append(Query(synset_vector(document.terms), **options))
    return queries


def test_every_strategy_mixed(case):
    check(case.store, mixed(case.documents[:150]))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_of_the_registry_is_executed(case, strategy):
    document = case.documents[0]
    options = {"embedding": document.embedding, "visual_words": WORDS}
    query = Query(synset_vector(document.terms), strategy=strategy, **options)
    result = case.store.search(query)
    assert len(result.hits) == query.k
    assert result.exact


def test_wider_windows_deep_pages_and_nothing_found_among_others(case):
    terms = synset_vector([Term("tabby", 1.0), Term("tiger_cat", 0.5)])
    nothing = Query((Term("tabby", 1.0),), filters=parse_filters({"label": "nobody's"}))
    deep = [Query(terms[:1], k=100, offset=offset) for offset in (0, 500, 9_900)]
    others = mixed(case.documents[:9])
    check(case.store, [nothing, *(Query(terms, k=k) for k in (1, 5, 40)), *others, *deep, nothing])
    assert case.store.search_many([]) == []


def test_more_than_one_request(case):
    queries = mixed(case.documents[:20]) * 12
    found = case.store.search_many(queries)
    assert len(found) == 240
    assert [essence(result) for result in found[:20]] == [essence(r) for r in found[-20:]]
