"""Relevance feedback: a moved query is ranked as NumPy ranks it, round after round."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.retrieval.dense import COMPARISONS
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.feedback import ROCCHIO, Rocchio, mean_terms
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.search.hits import Hits
from tests.conformance import test_dense
from tests.conformance.collections import DIMENSIONS, KEYS, posteriors
from tests.conformance.conftest import STRATEGIES, Case, ranking
from tests.conformance.test_ranking import LAW


def make_documents() -> list[Document]:
    random = np.random.default_rng(5)
    features = random.normal(size=(500, DIMENSIONS)).astype(np.float32)  # of both signs
    documents = posteriors(500, seed=9)
    return [replace(d, embedding=f) for d, f in zip(documents, features, strict=True)]


def search(case: Case, query: Query) -> Hits:
    return Hits(query, case.store.search(query), case.store)


def check(case: Case, hits: Hits) -> None:
    expected, _ = case.reference.rank(hits.query)
    assert ranking(hits) == expected
    assert hits.exact
    for i, hit in enumerate(hits):
        assert hits.explain(i).total == hit.score


def moved_by_numpy(
    query: tuple[Term, ...], liked: list[Document], disliked: list[Document], rocchio: Rocchio
) -> dict[str, float]:
    """Equation (2) once more, as dense vectors."""

    def vector(terms: tuple[Term, ...]) -> np.ndarray:
        weights = np.zeros(len(KEYS))
        for term in terms:
            weights[KEYS.index(term.key)] = term.score
        return weights

    moved = rocchio.alpha * vector(query)
    for weight, documents in ((rocchio.beta, liked), (-rocchio.gamma, disliked)):
        if documents:
            moved += weight * np.mean([vector(d.terms) for d in documents], axis=0)
    return {KEYS[i]: moved[i] for i in np.flatnonzero(moved > 1e-30)}


numbers = st.lists(st.integers(0, 499), max_size=4, unique=True)


@LAW
@given(
    first=st.integers(0, 499),
    liked=numbers,
    disliked=numbers,
    gamma=st.sampled_from([0.0, 0.15, 2.0]),
    strategy=st.sampled_from(STRATEGIES),
)
def test_a_moved_query_is_ranked_exactly(case, first, liked, disliked, gamma, strategy):
    rocchio = Rocchio(gamma=gamma)
    good, bad = ([case.documents[i] for i in which] for which in (liked, disliked))
    query = Query(mean_terms([case.documents[first].terms]), strategy=strategy, k=30)
    expected = moved_by_numpy(query.terms, good, bad, rocchio)
    assume(any(weight > 1e-6 for weight in expected.values()))
    moved = rocchio.expand(query, good, bad)
    for term in moved.terms:
        assert term.score == pytest.approx(expected[term.key], rel=1e-5, abs=1e-7)
    assert {key for key, weight in expected.items() if weight > 1e-6} <= {
        term.key for term in moved.terms
    }
    check(case, search(case, moved))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_rounds_of_feedback(case, strategy):
    hits = search(case, Query(case.documents[0].terms, strategy=strategy, k=12))
    for _ in range(4):
        hits = hits.refine(like=[0, 3], dislike=[-1])
        check(case, hits)
    assert len(hits.query.terms) > len(case.documents[0].terms)


def test_a_query_of_many_pictures(case):
    """No synset is cut off: hundreds of terms are one query."""
    query = Query(mean_terms([d.terms for d in case.documents]), k=50)
    assert len(query.terms) > 500
    check(case, search(case, query))


@pytest.mark.scripts
@pytest.mark.parametrize("strategy", sorted(COMPARISONS.keys() - {"dense-chi2"}))
def test_deep_features_are_moved(case, strategy):
    """By all comparisons but chi-squared, of features of 0 or more: these have both signs."""
    feature = case.documents[7].embedding
    hits = search(case, Query((), strategy=strategy, embedding=feature, k=20))
    by_id = {document.id: document for document in case.documents}
    for _ in range(3):
        good, bad = ([by_id[hits[i].id].embedding for i in which] for which in ((1, 2), (19,)))
        expected = ROCCHIO.embedding(hits.query.embedding, good, bad)
        hits = hits.refine(like=[1, 2], dislike=19)
        assert np.array_equal(hits.query.embedding, expected)
        test_dense.check(case, hits.query)
