"""Fusion: both stores give NumPy's scores, order and total, by weighted sums and by ranks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.errors import QueryError
from imgsearch_es.retrieval.conditions import parse_filters
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.queries import Query, fused_terms, synset_vector
from imgsearch_es.retrieval.strategies import DISTANCES, Fusion
from imgsearch_es.search.hits import Hits
from tests.conformance.collections import DIMENSIONS, KEYS, posteriors, rectified, ties
from tests.conformance.collections import document as one_document
from tests.conformance.conftest import INNER, SETTINGS, Case, case_of, filled
from tests.conformance.reference import _is_wanted, having
from tests.conformance.test_dense import expected_score
from tests.conformance.test_ranking import LAW, conditions
from tests.conformance.test_visual_words import score

pytestmark = pytest.mark.scripts

SPARSE = ("image", "words", "auto", "tfidf", "cosine", "sqrt", "bm25")
DENSE = ("dense-cosine", "dense-dot", *DISTANCES)
WORDS = 4
OWN_SETTINGS = SETTINGS.with_visual_words(WORDS)


def check(case: Case, query: Query, tolerance: float = 2e-6) -> Hits:
    return case.check_scores(query, expected_of(case, query), tolerance, tolerance)


def expected_of(case: Case, query: Query) -> dict[str, float]:
    """The definitions of ``imgsearch_es.retrieval.strategies``, one document at a time."""
    parts = [part_scores(case, query, i) for i in range(len(query.parts))]
    wanted = [d.id for d in case.documents if _is_wanted(d, query)]
    weights = [np.float32(part.weight) for part in query.parts]
    if query.fusion.method == "rrf":
        return _by_ranks(query.fusion, weights, parts, set(wanted))
    must = [i for i, part in enumerate(query.parts) if part.strategy in DISTANCES]
    return {
        key: float(
            sum(float(w) * scores.get(key, 0.0) for w, scores in zip(weights, parts, strict=True))
        )
        for key in wanted
        if any(key in scores for scores in parts) and all(key in parts[i] for i in must)
    }


def part_scores(case: Case, query: Query, i: int) -> dict[str, float]:
    """Scores of all documents that have a part, as float32 numbers, by id."""
    part = query.parts[i]
    if part.strategy in DENSE:
        return {
            d.id: float(np.float32(expected_score(part.strategy, query.embedding, d.embedding)))
            for d in case.documents
            if d.embedding is not None
        }
    if part.strategy == "visual-words":
        known = {d.id: d.embedding for d in case.documents if d.embedding is not None}
        scores = {key: score(query.embedding, one, WORDS) for key, one in known.items()}
        return {key: value for key, value in scores.items() if value > 0}
    if part.strategy == "auto":
        whole = Query(part.terms, k=10_000)
        return {key: score for score, key in case.reference.rank(whole)[0]}
    found = case.reference.score(Query(part.terms, strategy=part.strategy))
    return {key: float(np.float32(score)) for key, score in found.items()}


def _by_ranks(fusion: Fusion, weights, parts, wanted: set[str]) -> dict[str, float]:
    fused: dict[str, float] = {}
    for weight, scores in zip(weights, parts, strict=True):
        order = sorted((k for k in scores if k in wanted), key=lambda k: (-scores[k], k))
        for rank, key in enumerate(order[: fusion.window], start=1):
            fused[key] = fused.get(key, 0.0) + float(weight) / (fusion.rank_constant + rank)
    return fused


def fused(
    weights: Mapping[str, float],
    picture: Document,
    words: Mapping[str, float],
    *,
    method: str = "sum",
    constant: int = 60,
    window: int = 100,
    **options,
) -> Query:
    """A query as ``ImageIndex.query`` builds it."""
    fusion = Fusion(weights, method, constant, window)
    named = synset_vector(Term(key, weight) for key, weight in words.items())
    shown = picture.terms
    if not {"words", *SPARSE[2:]} & set(weights):
        named = ()
    if set(weights) == {"words"}:
        shown = ()
    parts = fusion.parts(shown, named, synset_vector(shown, named))
    embedding = picture.embedding if fusion.has_features else None
    options |= {"fusion": fusion, "parts": parts, "embedding": embedding, "visual_words": WORDS}
    return Query(fused_terms(parts), **options)


def make_documents() -> list[Document]:
    """Some have no deep feature, some no synset."""
    made = rectified(posteriors(600, seed=9), seed=5)
    made[9::20] = [replace(one, terms=()) for one in made[9::20]]
    made[7::20] = [replace(one, embedding=None) for one in made[7::20]]
    return made


@pytest.fixture(scope="module")
def tied(place) -> Iterator[Case]:
    vectors = np.eye(DIMENSIONS, dtype=np.float32)
    made = [replace(d, embedding=vectors[number % 2]) for number, d in enumerate(ties(600))]
    with case_of(place(), made) as case:
        yield case


weights = st.dictionaries(
    st.sampled_from((*SPARSE, *DENSE, "visual-words")),
    st.floats(0.015625, 10, width=32),
    min_size=1,
    max_size=4,
)
words = st.dictionaries(
    st.sampled_from(KEYS[:60]), st.floats(2.0**-20, 1, width=32), min_size=1, max_size=5
)


@LAW
@given(
    weights=weights,
    picture=st.integers(0, 599).filter(lambda n: n % 20 not in (7, 9) and n % 50 not in (3, 7)),
    words=words,
    where=conditions,
    k=st.integers(1, 40),
    offset=st.integers(0, 30),
    without=st.lists(st.sampled_from(KEYS[:40]), max_size=3),
)
def test_weighted_sums(case, weights, picture, words, where, k, offset, without):
    document = case.documents[picture]
    conditions = {
        "filters": parse_filters(where) + having(without, negated=True),
        "exclude": (document.id,),
    }
    check(case, fused(weights, document, words, k=k, offset=offset, **conditions))


@LAW
@given(
    weights=st.dictionaries(
        st.sampled_from(["image", "words", "auto"]), st.floats(0.015625, 10, width=32), min_size=1
    ),
    picture=st.sampled_from([0, 1, 2, 4, 5]),
    words=words,
    k=st.integers(1, 60),
)
def test_sums_of_formula_1_are_exact_to_the_last_bit(case, weights, picture, words, k):
    query = fused(weights, case.documents[picture], words, k=k)
    rounded = {key: np.float32(score) for key, score in expected_of(case, query).items()}
    best = sorted(rounded.items(), key=lambda item: (-item[1], item[0]))[:k]
    found = case.store.search(query).hits
    assert [(hit.document.id, hit.score) for hit in found] == best


def test_a_sum_of_vectors_is_formula_1(case):
    """Picture and words with weights are one vector, to the last bit but the parts' rounding."""
    query = fused({"image": 2, "words": 0.5}, case.documents[0], {"tench": 1.0}, k=30)
    hits = check(case, query)
    one = case.store.search(Query(query.terms, k=30)).hits
    assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in one], rel=1e-6)


