"""The background: both stores draw the same sample, and measure and keep the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest

from imgsearch_es import background
from imgsearch_es.analysis import Term
from imgsearch_es.background import Background, background_of, measure, refresh
from imgsearch_es.dense import COMPARISONS
from imgsearch_es.documents import Document
from imgsearch_es.errors import IndexNotFoundError
from imgsearch_es.hits import Hits
from imgsearch_es.paging import pages
from imgsearch_es.queries import STRATEGIES, Query, synset_vector
from imgsearch_es.scoring import FORMULAS, formula_of
from imgsearch_es.stores import open_store
from imgsearch_es.stores.base import Store
from tests.conformance.collections import DIMENSIONS, posteriors
from tests.conformance.conftest import SETTINGS, filled
from tests.conformance.reference import Reference
from tests.conformance.test_dense import expected_score


def _documents() -> list[Document]:
    random = np.random.default_rng(2)
    made = []
    for number, document in enumerate(posteriors(450, seed=12)):
        vector = random.uniform(0, 1, DIMENSIONS).astype(np.float32)
        made.append(replace(document, embedding=None if number % 40 == 3 else vector))
        if number % 60 == 7:
            made[-1] = replace(made[-1], terms=())
    return made


@dataclass(frozen=True)
class Case:
    store: Store
    documents: list[Document]
    known: Background


@pytest.fixture(scope="module")
def case(place: Callable[[], str]) -> Iterator[Case]:
    documents = _documents()
    with filled(place(), documents) as store:
        yield Case(store, documents, measure(store))


def sampled(documents: list[Document]) -> list[Document]:
    return sorted(documents, key=lambda d: d.id)[: background.SAMPLE]


def are_unrelated(one: Document, other: Document) -> bool:
    keys = [{term.key for term in d.terms} for d in (one, other)]
    best = [d.terms[0].key if d.terms else None for d in (one, other)]
    return one.id != other.id and best[0] not in keys[1] and best[1] not in keys[0]


def test_the_sample(case):
    found = case.store.sample(background.SAMPLE)
    expected = sampled(case.documents)
    assert [d.id for d in found] == [d.id for d in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.terms == other.terms
        assert (one.embedding is None) == (other.embedding is None)
        assert one.embedding is None or np.array_equal(one.embedding, other.embedding)
    assert len(case.store.sample(10_000)) == len(case.documents)


@pytest.mark.scripts
@pytest.mark.parametrize("formula", sorted(FORMULAS))
def test_formulas(case, formula):
    """Every pair's score by NumPy, from all documents' statistics."""
    sample = sampled(case.documents)
    reference = Reference(case.documents, SETTINGS.vocabulary.keys)
    strategy = "auto" if formula == "inner" else formula
    scores, of_words = [], []
    for one in filter(lambda d: d.terms, sample):
        keys = {term.key for term in one.terms}
        query = Query(synset_vector(one.terms), strategy=strategy)
        found = _score(reference, query)
        scores += [found[d.id] for d in sample if d.id in found and are_unrelated(one, d)]
        word = Query((Term(one.terms[0].key, 1.0),), strategy=strategy)
        found = _score(reference, word)
        other = [d for d in sample if d.id in found and d.terms[0].key not in keys]
        of_words += [found[d.id] for d in other]
    known = case.known
    for quantiles, expected in ((known.pictures, scores), (known.words, of_words)):
        assert len(expected) >= background.LEAST_PAIRS
        for name, value in quantiles[formula].items():
            assert value == pytest.approx(np.quantile(expected, float(name)), rel=1e-5)


def _score(reference: Reference, query: Query) -> dict[str, float]:
    if formula_of(query.strategy).name != "inner":
        return reference.score(query)
    ranked, _ = reference.rank(replace(query, k=10_000))
    return {key: score for score, key in ranked}


@pytest.mark.scripts
@pytest.mark.parametrize("strategy", sorted(COMPARISONS))
def test_comparisons(case, strategy):
    sample = sampled(case.documents)
    having = [d for d in sample if d.embedding is not None]
    expected = [
        expected_score(strategy, one.embedding, other.embedding)
        for one in having[: background.DENSE_QUERIES]
        for other in having
        if are_unrelated(one, other)
    ]
    known = case.known.pictures[strategy]
    for name, value in known.items():
        assert value == pytest.approx(np.quantile(expected, float(name)), rel=1e-5)


@pytest.mark.scripts
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_hits_of_all_formulas_are_marked(case, strategy):
    one = next(d for d in case.documents if d.terms and d.embedding is not None)
    dense = {"embedding": one.embedding} if strategy in COMPARISONS else {}
    terms = () if dense else synset_vector(one.terms)
    query = Query(terms, strategy=strategy, k=400, **dense)
    hits = Hits(query, case.store.search(query), case.store)
    limit = case.known.chance_score(query)
    assert hits.chance_score == pytest.approx(limit, rel=1e-6)
    assert [hit.is_chance for hit in hits] == [hit.score < hits.chance_score for hit in hits]
    assert hits[-1].is_chance
    if strategy != "dense-dot":
        assert not next(hit for hit in hits if hit.id == one.id).is_chance
    page = next(pages(case.store, query))
    assert [hit.is_chance for hit in page] == [hit.is_chance for hit in hits]


def test_it_is_kept_and_renewed(place: Callable[[], str]):
    made = _documents()
    location = place()
    with filled(location, made[:200]) as store:
        assert store.read_note(background.NOTE) is None
        refresh(store, 200)
        first = store.read_note(background.NOTE)
        again = open_store(location)
        assert background_of(again) == background_of(store) == measure(store)
        assert again.settings().to_dict() == SETTINGS.to_dict()
        again.close()
        store.write(made[200:300])
        store.finish()
        refresh(store, 100)
        assert store.read_note(background.NOTE) == first
        store.write(made[300:])
        store.finish()
        refresh(store, 150)
        assert store.read_note(background.NOTE) != first
        assert background_of(store).documents == 450
        store.remove([d.id for d in made[150:]])
        refresh(store, 300)
        assert background_of(store).documents == 150


def test_it_is_measured_where_none_is_kept(case):
    assert case.store.read_note(background.NOTE) is None
    assert background_of(case.store).pictures
    assert case.store.read_note(background.NOTE) is None  # searching does not write


def test_notes(place: Callable[[], str]):
    with filled(place(), []) as store:
        for text in ("one", "two \" ' \n 😀"):
            store.write_note("a", text)
            store.write_note("b", "other")
            assert store.read_note("a") == text
        assert store.read_note("b") == "other"


def test_few_pictures_say_nothing(place: Callable[[], str]):
    with filled(place(), _documents()[:4]) as store:
        known = measure(store)
        assert (known.pictures, known.words) == ({}, {})
        assert known.chance_score(Query((Term("tabby", 1.0),))) is None
    with filled(place(), []) as store:
        assert measure(store).documents == 0


def test_no_index(store: Store):
    for call in (lambda: store.sample(1), lambda: store.read_note("a")):
        with pytest.raises(IndexNotFoundError):
            call()
