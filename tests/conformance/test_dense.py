"""Deep features: both stores give NumPy's scores, order and total, and honor min_score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsearch_es.errors import QueryError
from imgsearch_es.retrieval.conditions import parse_filters
from imgsearch_es.retrieval.dense import COMPARISONS
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.queries import Query
from tests.conformance.collections import DIMENSIONS, posteriors, rectified
from tests.conformance.conftest import Case, filled
from tests.conformance.reference import having
from tests.conformance.test_ranking import LAW

pytestmark = pytest.mark.scripts


def make_documents() -> list[Document]:
    return rectified(posteriors(600, seed=6), seed=11)


def expected_score(strategy: str, q: np.ndarray, d: np.ndarray) -> float:
    """The formulas once more, one pair at a time, as the definitions read."""
    q, d = q.astype(float), d.astype(float)
    if strategy == "dense-cosine":
        norms = np.sqrt((q * q).sum()) * np.sqrt((d * d).sum())
        return float((q * d).sum() / norms) if norms else 0.0
    return {
        "dense-dot": lambda: float(sum(a * b for a, b in zip(q, d, strict=True))),
        "dense-euclidean": lambda: -float(np.linalg.norm(q - d)),
        "dense-manhattan": lambda: -float(sum(abs(q - d))),
        "dense-chi2": lambda: -0.5 * float(np.sum((q - d) ** 2 / (q + d + 1e-10))),
    }[strategy]()


def check(case: Case, query: Query, is_wanted: Callable[[Document], bool] = bool) -> None:
    expected = {
        d.id: expected_score(query.strategy, query.embedding, d.embedding)
        for d in case.documents
        if d.embedding is not None and is_wanted(d)
    }
    if query.min_score is not None:
        expected = {k: v for k, v in expected.items() if np.float32(v) >= query.min_score}
    case.check_scores(query, expected)


vectors = st.lists(st.floats(0, 4, width=32), min_size=DIMENSIONS, max_size=DIMENSIONS).filter(
    lambda values: sum(values) > 1e-3
)


@LAW
@given(
    vector=vectors,
    strategy=st.sampled_from(sorted(COMPARISONS)),
    k=st.integers(1, 60),
    offset=st.integers(0, 30),
)
def test_every_comparison_scores_as_numpy(case, vector, strategy, k, offset):
    embedding = np.array(vector, dtype=np.float32)
    check(case, Query((), strategy=strategy, embedding=embedding, k=k, offset=offset))


def test_the_cosine_of_very_small_features(place):
    """Their squares are 0 in float32; the feature that is zero has the cosine 0."""
    vectors = np.random.default_rng(4).normal(0, 1e-25, (60, DIMENSIONS)).astype(np.float32)
    vectors[0] = 0
    documents = [
        replace(one, embedding=vector) for one, vector in zip(posteriors(60), vectors, strict=True)
    ]
    with filled(place(), documents) as store:
        query = Query((), strategy="dense-cosine", embedding=vectors[2], k=3)
        check(Case(store, documents), query)


@pytest.mark.parametrize("strategy", sorted(COMPARISONS.keys() - {"dense-dot"}))
def test_a_stored_picture_and_its_double_come_first(case, strategy):
    """By all comparisons but the inner product, which need not be largest with itself."""
    for document in case.documents[:16]:
        if document.embedding is None or not document.embedding.any():
            continue
        query = Query((), strategy=strategy, embedding=document.embedding, k=50)
        check(case, query)
        doubles = {
            d.id
            for d in case.documents
            if d.embedding is not None and np.array_equal(d.embedding, document.embedding)
        }
        hits = case.store.search(query).hits
        assert doubles <= {hit.document.id for hit in hits if hit.score == hits[0].score}


@pytest.mark.parametrize(
    ("strategy", "min_score"),
    [("dense-cosine", 0.65), ("dense-euclidean", -1.5), ("dense-chi2", -0.5), ("dense-dot", 3.0)],
)
def test_min_score(case, strategy, min_score):
    for document in case.documents[10:14]:
        options = {"strategy": strategy, "embedding": document.embedding, "k": 500}
        check(case, Query((), min_score=min_score, **options))


def test_filters(case):
    options = {"strategy": "dense-cosine", "embedding": case.documents[0].embedding, "k": 400}
    filters = parse_filters({"label": "pets", "width": {"lt": 130}})
    excluded = case.documents[0].id
    check(
        case,
        Query(
            (), filters=filters + having(["tench"], negated=True), exclude=(excluded,), **options
        ),
        lambda d: (
            "pets" in d.labels
            and d.width < 130
            and d.id != excluded
            and all(term.key != "tench" for term in d.terms)
        ),
    )


def test_another_length_is_an_error(case):
    wrong = Query((), strategy="dense-cosine", embedding=np.ones(DIMENSIONS + 1, np.float32))
    right = replace(wrong, embedding=np.ones(DIMENSIONS, np.float32))
    for ask in (lambda: case.store.search(wrong), lambda: case.store.search_many([right, wrong])):
        with pytest.raises(QueryError, match="dimensions"):
            ask()


@pytest.mark.parametrize("embedding", [None, np.zeros(DIMENSIONS), np.full(DIMENSIONS, np.nan)])
def test_no_usable_feature(embedding):
    with pytest.raises(QueryError, match="feature"):
        Query((), strategy="dense-cosine", embedding=embedding)