@pytest.mark.parametrize("strategy", DISTANCES)
def test_by_a_distance_a_missing_feature_is_no_hit(case, strategy):
    query = fused({"image": 1, strategy: 1}, case.documents[0], {}, k=600)
    hits = check(case, query)
    assert len(hits) == sum(d.embedding is not None for d in case.documents)


def test_by_a_similarity_a_missing_feature_adds_nothing(case):
    query = fused({"image": 1, "dense-cosine": 0.5}, case.documents[0], {}, k=600)
    hits = check(case, query)
    lacking = {d.id for d in case.documents if d.embedding is None}
    found = [hit for hit in hits if hit.id in lacking]
    assert found
    assert all(hit.parts[1].score is None and hit.parts[1].contribution == 0 for hit in found)


@settings(LAW, max_examples=25)
@given(
    weights=st.dictionaries(
        st.sampled_from(["image", "words", "sqrt", "dense-cosine", "dense-euclidean"]),
        st.floats(0.25, 4, width=32),
        min_size=1,
        max_size=3,
    ),
    word=st.sampled_from(["tabby", "tiger_cat", "Egyptian_cat"]),
    k=st.integers(1, 300),
)
def test_hundreds_of_ties_are_broken_by_id(tied, weights, word, k):
    check(tied, fused(weights, tied.documents[2], {word: 1.0}, k=k))


