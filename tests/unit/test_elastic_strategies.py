"""Request bodies for formula (1), and the proof that a window of hits is exact."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.retrieval.conditions import of_score, parse_filters
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.retrieval.scoring import FORMULAS, Context, Statistics
from imgsearch_es.retrieval.strategies import MAX_RESULTS
from imgsearch_es.stores.elastic.answers import SMALLEST_WINDOW, first_window, is_proven
from imgsearch_es.stores.elastic.clauses import matching, scale_of, sparse_clause
from imgsearch_es.stores.elastic.fetching import impacts_of
from imgsearch_es.vocabulary.colors import COLOR
from tests.conformance.collections import document

TERMS = (Term("tabby", 1.5), Term("jack-o'-lantern", 0.25))
SHARES = {"terms": {"synsets": ["tabby", "jack-o'-lantern"]}}
PLAIN = Query(TERMS, k=5, offset=2)
WHERE = {
    "label": ["indoor", "home"],
    "width": {"gte": 800},
    "filename": {"wildcard": "a\\b*"},
    "metadata.flash": True,
}
LYNX = of_score("lynx", ["lynx"], "gt", 0, negated=True)
NARROW = Query(TERMS, filters=(*parse_filters(WHERE), LYNX), exclude=("0" * 32,), k=5, offset=2)
FILTER = [
    {"terms": {"label": ["indoor", "home"]}},
    {"range": {"width": {"gte": 800}}},
    {"wildcard": {"filename": {"value": "a\\\\b*"}}},
    {"terms": {"metadata.flash": ["true"]}},
]
MUST_NOT = [{"ids": {"values": ["0" * 32]}}, {"terms": {"synsets": ["lynx"]}}]
SELECTED = {"filter": FILTER, "must_not": MUST_NOT}
SHARING = {"filter": [SHARES, *FILTER], "must_not": MUST_NOT}
SCRIPT = """
double total = 0;
for (int i = 0; i < params.fields.length; i++) {
  def score = doc[params.fields[i]];
  if (score.size() != 0) {
    double w = params.weights[i];
    double d = score.value;
    total += w * d;
  }
}
return total;
""".strip()
SCORING = {
    "script": {
        "source": SCRIPT,
        "params": {
            "fields": ["synset.tabby.score", "synset.jack-o'-lantern.score"],
            "weights": [1.5, 0.25],
        },
    }
}
SOURCE = {
    "excludes": [
        "posterior", "embedding", "direction", "words", "kinds", "visual_words", "impacts",
    ]
}  # fmt: skip


def script_body(inner):
    return {
        "query": {
            "function_score": {"query": inner, "script_score": SCORING, "boost_mode": "replace"}
        },
        "min_score": 1.4e-45,
        "sort": [{"_score": "desc"}, {"id": "asc"}],
        "from": 2,
        "size": 5,
        "_source": SOURCE,
    }


def impact_body(clauses, window):
    sparse = {
        "field": "posterior",
        "query_vector": {"tabby": 1.5, "jack-o'-lantern": 0.25},
        "prune": False,
    }
    factors = [
        {"field": f"synset.{key}.score", "factor": weight, "missing": 0.0}
        for key, weight in (("tabby", 1.5), ("jack-o'-lantern", 0.25))
    ]
    exact = {
        "functions": [{"field_value_factor": factor} for factor in factors],
        "score_mode": "sum",
        "boost_mode": "replace",
    }
    again = {
        "rescore_query": {"function_score": exact},
        "query_weight": 0.0,
        "rescore_query_weight": 1.0,
    }
    return {
        "query": {"bool": {"must": [{"sparse_vector": sparse}], **clauses}},
        "rescore": {"window_size": window, "query": again},
        "size": window,
        "_source": SOURCE,
    }


@pytest.mark.parametrize(
    ("name", "query", "body"),
    [
        ("script", PLAIN, script_body({"match_all": {}})),
        ("script", NARROW, script_body({"bool": SELECTED})),
        ("script-filtered", PLAIN, script_body({"bool": {"filter": [SHARES]}})),
        ("script-filtered", NARROW, script_body({"bool": SHARING})),
        ("impact", PLAIN, impact_body({}, SMALLEST_WINDOW)),
        ("auto", PLAIN, impact_body({}, SMALLEST_WINDOW)),
        ("impact", NARROW, impact_body(SELECTED, SMALLEST_WINDOW)),
    ],
)
def test_the_whole_body(name, query, body):
    assert query.to_elasticsearch(name) == body


def test_the_scripts_text_is_one_for_all_queries():
    """Elasticsearch compiles 150 different texts in 5 minutes, no more."""
    others = [Query((Term(key, 0.5),), strategy="script") for key in ("lynx", "potter's_wheel")]
    bodies = [query.to_elasticsearch("script") for query in (PLAIN, NARROW, *others)]
    scripts = [body["query"]["function_score"]["script_score"]["script"] for body in bodies]
    assert len({script["source"] for script in scripts}) == 1


@pytest.mark.parametrize("weight", [2.0**-100, 1e-6, 65.0, 1e20])
def test_the_first_pass_keeps_lucenes_range_and_the_proportions(weight):
    terms = (Term("tabby", float(np.float32(weight))), Term("lynx", float(np.float32(weight / 4))))
    vector = Query(terms).to_elasticsearch()["query"]["bool"]["must"][0]["sparse_vector"]
    scaled = vector["query_vector"]
    assert 0 < scaled["lynx"] < scaled["tabby"] <= 64
    assert scaled["tabby"] / scaled["lynx"] == pytest.approx(terms[0].score / terms[1].score)
    assert scaled["tabby"] >= 2.0**-20


@pytest.mark.parametrize(
    ("k", "offset", "window"),
    [(1, 0, SMALLEST_WINDOW), (10, 0, 30), (16, 0, 32), (10, 40, 100), (6000, 0, MAX_RESULTS)],
)
def test_first_window(k, offset, window):
    assert first_window(Query(TERMS, k=k, offset=offset)) == window


# -- is_proven --------------------------------------------------------------------------------


def truncated(weights: np.ndarray) -> np.ndarray:
    """What Lucene's FeatureField keeps of float32 weights: nine significant bits."""
    bits = weights.astype(np.float32).view(np.int32)
    return (bits >> 15 << 15).view(np.float32)


