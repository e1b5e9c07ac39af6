"""Ways to compute formula (1) on Elasticsearch: pure builders of request bodies.

    script           the paper's: a script over every document
    script-filtered  the same script, over documents that share a synset with the query
    impact           the inverted index of the sparse_vector field, then exact rescoring of the best

All rank alike. A sparse_vector keeps 9 significant bits of a weight (Lucene's FeatureField), so the
first pass of ``impact`` alone does not; ``is_proven`` tells when rescoring a window made it exact.
The window is scored again where it is read: its documents come with their terms anyway.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.retrieval.conditions import METADATA, Filter
from imgsearch_es.retrieval.queries import Query, Selection
from imgsearch_es.retrieval.strategies import (
    MAX_RESULTS,
    POSTINGS,
    SHARING,
    STRATEGIES,
)
from imgsearch_es.stores.elastic.fetching import NOT_FETCHED

_LENGTHS = """
if (doc['norm'].size() == 0) {
  return 0;
}
double length = doc['length'].value;
double norm = doc['norm'].value;
"""
_SCRIPT = """
double total = 0;
for (int i = 0; i < params.fields.length; i++) {
  def score = doc[params.fields[i]];
  if (score.size() != 0) {
    double w = params.weights[i];
    double d = score.value;
    total += {summand};
  }
}
return total;
"""
"""A sum over synsets with a query's numbers as parameters: one text, one compilation a formula."""

SMALLEST_WINDOW = 30
TRUNCATION = 2.0**-8
"""FeatureField keeps the upper 9 bits of the mantissa: a <= x < a (1 + 2^-8)."""
ROUNDING = 1e-6
"""Allowed for the float32 sums of the first pass."""
UNDERFLOW = 2.0**-120
"""Allowed for products that float32 cannot hold, when the heaviest weight is about 1."""
_HEAVIEST, _LIGHTEST = 64.0, 2.0**-20
"""Lucene accepts weights in (0, 64] for a feature query; very light ones would underflow."""
_ABOVE_ZERO = 1.4e-45
"""The smallest float32 above 0: documents that score 0 are no hits."""
_SAFE = 2.0**-24
"""A heavier weight times any score of a document (2^-126 and more) is above 0 in float32."""

_INTEGER = 2**31 - 1
"""The largest number that an Elasticsearch integer holds, wider than any picture."""


@dataclass(frozen=True)
class Exhaustive:
    """Score every document, or every one that shares a synset with the query.

    Attributes:
        name: in ``retrieval.strategies``.
        filtered: whether to pass over documents that share no synset.
        scripted: whether to score by the paper's script, or by field_value_factor functions,
            which give the same numbers on servers without scripts.
    """

    name: str
    filtered: bool
    scripted: bool = True

    def body(self, query: Query, average: float = 0.0) -> dict[str, Any]:
        """The body of the search request."""
        if self.filtered:
            inner = matching_body(query)["query"]
        else:
            inner = bool_query(filter=filter_clauses(query), must_not=exclusions(query))
        scoring = (
            {"script_score": {"script": script(query, average)}, "boost_mode": "replace"}
            if self.scripted
            else exact_clause(query.terms)["function_score"]
        )
        return {
            "query": {"function_score": {"query": inner or {"match_all": {}}, **scoring}},
            "min_score": _ABOVE_ZERO,
            "sort": [{"_score": "desc"}, {"id": "asc"}],
            "from": query.offset,
            "size": query.k,
            "_source": {"excludes": list(NOT_FETCHED)},
        }


@dataclass(frozen=True)
class Impact:
    """sparse_vector first, then exact rescoring of a window of its best."""

    name: str = "impact"

    def first_pass(self, query: Query, window: int) -> dict[str, Any]:
        """The body of the request for so many documents, by their scores before rescoring."""
        return {
            "query": bool_query(
                must=[sparse_clause(query.terms)],
                filter=filter_clauses(query),
                must_not=exclusions(query),
            ),
            "size": window,
            "_source": {"excludes": list(NOT_FETCHED)},
        }

    def body(self, query: Query, window: int | None = None) -> dict[str, Any]:
        """The body of a request whose answer is ranked exactly already, for people to read.

        Args:
            query: the query.
            window: how many documents to rescore; at least offset + k.
        """
        size = window or first_window(query)
        return self.first_pass(query, size) | {
            "rescore": {
                "window_size": size,
                "query": {
                    "rescore_query": exact_clause(query.terms),
                    "query_weight": 0.0,
                    "rescore_query_weight": 1.0,
                },
            },
        }


FALLBACK = Exhaustive("impact", filtered=True, scripted=False)
"""What answers when no window proves the ranking."""


def get_strategy(name: str) -> Exhaustive | Impact:
    """How a strategy of synsets is executed: by what it reads."""
    reads = STRATEGIES[name].reads
    if reads == POSTINGS:
        return Impact("impact" if name == "auto" else name)
    return Exhaustive(name, filtered=reads == SHARING)


def first_window(query: Query) -> int:
    """How many documents to rescore at first: small, because it is widened when not proven."""
    return min(max(SMALLEST_WINDOW, 2 * (query.offset + query.k)), MAX_RESULTS)


