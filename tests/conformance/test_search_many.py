"""Many queries at once: the answers that each query alone would get."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.retrieval.conditions import parse_filters
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.queries import Query, synset_vector
from imgsearch_es.retrieval.strategies import STRATEGIES
from imgsearch_es.search.hits import Hits
from imgsearch_es.stores.base import SearchResult, Store
from imgsearch_es.stores.embedded import snapshot
from tests.conformance.collections import posteriors, ties
from tests.conformance.conftest import SETTINGS, Case, filled

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
            queries.append(Query((), embedding=document.embedding + 1, min_score=least, **options))
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


def random_queries(documents: list[Document], count: int) -> list[Query]:
    """With random weights, some of them very light, conditions, pages and documents left out."""
    random = np.random.default_rng(6)
    named = sorted({term.key for one in documents[:200] for term in one.terms})
    filters = [(), parse_filters({"format": ["PNG", "GIF"]})]
    queries = []
    for number in range(count):
        keys = random.choice(named, size=1 + number % 12, replace=False)
        weights = random.random(len(keys)) ** 8 + 1e-9
        queries.append(
            Query(
                synset_vector(Term(k, float(w)) for k, w in zip(keys, weights, strict=True)),
                k=1 + number % 30,
                offset=number % 5,
                filters=filters[number % 7 == 0],
                exclude=tuple(one.id for one in documents[number::400]) if number % 3 else (),
            )
        )
    return queries


def test_random_queries_are_numpys_before_and_after_deletions(place, monkeypatch):
    monkeypatch.setattr(
        snapshot, "_DECODED", 2000
    )  # so few that lists are forgotten and read again
    monkeypatch.setattr(snapshot, "_SCORED", 0)  # twenty queries at a time
    documents = make_documents()
    queries = random_queries(documents, 120)
    with filled(place(), documents, OWN_SETTINGS) as store:
        Case(store, documents).check(*queries)
        kept = [one for number, one in enumerate(documents) if number % 4]
        store.remove([one.id for number, one in enumerate(documents) if not number % 4])
        Case(store, kept).check(*queries[:40])
        store.finish()
        Case(store, kept).check(*queries)


def test_hits_stay_as_they_were_found_whatever_a_writer_does(place):
    documents = make_documents()
    queries = mixed(documents[:40])
    with filled(place(), documents, OWN_SETTINGS) as store:
        expected = [list(map(repr, found.hits)) for found in store.search_many(queries)]
        found, alone = store.search_many(queries), Hits(queries[0], store.search(queries[0]))
        store.remove([one.id for one in documents[::2]])
        store.write([replace(one, labels=("new",)) for one in documents[1::2]])
        store.finish()
        assert store.search_many(queries)[0].hits[0].document.labels == ("new",)
        copies = pickle.loads(pickle.dumps(found))  # noqa: S301  (our own)
        store.close()
        store.delete()
        for answers in (found, copies):
            assert [list(map(repr, one.hits)) for one in answers] == expected
        assert [one.ranking for one in found] == [one.ranking for one in copies]
        assert alone.ranking == found[0].ranking
        for hits in (pickle.loads(pickle.dumps(alone)), alone):  # noqa: S301
            assert [repr(hit.document) for hit in hits] == [
                repr(hit.document) for hit in found[0].hits
            ]
            assert hits.ranking == found[0].ranking


def test_more_than_one_request(case):
    queries = mixed(case.documents[:20]) * 12
    found = case.store.search_many(queries)
    assert len(found) == 240
    assert [essence(result) for result in found[:20]] == [essence(r) for r in found[-20:]]