def first_pass(weights: np.ndarray, query: np.ndarray) -> np.ndarray:
    return (truncated(weights) * query.astype(np.float32)).sum(axis=1, dtype=np.float32)


def exact(weights: np.ndarray, query: np.ndarray) -> np.ndarray:
    return (weights.astype(np.float64) @ query.astype(np.float64)).astype(np.float32)


def window_of(weights: np.ndarray, query: np.ndarray, size: int, shards: int) -> list[int]:
    """The answer of Elasticsearch: the best of each shard's first pass, merged."""
    rough = first_pass(weights, query)
    found: list[int] = []
    for shard in range(shards):
        mine = [i for i in range(shard, len(weights), shards) if rough[i] > 0]
        found += sorted(mine, key=lambda i: (-rough[i], i))[:size]
    return sorted(found, key=lambda i: (-rough[i], i))[:size]


def is_certain(query: Query, weights: np.ndarray, vector: np.ndarray, found: list[int], size: int):
    scores = sorted((float(exact(weights, vector)[i]) for i in found), reverse=True)
    last = float(first_pass(weights, vector)[found[-1]]) if found else 0.0
    return is_proven(query, scores, last, len(found) < size)


# Weights so near to each other that truncation changes their order.
NEAR = st.integers(0, 2**17).map(lambda n: float(np.float32(0.5 + n * 2.0**-24)))
FAR = st.floats(2.0**-10, 1, width=32)