def is_proven(query: Query, scores: Sequence[float], last: float, fetched_all: bool) -> bool:
    """Whether the best offset + k of a rescored window are certainly the best of the index.

    No document outside the window has a first-pass score above the window's last one, a. So its
    exact score is below a (1 + 2^-8). When the last score wanted is above that, no such document
    can enter, nor tie. With several shards a is the last of all that they found together.

    Args:
        query: the query.
        scores: exact scores of the window, best first.
        last: the server's own score of the window's last document.
        fetched_all: whether the window holds every document that matches.
    """
    if fetched_all:
        return True
    if len(scores) < query.offset + query.k:
        return False  # some underflow to 0, and are no hits
    scale = scale_of(query.terms)
    bound = (last / scale) * (1 + TRUNCATION) * (1 + ROUNDING) + UNDERFLOW / scale
    return scores[query.offset + query.k - 1] > bound


def vanishing(terms: Sequence[Term]) -> list[dict[str, Any]]:
    """Clauses of which a document meets one if its score may be 0 though it shares a synset.

    The first pass counts such a document. Only very light weights have a clause.
    """
    return [
        {"range": {f"synset.{term.key}.score": {"lte": _ABOVE_ZERO / term.score}}}
        for term in terms
        if term.score <= _SAFE
    ]


def matching_body(query: Query) -> dict[str, Any]:
    """Every document that shares a synset with the query and meets its conditions, unscored."""
    shares = {"terms": {"synsets": [term.key for term in query.terms]}}
    condition = [shares, *filter_clauses(query)]
    return {"query": bool_query(filter=condition, must_not=exclusions(query))}


def script(query: Query, average: float = 0.0) -> dict[str, Any]:
    """The script of the query's formula, with the query's numbers.

    Args:
        query: the query, weighted.
        average: mean length of the collection's documents, where the formula uses it.
    """
    formula = query.formula
    source = _SCRIPT.replace("{summand}", formula.painless)
    parameters: dict[str, Any] = {
        "fields": [f"synset.{term.key}.score" for term in query.terms],
        "weights": [term.score for term in query.terms],
    }
    if formula.parameters:
        parameters |= {**formula.with_defaults(query.parameters), "average": average}
    source = source if formula.is_linear else _LENGTHS + source
    return {"source": source.strip(), "params": parameters}


def sparse_clause(terms: Sequence[Term]) -> dict[str, Any]:
    """The first pass. Weights are scaled into Lucene's range, which leaves the order as it is."""
    scale = scale_of(terms)
    return {
        "sparse_vector": {
            "field": "posterior",
            "query_vector": {term.key: max(term.score * scale, _ABOVE_ZERO) for term in terms},
            "prune": False,
        }
    }


def scale_of(terms: Sequence[Term]) -> float:
    """A power of two that brings the heaviest weight into Lucene's range; 1 where it is."""
    heaviest = terms[0].score
    if _LIGHTEST <= heaviest <= _HEAVIEST:
        return 1.0
    return 2.0 ** -math.floor(math.log2(heaviest))


def exact_clause(terms: Sequence[Term]) -> dict[str, Any]:
    """Formula (1) without a script: the sum of weight times stored score."""
    return {
        "function_score": {
            "functions": [
                {
                    "field_value_factor": {
                        "field": f"synset.{term.key}.score",
                        "factor": term.score,
                        "missing": 0.0,
                    }
                }
                for term in terms
            ],
            "score_mode": "sum",
            "boost_mode": "replace",
        }
    }


def filter_clauses(query: Selection) -> list[dict[str, Any]]:
    """What hits must have and meet."""
    groups = [{"terms": {"synsets": list(group)}} for group in query.must]
    wanted = (item.normalized() for item in query.filters)
    return groups + [_filter_clause(item) for item in wanted if not item.negated]


def exclusions(query: Selection) -> list[dict[str, Any]]:
    """What hits must not be, have or meet."""
    clauses: list[dict[str, Any]] = []
    if query.must_not:
        clauses.append({"terms": {"synsets": list(query.must_not)}})
    if query.exclude:
        clauses.append({"ids": {"values": list(query.exclude)}})
    unwanted = (item.normalized() for item in query.filters)
    return clauses + [_filter_clause(item) for item in unwanted if item.negated]


def _filter_clause(item: Filter) -> dict[str, Any]:
    """One condition, whether negated or not."""
    values = list(item.values)
    if item.field.startswith(METADATA):
        values = [str(v).lower() if isinstance(v, bool) else str(v) for v in values]
    if item.operator == "wildcard":
        pattern = str(values[0]).replace("\\", "\\\\")
        return {"wildcard": {item.field: {"value": pattern}}}
    if item.field in ("width", "height"):  # the server refuses other numbers than integers hold
        values = [
            min(max(float(v), -_INTEGER), _INTEGER) if abs(float(v)) > _INTEGER else v
            for v in values
        ]
    if item.operator == "in":
        return {"terms": {item.field: values}}
    field = item.field if item.synset is None else f"synset.{item.synset}.score"
    return {"range": {field: {item.operator: values[0]}}}


def bool_query(**clauses: list[dict[str, Any]]) -> dict[str, Any]:
    """A bool query of the clauses that are there; empty when none is."""
    used = {kind: items for kind, items in clauses.items() if items}
    return {"bool": used} if used else {}
