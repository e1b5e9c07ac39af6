"""TF-IDF, cosine, square roots and BM25: equal to NumPy to 1e-6, and explained to the last part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.errors import QueryError
from imgsearch_es.retrieval.conditions import parse_filters
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.language import parse_words
from imgsearch_es.retrieval.queries import Query, synset_vector
from imgsearch_es.retrieval.scoring import FORMULAS
from imgsearch_es.search.hits import Hits
from imgsearch_es.vocabulary.synsets import imagenet
from tests.conformance.collections import KEYS, extremes, posteriors
from tests.conformance.conftest import INNER, Case
from tests.conformance.test_ranking import LAW

pytestmark = pytest.mark.scripts

OTHERS = sorted(set(FORMULAS) - {"inner"})


def make_documents() -> list[Document]:
    return posteriors(800, seed=4) + extremes()


def check(case: Case, query: Query) -> None:
    """Every score is NumPy's to 1e-6, and none is missing."""
    expected = case.reference.score(query)
    if query.filters:
        plain = replace(query, strategy="auto", parameters={}, k=10_000, min_score=None)
        allowed = {key for _, key in case.reference.rank(plain)[0]}
        expected = {key: score for key, score in expected.items() if key in allowed}
    hits = case.check_scores(query, expected, least=1e-12)
    assert hits.total == len(expected)


@LAW
@given(
    vector=st.dictionaries(
        st.sampled_from(KEYS[:60]), st.floats(2.0**-20, 1, width=32), min_size=1, max_size=12
    ),
    strategy=st.sampled_from(OTHERS),
    where=st.sampled_from([{}, {"label": "pets"}, {"width": {"lt": 120}}]),
    k=st.integers(1, 50),
    least=st.none() | st.floats(1e-3, 1),
)
def test_every_formula_scores_as_numpy(case, vector, strategy, where, k, least):
    terms = synset_vector(Term(key, weight) for key, weight in vector.items())
    query = Query(terms, strategy=strategy, filters=parse_filters(where), k=k)
    if least is not None:  # between two scores, which NumPy's may differ from by the last bits
        scores = np.unique(np.float32([*case.reference.score(query).values()]))
        gaps = np.flatnonzero(np.diff(scores) > 1e-4 * scores[1:])
        if not len(gaps):
            return
        i = gaps[int(least * (len(gaps) - 1))]
        query = replace(query, min_score=float(scores[i] + scores[i + 1]) / 2)
    check(case, query)


@LAW
@given(k1=st.floats(0, 5), b=st.floats(0, 1))
def test_bm25_takes_its_parameters(case, k1, b):
    words = parse_words("dog", imagenet())
    check(case, Query(words.terms, strategy="bm25", parameters={"k1": k1, "b": b}, k=30))


@pytest.mark.parametrize("strategy", OTHERS)
def test_words(case, strategy):
    for text in ("dog", "tabby cat", '"golden retriever"'):
        check(case, Query(parse_words(text, imagenet()).terms, strategy=strategy, k=30))


@pytest.mark.parametrize("strategy", [*INNER, *OTHERS])
def test_the_summands_add_up_to_the_score(case, strategy):
    for document in case.documents[:20]:
        query = Query(synset_vector(document.terms), strategy=strategy)
        hits = Hits(query, case.store.search(query))
        assert hits
        for i, hit in enumerate(hits):
            explanation = hits.explain(i)
            assert explanation.total == hit.score
            shared = {term.key for term in hit.synsets} & {term.key for term in query.terms}
            assert {row.key for row in explanation.rows} == shared


def test_statistics(case):
    keys = ["tench", "goldfish", "tabby", "jack-o'-lantern"]
    ours, expected = case.store.statistics(keys), case.reference.statistics(keys)
    assert ours.documents == expected.documents
    assert ours.average_length == np.float32(expected.average_length)
    assert {key: ours.frequencies.get(key, 0) for key in keys} == dict(expected.frequencies)


def test_wrong_parameters():
    wrong = [("bm25", one) for one in ({"k2": 1}, {"b": -1}, {"b": 1.1}, {"k1": 1e308})]
    for strategy, parameters in [*wrong, ("cosine", {"k1": 1})]:
        with pytest.raises(QueryError, match=strategy):
            Query((Term("tabby", 1.0),), strategy=strategy, parameters=parameters)