@st.composite
def collections(draw):
    terms = draw(st.integers(1, 3))
    number = st.one_of(NEAR, FAR)
    rows = draw(st.lists(st.lists(number, min_size=terms, max_size=terms), min_size=1, max_size=25))
    query = draw(st.lists(FAR, min_size=terms, max_size=terms))
    return np.array(rows, dtype=np.float32), np.array(sorted(query, reverse=True), np.float32)


@settings(max_examples=150)
@given(collections(), st.integers(1, 3), st.integers(0, 2), st.integers(1, 12), st.integers(1, 3))
@example(
    (np.array([[0.5], [0.50048828125], [0.501]], np.float32), np.array([1.0], np.float32)),
    1,
    0,
    1,
    1,
)
def test_a_proven_window_holds_the_best(collection, k, offset, more, shards):
    weights, vector = collection
    query = Query(tuple(Term(f"t{i}", float(w)) for i, w in enumerate(vector)), k=k, offset=offset)
    window = k + offset + more - 1
    found = window_of(weights, vector, window, shards)
    best = exact(weights, vector)
    wanted = sorted(range(len(weights)), key=lambda i: (-best[i], i))[: k + offset]
    if is_certain(query, weights, vector, found, window):
        assert sorted(found, key=lambda i: (-best[i], i))[: k + offset] == wanted


def test_truncation_really_changes_the_order():
    """So the law above is not empty: unproven windows do go wrong."""
    weights = np.array([[0.5], [0.501]], np.float32)
    one = np.array([1.0], np.float32)
    found = window_of(weights, one, 1, 1)
    assert found == [0]  # both are 0.5 to the first pass, and the better one is left out
    assert not is_certain(Query((Term("t", 1.0),), k=1), weights, one, found, 1)


@pytest.mark.parametrize(
    ("scores", "last", "fetched_all", "proven"),
    [
        ([0.9, 0.8, 0.5, 0.1], 0.1, False, True),
        ([0.9, 0.8], 0.8, True, True),  # fewer than asked for: nothing is outside
        ([], 0.0, True, True),
        ([0.9], 0.8, False, False),  # the others underflow
        ([0.9, 0.8, 0.8, 0.8], 0.8, False, False),
        ([0.9, 0.8, 0.8, 0.8], 0.8 / (1 + 2.0**-8), False, False),
        ([0.9, 0.8, 0.8, 0.8], 0.8 / (1 + 2.0**-7), False, True),
    ],
)
def test_what_proves(scores, last, fetched_all, proven):
    assert is_proven(Query((Term("t", 1.0),), k=2), scores, last, fetched_all) is proven


def test_a_scaled_query_is_proven_by_its_own_scores():
    """The server scores with weights that Lucene accepts; the bound is on the query's own."""
    query = Query((Term("t", 128.0),), k=1)
    assert scale_of(query.terms) == 2.0**-7
    assert is_proven(query, [100.0, 90.0], 90.0 / 128, False)
    assert not is_proven(query, [90.1, 90.0], 90.0 / 128, False)


ADDED = [
    {"field_value_factor": {"field": f"synset.{key}.score", "factor": 1.0, "missing": 0.0}}
    for key in ("lynx", "tabby")
]
ABOVE = {
    "query": sparse_clause((Term("lynx", 1.0), Term("tabby", 1.0))),
    "min_score": pytest.approx(0.5 / (1 + 2**-8), rel=1e-5),
}
SUM = {
    "function_score": {
        "query": {"bool": {"filter": [{"function_score": ABOVE}]}},
        "functions": ADDED,
        "score_mode": "sum",
        "boost_mode": "replace",
        "min_score": float(np.nextafter(np.float32(0.5), np.float32(1))),
    }
}


