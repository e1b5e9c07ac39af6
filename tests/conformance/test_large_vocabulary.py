"""More classes than Elasticsearch has fields for: WordNet's nouns, the same on both stores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.errors import QueryError
from imgsearch_es.retrieval.conditions import parse_filters
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.language import parse_words
from imgsearch_es.retrieval.queries import Query, Selection
from imgsearch_es.retrieval.strategies import Fusion, Part
from imgsearch_es.search.hits import Hits, pages
from imgsearch_es.stores.base import known_settings
from imgsearch_es.vocabulary.synsets import Vocabulary, from_wnids
from imgsearch_es.vocabulary.wordnet import nouns
from tests.conformance.collections import document
from tests.conformance.conftest import SETTINGS, ranking
from tests.conformance.reference import Reference

VOCABULARY: Vocabulary = from_wnids([*nouns()][::24])
"""3,422 classes, of which many stand above others."""
OWN_SETTINGS = replace(SETTINGS, vocabulary=VOCABULARY, synset_fields=False)
TERMS = tuple(Term(key, 2.0**-i) for i, key in enumerate(VOCABULARY.keys[:8]))
ONLY_FILES = r"more than 1,000 classes has none"


def make_documents() -> list[Document]:
    """Fifty terms each; those of the query tie, or nearly do, in a third of them."""
    random, keys = np.random.default_rng(4), VOCABULARY.keys
    made = []
    for number in range(400):
        some = random.choice(len(keys), 50, replace=False)
        scores = random.dirichlet(np.full(50, 0.3)).astype(np.float32)
        terms = {keys[i]: float(s) for i, s in zip(some, scores, strict=True) if s > 1e-30}
        if number % 3:
            near = np.float32(0.25) * (1 + np.float32(number % 7) / 4096)
            terms |= {TERMS[number % 4].key: float(near)}
        made.append(document(f"w/{number}.jpg", [*terms.items()], number=number))
    return made


@pytest.fixture(scope="module")
def reference(case) -> Reference:
    return Reference(case.documents, VOCABULARY.keys)


def test_the_ranking_is_numpys_with_pages_and_explanations(case, reference):
    words = parse_words("animal -dog label:pets", VOCABULARY, trace=0.0)
    asked = [
        Query(TERMS, k=20),
        Query(TERMS, k=7, offset=5, filters=parse_filters({"width": {"gte": 120}})),
        Query(words.terms, filters=words.signs + words.filters, k=50),
        Query(TERMS, k=300, min_score=0.2),
    ]
    assert len(words.terms) > 100
    for query in asked:
        expected, total = reference.rank(query)
        hits = Hits(query, case.store.search(query))
        assert ranking(hits) == expected
        assert hits.exact
        assert hits.total == total
        assert [hits.explain(i).total for i in range(len(hits))] == [hit.score for hit in hits]
    assert [ranking(found) for found in map(case.store.search, asked)] == [
        ranking(found) for found in case.store.search_many(asked)
    ]
    for least in (None, 0.12):
        found = list(pages(case.store, Query(TERMS, k=90, min_score=least)))
        everything = reference.rank(Query(TERMS, k=1000, min_score=least))[0]
        assert [pair for page in found for pair in ranking(page)] == everything
        assert (found[-1].total, found[-1].total_is_exact) == (len(everything), True)


@pytest.mark.scripts
def test_formulas_without_a_script_and_fusion(case, reference):
    tfidf = Query(TERMS, strategy="tfidf", k=10)
    case.check_scores(tfidf, reference.score(tfidf))
    vector = case.documents[3].embedding
    fusion = Fusion({"image": 1, "dense-cosine": 2})
    parts = (Part("image", 1, "auto", TERMS), Part("dense-cosine", 2, "dense-cosine", ()))
    hits = case.store.search(Query(TERMS, fusion=fusion, parts=parts, embedding=vector))
    assert hits.exact
    assert len(hits.hits) == 10


def test_what_reads_a_field_of_a_synset_is_refused_on_elasticsearch(case):
    key = TERMS[0].key
    condition = Selection(filters=parse_filters({f"score({key})": {"gt": 0.1}}, VOCABULARY))
    asks = [
        *(lambda s=s: case.store.search(Query(TERMS, strategy=s)) for s in ("script", "bm25")),
        lambda: case.store.facets(condition, ["label"], 3),
    ]
    for ask in asks:
        if case.store.location.startswith("http"):
            with pytest.raises(QueryError, match=ONLY_FILES):
                ask()
        else:
            assert ask()


def test_documents_come_back_as_they_were_and_the_index_is_whole(case):
    stored = case.store.get([one.id for one in case.documents[:9]])
    assert [stored[one.id].checksum for one in case.documents[:9]] == [
        one.checksum for one in case.documents[:9]
    ]
    assert case.store.glance() == []
    assert not [found for found in case.store.inspect() if found.harms]
    settings = known_settings(case.store)
    assert settings.vocabulary == VOCABULARY
    assert not settings.synset_fields
    assert len(case.store.stats()["synsets"]) == 10
    if case.store.location.startswith("http"):
        index = next(iter(case.store.client.indices.get(index=case.store._name).values()))
        assert len(index["mappings"]["properties"]) < 40
        sources = case.store.client.search(index=case.store._name, size=1)["hits"]["hits"]
        assert "synset" not in sources[0]["_source"]
