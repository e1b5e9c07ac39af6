"""Formula (1): the same ranking, score and total from NumPy, DuckDB and Elasticsearch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.retrieval.conditions import parse_filters
from imgsearch_es.retrieval.language import parse_words
from imgsearch_es.retrieval.queries import Query, synset_vector
from imgsearch_es.vocabulary.synsets import imagenet
from tests.conformance.collections import KEYS, posteriors, ties
from tests.conformance.conftest import STRATEGIES, Case, case_of
from tests.conformance.reference import having

LAW = settings(
    max_examples=30, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def realistic(place) -> Iterator[Case]:
    with case_of(place(), posteriors()) as made:
        yield made


@pytest.fixture(scope="module")
def tied(place) -> Iterator[Case]:
    with case_of(place(), ties()) as made:
        yield made


weights = st.floats(min_value=2.0**-100, max_value=2.0**100, width=32)
vectors = st.dictionaries(st.sampled_from(KEYS), weights, min_size=1, max_size=30)
small_vectors = st.dictionaries(
    st.sampled_from(KEYS[:60]), st.floats(2.0**-20, 1, width=32), min_size=1, max_size=12
)
strategies = st.sampled_from(sorted(STRATEGIES))
conditions = st.sampled_from(
    [
        {},
        {"label": "pets"},
        {"label": ["indoor", "late night"], "format": "PNG"},
        {"width": {"gte": 110, "lt": 140}},
        {"bytes": {"gt": 1200}, "filename": {"wildcard": "p1*"}},
        {"indexed_at": {"lte": "2026-01-02T12:00:00"}},
        {"metadata.camera": "Z 5"},
        {"metadata.tags": "t1", "metadata.year": 2003},
        {"metadata.place.indoor": True},
        {"top_score": {"gte": 0.5}},
        {"top_synset": {"wildcard": "t*"}},
        {"synsets": ["tench", "goldfish", "no such synset"]},
        {"uri": {"wildcard": "/photos/3/*"}},
        {"-label": "pets", "format": "jpg"},
        {"-filename": {"wildcard": "p?1*"}, "-width": {"gte": 120}},
        {"indexed_at": ["2026-01-02", "2026-01-03T05:00:00"]},
        {"-indexed_at": {"gt": "2026-01-01", "lte": "2026-01-03T02:00:00+02:00"}},
        {"-metadata.place.indoor": True, "-metadata.tags": ["t1", "t2"]},
        {"metadata.tags.0": ["t0", "t1"]},
        {"metadata.people.name": "p1"},
        {"-metadata.people.name": ["p1", "p2"], "metadata.people.seen.at.0": 0},
        {"metadata.people.0.name": "p1"},
        {"metadata.people.seen.at": 1},
        {"-top_score": {"lt": 0.4}},
        {"-synsets": ["tench", "goldfish"], "-top_synset": {"wildcard": "*n*"}},
    ]
)


def _query(vector: dict[str, float], **options) -> Query:
    terms = synset_vector(Term(key, weight) for key, weight in vector.items())
    return Query(terms, **options)


@LAW
@given(
    vector=small_vectors,
    strategy=strategies,
    where=conditions,
    k=st.integers(1, 40),
    offset=st.integers(0, 30),
    without=st.lists(st.sampled_from(KEYS[:40]), max_size=3),
    least=st.none() | st.floats(-1, 1, width=32) | st.integers(0, 60),
)
def test_every_strategy_ranks_as_numpy(
    realistic, vector, strategy, where, k, offset, without, least
):
    if isinstance(least, int):  # the very score of a hit
        ranking, total = realistic.reference.rank(_query(vector, k=61))
        least = ranking[min(least, total - 1)][0] if total else None
    options = {"strategy": strategy, "filters": parse_filters(where), "k": k, "offset": offset}
    options["filters"] += having(without, negated=True)
    realistic.check(_query(vector, min_score=least, **options))


bounds = st.sampled_from([0.0, 1e-30, 0.1, 0.25, 1.0, -1.0, 2]) | st.floats(0, 1, width=32)
score_conditions = st.dictionaries(
    st.builds("{}score({})".format, st.sampled_from(["", "-"]), st.sampled_from(KEYS[:30])),
    st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), bounds, min_size=1, max_size=2),
    max_size=3,
)


@LAW
@given(
    vector=small_vectors,
    strategy=strategies,
    groups=st.lists(st.lists(st.sampled_from(KEYS[:90]), min_size=20, max_size=40), max_size=2),
    least=st.sampled_from([0.0, 0.01, 0.1, 0.3]),
    negated=st.booleans(),
    where=score_conditions,
)
def test_scores_of_words_select_as_numpy(
    realistic, vector, strategy, groups, least, negated, where
):
    filters = parse_filters(where, imagenet())
    filters += sum((having(keys, least, negated=negated) for keys in groups), ())
    realistic.check(_query(vector, strategy=strategy, filters=filters, k=40))


def test_a_score_is_compared_as_it_is_stored(realistic):
    """Every document's own score is a bound that tells it from the next float32 number."""
    queries = []
    for document in realistic.documents[:20]:
        key, score = document.terms[0].key, document.terms[0].score
        for operator in ("gt", "gte", "lt", "lte"):
            for field in (f"score({key})", "top_score"):
                filters = parse_filters({field: {operator: score}})
                queries.append(_query({key: 1.0}, filters=filters, k=50))
    realistic.check(*queries)