def test_wanted_synsets_scores_and_negations_are_clauses():
    where = {
        "-label": "pets",
        "score(tabby)": {"gt": 0.5, "lt": 0.75},
        "-score(jack-o'-lantern)": {"gte": 0.25},
        "width": {"lt": 2**40},
    }
    cats = (
        of_score("cat", ["tabby", "lynx"], "gt", 0),
        of_score("cat", ["tabby", "lynx"], "gt", 0.5),
    )
    query = Query(TERMS, filters=(*cats, *parse_filters(where)))
    clauses = {
        "filter": [
            {"terms": {"synsets": ["lynx", "tabby"]}},
            SUM,
            {"range": {"synset.tabby.score": {"gt": 0.5}}},
            {"range": {"width": {"lt": 2**31 - 1}}},
        ],
        "must_not": [
            {"terms": {"label": ["pets"]}},
            {"range": {"synset.tabby.score": {"gte": 0.75}}},
            {"range": {"synset.jack-o'-lantern.score": {"gte": 0.25}}},
        ],
    }
    shares = {**clauses, "filter": [SHARES, *clauses["filter"]]}
    assert matching(query) == {"bool": shares}
    impact = query.to_elasticsearch("impact")["query"]["bool"]
    assert {kind: impact[kind] for kind in clauses} == clauses
    script = query.to_elasticsearch("script")["query"]["function_score"]["query"]
    assert script == {"bool": clauses}


@pytest.mark.parametrize("formula", FORMULAS.values(), ids=FORMULAS)
def test_painless_has_the_operations_of_python_in_their_order(formula):
    given = SimpleNamespace(**formula.parameters, average=0.7)
    for w, d, length, norm in np.random.default_rng(1).random((500, 4)).tolist():
        known = {"w": w, "d": d, "length": length, "norm": norm, "params": given, "Math": math}
        found = eval(formula.painless, known)  # noqa: S307 - which is an expression of Python, too
        assert found == formula.summand(w, d, Context(length, norm, 0.7, formula.parameters))


@settings(max_examples=300)
@given(
    scores=st.lists(st.floats(1e-6, 1), min_size=1, max_size=5),
    weights=st.lists(st.floats(1e-3, 9), min_size=5, max_size=5),
    others=st.sampled_from([0.0, 0.0, 1e-3, 0.5, 4.0]),
    average=st.floats(0.02, 6),
    k1=st.floats(0.05, 5),
    b=st.floats(0.05, 0.95),
    part=st.floats(0, 1),
)
@example([1.0], [1.0] * 5, 0.0, 1.0, 1.2, 0.75, 1.0)
def test_no_summand_exceeds_weight_and_impact_more(scores, weights, others, average, k1, b, part):
    """The impacts bound every formula, for whatever score a document must at least reach."""
    length, norm = sum(scores) + others, math.hypot(*scores, others)
    for formula in FORMULAS.values():
        parameters = {"k1": k1, "b": b} if formula.parameters else {}
        context = Context(length, norm, average, parameters)
        pairs = list(zip(weights, scores, strict=False))
        score = sum(formula.summand(w, d, context) for w, d in pairs)
        ranked = sum(w * formula.impact(d, context) for w, d in pairs)
        known = Statistics(1, average, {})
        for least in (0.0, part * score, score):
            excess = formula.excess(least, max(w for w, _ in pairs), known, parameters)
            assert score <= ranked * excess * (1 + 1e-9)
    assert excess <= formula.excess(0.0, max(w for w, _ in pairs), known, parameters)


def test_impacts_of_a_document_that_lost_its_synsets_are_compared_without_a_warning():
    harmed = replace(document("a.jpg", []), colors=(Term(f"{COLOR}red", 0.5),))
    found = impacts_of(harmed, ("cosine", "sqrt", "bm25"))
    assert found["cosine"] == {f"{COLOR}red": math.inf}


def test_bm25_has_no_bound_where_its_length_or_saturation_is_off():
    excess = FORMULAS["bm25"].excess
    for k1, b, average in ((0, 0.75, 1), (1.2, 0, 1), (1.2, 1, 1), (1.2, 0.75, 0)):
        assert math.isinf(excess(0.5, 1.0, Statistics(1, average, {}), {"k1": k1, "b": b}))
    assert excess(0.0, 1.0, Statistics(1, 1.0, {}), {"k1": 1.2, "b": 0.75}) == pytest.approx(1)