@LAW
@given(
    weights=st.dictionaries(
        st.sampled_from(SPARSE), st.sampled_from([1e-6, 1.0, 1e6]), min_size=1, max_size=3
    ),
    words=st.dictionaries(
        st.sampled_from(KEYS), st.floats(2.0**-100, 2.0**20, width=32), min_size=1, max_size=8
    ),
)
def test_weights_of_any_size(extreme, weights, words):
    check(extreme, fused(weights, extreme.documents[20], words, k=50), tolerance=1e-5)


def test_summands_are_added_in_the_order_of_the_query(place):
    """The last two are lost one by one; added first they would tip the score to the next number."""
    words = {"tabby": 1.0, "lynx": 0.5, "beagle": 0.25, "tench": 0.125}
    products = dict(zip(words, (1.0, 2.0**-24, 2.0**-53, 2.0**-53), strict=True))
    found = one_document("a.jpg", [(key, products[key] / words[key]) for key in words])
    whole = fused({"words": 1.0}, found, words)
    singles = [replace(whole, fusion=None, parts=(), strategy=name) for name in INNER]
    with filled(place(), [found]) as store:
        for query in (whole, *singles):
            hits = Hits(query, store.search(query))
            assert (hits[0].score, hits.explain(0).total) == (1.0, 1.0)


def test_a_picture_whose_products_vanish_is_not_counted(extreme):
    """A picture has tabby only, with 2^-126; the window is too small to hold all that match."""
    words = {**dict.fromkeys(KEYS[:20], 1.0), "tabby": 2.0**-30}
    check(extreme, fused({"words": 1.0}, extreme.documents[0], words, k=3))


@LAW
@given(
    weights=st.dictionaries(
        st.sampled_from(["image", "words", "auto", "dense-cosine", "visual-words"]),
        st.floats(0.015625, 10, width=32),
        min_size=1,
        max_size=3,
    ),
    picture=st.sampled_from([0, 1, 2, 4, 5]),
    words=words,
    where=conditions,
    k=st.integers(1, 20),
    offset=st.integers(0, 20),
    constant=st.integers(1, 100),
    window=st.integers(40, 200),
)
def test_ranks(case, weights, picture, words, where, k, offset, constant, window):
    options = {"method": "rrf", "constant": constant, "window": window}
    query = fused(weights, case.documents[picture], words, k=k, offset=offset, **options)
    check(case, replace(query, filters=parse_filters(where)))


def test_many_at_once(case):
    alone = [
        fused({"image": 1, "dense-cosine": 2}, case.documents[0], {}),
        Query((Term("tench", 1.0),)),
        fused({"words": 1, "sqrt": 1}, case.documents[1], {"tench": 1.0}, method="rrf"),
        fused({"bm25": 1, "tfidf": 0.5}, case.documents[2], {"tench": 1.0}, offset=3),
        fused({"image": 1, "dense-euclidean": 1}, case.documents[4], {}, method="rrf"),
    ]
    together = case.store.search_many(alone)
    for query, found in zip(alone, together, strict=True):
        one = case.store.search(query)
        assert [(h.document.id, h.score, h.parts) for h in found.hits] == [
            (h.document.id, h.score, h.parts) for h in one.hits
        ]
        assert (found.total, found.exact, found.means) == (one.total, one.exact, one.means)


@pytest.mark.parametrize("strategy", [None, "dense-cosine", "dense-chi2"])
def test_facets_count_what_has_a_part(case, strategy):
    weights = {"image": 1, **({strategy: 1} if strategy else {})}
    query = fused(weights, case.documents[0], {}, k=600, filters=parse_filters({"format": "PNG"}))
    expected = expected_of(case, query)
    (counted,) = case.store.facets(query, ["format"], 5)["format"]
    assert counted == {"value": "PNG", "count": len(expected)}


@pytest.mark.parametrize("method", ["sum", "rrf"])
def test_nothing_found_and_another_length(case, method):
    query = fused({"image": 1, "dense-cosine": 1}, case.documents[0], {}, method=method)
    nothing = replace(query, filters=parse_filters({"label": "nobody's"}))
    assert len(check(case, nothing)) == 0
    with pytest.raises(QueryError, match="dimensions"):
        case.store.search(replace(query, embedding=np.ones(DIMENSIONS + 1, np.float32)))