@LAW
@given(vector=vectors, strategy=strategies)
def test_weights_of_any_size(extreme, vector, strategy):
    extreme.check(_query(vector, strategy=strategy, k=50))


def test_a_picture_whose_products_vanish_is_not_counted(extreme):
    """A picture has tabby only, with 2^-126; the window is too small to hold all that match."""
    query = _query({**dict.fromkeys(KEYS[:20], 1.0), "tabby": 2.0**-30}, k=3)
    extreme.check(query)
    assert extreme.store.search_many([query])[0].total == extreme.store.search(query).total


@LAW
@given(
    vector=st.dictionaries(
        st.sampled_from(["tabby", "tiger_cat", "Egyptian_cat"]), weights, min_size=1
    ),
    strategy=strategies,
    k=st.integers(1, 300),
)
def test_hundreds_of_ties_are_broken_by_id(tied, vector, strategy, k):
    tied.check(_query(vector, strategy=strategy, k=k))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_stored_picture_as_the_query(realistic, strategy):
    documents = realistic.documents[:25]
    queries = [Query(synset_vector(each.terms), strategy=strategy) for each in documents]
    without = [replace(q, exclude=(each.id,)) for q, each in zip(queries, documents, strict=True)]
    realistic.check(*queries, *without)


LINES = [
    "+cat dog^2",
    "tabby^0.5 cat^3 +carnivore -dog",
    '"golden retriever"^2.5 synset:dog wnid:n02123045^4 -synset:poodle',
    "dog +animal +synset:terrier",
    "dog label:pets -format:png width:>=110 width:<140",
    "dog filename:p1* -filename:*7.jpg",
    'cat vehicle label:"late night",indoor -metadata.camera:X100',
    "fish score(tench)>0.02 -score(tiger_shark)>=0.2",
    "dog score(beagle)<0.5",
    "cow toilet unheard-of -poodle",
    "dog NOT cat score(animal)>=0.01",
    "vehicle indexed_at:>=2026-01-02 -indexed_at:2026-01-03 -bytes:>2000",
]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("line", LINES)
def test_lines_of_the_query_language(realistic, strategy, line):
    words = parse_words(line, imagenet())
    query = Query(words.terms, strategy=strategy, k=30, filters=words.signs + words.filters)
    realistic.check(query)
    found = realistic.store.search(replace(query, k=10_000)).hits
    assert found
    assert realistic.store.matching(query) == sorted(hit.document.id for hit in found)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_more_wanted_than_there_are(tied, strategy):
    wanted = ({"k": 10_000}, {"k": 9_000, "offset": 1_000})
    tied.check(*(_query({"tabby": 1.0}, strategy=strategy, **options) for options in wanted))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_apostrophes_and_hyphens_in_synsets(extreme, strategy):
    keys = ("jack-o'-lantern", "potter's_wheel", "black-and-tan_coonhound")
    queries = [_query({key: 0.5}, strategy=strategy) for key in keys]
    extreme.check(*queries)
    for key, result in zip(keys, extreme.store.search_many(queries), strict=True):
        assert result.hits[0].document.filename == f"{key}.jpg"


@pytest.mark.scripts
def test_two_hundred_different_queries_in_a_row(realistic):
    """The paper's script is compiled for each query, and refused at the 151st in five minutes."""
    random, queries = np.random.default_rng(5), []
    for _ in range(200):
        keys = random.choice(KEYS[:200], size=5, replace=False)
        vector = {str(key): float(np.float32(random.random() + 0.01)) for key in keys}
        queries.append(_query(vector, strategy="script"))
    realistic.check(*queries)


def test_no_picture_has_the_synset(tied):
    result = tied.store.search(_query({"goldfish": 1.0}))
    assert (tuple(result.hits), result.total, result.exact) == ((), 0, True)


@pytest.mark.parametrize("sign", ["", "-"])
def test_metadata_within_lists_of_objects(realistic, sign):
    fields = [
        ("people.name", ["p1"]), ("people.seen.at.0", [0]), ("people.seen.at.0", [1]),
        ("people.seen.at", [1]), ("people.0.name", ["p1"]), ("people", ["x"]),
    ]  # fmt: skip
    words = Query(parse_words("dog vehicle", imagenet()).terms, k=900)
    wanted = [parse_filters({f"{sign}metadata.{field}": values}) for field, values in fields]
    realistic.check(*(replace(words, filters=filters) for filters in wanted))
