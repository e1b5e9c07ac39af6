"""Clauses of Elasticsearch's queries: what scores by synsets, and what only selects."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.errors import QueryError
from imgsearch_es.retrieval.conditions import (
    CASELESS,
    DATE_FIELDS,
    METADATA,
    NEAR,
    OCR,
    SIGNS,
    WITHIN,
    Filter,
    keyword,
    limits,
    order,
)
from imgsearch_es.retrieval.queries import Query, Selection
from imgsearch_es.retrieval.scoring import Statistics
from imgsearch_es.retrieval.spans import Limits, ordered_text, searched, to_box, widened
from imgsearch_es.stores.settings import MOST_FIELDS
from imgsearch_es.vocabulary.colors import is_color

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
TRUNCATION = 2.0**-8
"""FeatureField keeps the upper 9 bits of the mantissa: a <= x < a (1 + 2^-8)."""
ROUNDING = 1e-6
"""Allowed for the float32 sums of the server."""
_UNDERFLOW = 2.0**-120
"""Allowed for products that float32 cannot hold, when the heaviest weight is about 1."""
_HEAVIEST, _LIGHTEST = 64.0, 2.0**-20
"""Lucene accepts weights in (0, 64] for a feature query; very light ones would underflow."""
ABOVE_ZERO = 1.4e-45
"""The smallest float32 above 0: documents that score 0 are no hits."""
_SAFE = 2.0**-24
"""A heavier weight times any score of a document (2^-126 and more) is above 0 in float32."""
_DIVISOR = 2.0**10
"""No formula divides a score by more: by a length, or by how many times the mean one it is."""
_INTEGER = 2**31 - 1
"""The largest number that an Elasticsearch integer holds, wider than any picture."""
VISUAL_WORDS = "visual_words"
"""The field of the visual words."""
HAS_FEATURE = {"exists": {"field": "embedding"}}


def sparse_clause(terms: Sequence[Term], field: str = "posterior") -> dict[str, Any]:
    """Formula (1) by the inverted index. Weights are scaled into Lucene's range."""
    scale = scale_of(terms)
    weights = {term.key: max(term.score * scale, ABOVE_ZERO) for term in terms}
    return {"sparse_vector": {"field": field, "query_vector": weights, "prune": False}}


def words_clause(query: Query) -> dict[str, Any]:
    """The inner product of visual words by their inverted index."""
    return sparse_clause(query.word_terms, VISUAL_WORDS)


def scale_of(terms: Sequence[Term]) -> float:
    """A power of two that brings the heaviest weight into Lucene's range; 1 where it is."""
    heaviest = terms[0].score
    if _LIGHTEST <= heaviest <= _HEAVIEST:
        return 1.0
    return 2.0 ** -math.floor(math.log2(heaviest))


def lost_by(terms: Sequence[Term]) -> float:
    """How much of a score by ``sparse_clause`` float32 may have lost beside its rounding."""
    return _UNDERFLOW / scale_of(terms)


def at_most(terms: Sequence[Term], score: float) -> float:
    """The most that weights times impacts may be, where ``sparse_clause`` gives this score."""
    return score / scale_of(terms) * (1 + TRUNCATION) * (1 + ROUNDING) + lost_by(terms)


def at_least(terms: Sequence[Term], score: float) -> float:
    """What ``sparse_clause`` gives at least, where weights times impacts are this: see above."""
    return (score - lost_by(terms)) * scale_of(terms) / (1 + TRUNCATION) / (1 + ROUNDING) ** 2


def least_of(query: Query) -> float:
    """Hits by synsets score no less: above 0 and, if there is one, ``min_score``."""
    return ABOVE_ZERO if query.min_score is None else max(ABOVE_ZERO, query.min_score)


def vanishing(terms: Sequence[Term], *, is_linear: bool = True) -> dict[str, float]:
    """Up to which score of a synset, if its weight is very light, a document's own may be 0."""
    least = 1.0 if is_linear else _DIVISOR
    return {
        term.key: ABOVE_ZERO * least / term.score for term in terms if term.score <= _SAFE * least
    }


def exact_scoring(terms: Sequence[Term]) -> dict[str, Any]:
    """Formula (1) without a script, for a function_score: the sum of weight times stored score."""
    names = ((f"synset.{term.key}.score", term.score) for term in terms)
    factors = [{"field": name, "factor": weight, "missing": 0.0} for name, weight in names]
    functions = [{"field_value_factor": factor} for factor in factors]
    return {"functions": functions, "score_mode": "sum", "boost_mode": "replace"}


def rescoring(window: int, query: dict[str, Any]) -> dict[str, Any]:
    """A second pass over the best of each shard; its scores take the place of the first ones."""
    again = {"rescore_query": query, "query_weight": 0.0, "rescore_query_weight": 1.0}
    return {"window_size": window, "query": again}


def _need_fields(query: Selection, what: str) -> None:
    if not query.synset_fields:
        raise QueryError(
            f"{what} reads the field of a synset, and an index on Elasticsearch with more than "
            f"{MOST_FIELDS:,} classes has none: use impact, tfidf or dense-*, or an index file; "
            "`imgsearch reindex --impacts cosine,sqrt,bm25` adds what these three need"
        )


def script(query: Query, statistics: Statistics) -> dict[str, Any]:
    """The script of the query's formula, with the numbers of a query that is weighted already."""
    _need_fields(query, f"the strategy {query.strategy}")
    formula = query.formula
    source = _SCRIPT.replace("{summand}", formula.painless)
    parameters: dict[str, Any] = {
        "fields": [f"synset.{term.key}.score" for term in query.terms],
        "weights": [term.score for term in query.terms],
    }
    if formula.parameters:
        parameters |= formula.with_defaults(query.parameters)
        parameters["average"] = statistics.average_length
    source = source if formula.is_linear else _LENGTHS + source
    return {"source": source.strip(), "params": parameters}


def matching(query: Selection) -> dict[str, Any]:
    """All that a query can score and that meets its conditions; of a selection the latter alone.

    A query scores what shares a synset with it, or has a deep feature or a visual word of it; of a
    fusion, what has one of its parts.
    """
    if not isinstance(query, Query):
        return bool_query(query)
    if query.fusion is not None and query.fusion.needs_features:
        return bool_query(query, filter=[HAS_FEATURE])
    ways: list[dict[str, Any]] = [HAS_FEATURE] if query.compares_all else []
    if query.by_words:
        ways.append(words_clause(query))
    if query.terms and not query.is_dense:
        ways.append(sharing([term.key for term in query.terms]))
    if len(ways) == 1 or query.sort is not None:
        return bool_query(query, filter=ways)
    return bool_query(query, filter=[{"bool": {"should": ways, "minimum_should_match": 1}}])


def sharing(keys: Sequence[str]) -> dict[str, Any]:
    """What has one of these synsets and colors."""
    colors = [key for key in keys if is_color(key)]
    synsets = [key for key in keys if not is_color(key)]
    fields = {"synsets": synsets, "colors": colors}
    return _any([{"terms": {name: found}} for name, found in fields.items() if found])


def bool_query(query: Selection, **clauses: list[dict[str, Any]]) -> dict[str, Any]:
    """These clauses and the conditions of a query; where there are none, everything."""
    filters = [item.normalized() for item in query.filters]
    flat = (one for item in filters for one in item.either or (item,))
    if any(item.synsets and not _is_any(item) for item in flat):
        _need_fields(query, "a condition on a score")
    wanted = [_condition(item) for item in filters if not item.negated]
    unwanted: list[dict[str, Any]] = []
    if query.exclude:
        unwanted.append({"ids": {"values": list(query.exclude)}})
    unwanted += [_condition(item) for item in filters if item.negated]
    clauses |= {"filter": [*clauses.get("filter", ()), *wanted], "must_not": unwanted}
    used = {kind: items for kind, items in clauses.items() if items}
    return {"bool": used} if used else {"match_all": {}}


def _is_any(item: Filter) -> bool:
    """Whether a condition on a score is that there is one."""
    return item.operator == "gt" and item.values[0] == 0


def _scored(item: Filter) -> dict[str, Any]:
    """A condition on the sum of some synsets' scores, rounded as a score is."""
    shares = sharing(item.synsets)
    if _is_any(item):
        return shares
    if len(item.synsets) == 1:
        field = f"synset.{item.synsets[0]}.score"
        return {"range": {field: {item.operator: item.values[0]}}}
    if item.operator not in ("gt", "gte"):
        return {"match_none": {}}  # see ``Filter.normalized``: no score is below 0
    least = np.float32(item.values[0])
    above = np.nextafter(least, np.float32(np.inf)) if item.operator == "gt" else least
    terms = [Term(key, 1.0) for key in item.synsets]
    near = {"query": sparse_clause(terms), "min_score": max(0.0, at_least(terms, float(above)))}
    scoring = exact_scoring(terms)  # of the few that the inverted index leaves
    documents = {"bool": {"filter": [{"function_score": near}]}}
    return {"function_score": {"query": documents, **scoring, "min_score": float(above)}}


def _condition(item: Filter) -> dict[str, Any]:
    if item.either:
        return _any([bool_query(Selection(filters=(one,))) for one in item.either])
    if item.synsets:
        return _scored(item)
    if item.operator == NEAR:
        latitude, longitude, meters = item.values
        at = {"place": {"lat": latitude, "lon": longitude}}
        return {"geo_distance": {**at, "distance": f"{meters}m", "ignore_unmapped": True}}
    if item.field == OCR and item.operator == "in":
        words = (searched(str(value)).strip() for value in item.values)
        asked = ({"query": each, "analyzer": "whitespace"} for each in words)
        return _any([{"match_phrase": {OCR: each}} for each in asked])
    if item.operator == WITHIN:
        south, west, north, east = widened(to_box(item.values))
        box = {"bottom": south, "left": west, "top": north, "right": east}
        return {"geo_bounding_box": {"place": box, "ignore_unmapped": True}}
    if item.field == "album":
        return _in_folder(item)
    if item.operator == "wildcard":
        patterns = (str(value).replace("\\", "\\\\") for value in item.values)
        return _any([_pattern(item.field, pattern) for pattern in patterns])
    if item.operator != "in":
        return _within(item.field, {item.operator: item.values[0]})
    if item.field in CASELESS:
        return _any([_pattern(item.field, _literal(str(value))) for value in item.values])
    spans = [(value, limits(item, value)) for value in item.values]
    ways = [_within(item.field, wanted) for _, wanted in spans if wanted is not None]
    exact = [_bounded(item.field, value) for value, wanted in spans if wanted is None]
    if item.field.startswith(METADATA):  # where a text may look like a range
        exact = [keyword(value) for value in item.values]
    named = {"ids": {"values": exact}} if item.field == "id" else {"terms": {item.field: exact}}
    return _any([*ways, named] if exact or not ways else ways)


def _in_folder(item: Filter) -> dict[str, Any]:
    """Whether a picture lies in a tar file, or a folder and none within it; "/" counts as none."""

    def matches(*which: dict[str, Any], none: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {"bool": {"filter": which, "must_not": none}}

    def regexp(value: str) -> dict[str, Any]:
        return {"regexp": {"uri": {"value": value, "flags": "NONE"}}}

    in_tar = _pattern("uri", "tar://*::*")
    ways: list[dict[str, Any]] = []
    if item.operator == "wildcard":
        for value in item.values:
            parts = re.split(r"([*?])", str(value))
            shown = (p if p in "*?" else re.sub(r"(\W)", r"\\\1", p) for p in parts)
            pattern = "".join({"*": ".*", "?": "."}.get(part, part) for part in shown)
            inside = regexp(rf"{pattern}\/[^\/]*")
            ways.append(matches(inside, none=[regexp(r"\/[^\/]*"), in_tar]))
            ways.append(regexp(rf"tar:\/\/([^:]|:[^:])*::{pattern}"))
        return _any(ways)
    for folder in map(_literal, filter(None, map(str, item.values))):
        below = _pattern("uri", f"{folder}/*/*")
        ways.append(matches(_pattern("uri", f"{folder}/*"), none=[below, in_tar]))
        farther = _pattern("uri", f"tar://*::*::{folder}")
        ways.append(matches(_pattern("uri", f"tar://*::{folder}"), none=[farther]))
    return _any(ways)


def _any(ways: list[dict[str, Any]]) -> dict[str, Any]:
    if len(ways) < 2:
        return ways[0] if ways else {"match_none": {}}  # an empty "should" is met by all
    return {"bool": {"should": ways, "minimum_should_match": 1}}


def _literal(text: str) -> str:
    return re.sub(r"([\\*?])", r"\\\1", text)


def _pattern(field: str, pattern: str) -> dict[str, Any]:
    caseless = {"case_insensitive": True} if field in CASELESS else {}
    return {"wildcard": {field: {"value": pattern, **caseless}}}


def orders_metadata(query: Selection) -> bool:
    """Whether metadata is compared, or sorted by, as numbers or times."""
    compared = (
        item.operator in SIGNS or any(limits(item, value) for value in item.values)
        for item in query.filters
        if item.field.startswith(METADATA)
    )
    sort = query.sort if isinstance(query, Query) else None
    return any(compared) or (sort or "").removeprefix("-").startswith(METADATA)


def _within(field: str, wanted: Limits) -> dict[str, Any]:
    """Limits of a number or a time; of one in metadata by the field that has them in order."""
    if not field.startswith(METADATA):
        return {"range": {field: {sign: _bounded(field, v) for sign, v in wanted.items()}}}
    texts = {sign: ordered_text(value) for sign, value in wanted.items()}
    kind = next(iter(texts.values()))[0]
    low = {} if texts.keys() & {"gt", "gte"} else {"gte": kind}
    high = {} if texts.keys() & {"lt", "lte"} else {"lt": chr(ord(kind) + 1)}
    name = field.removeprefix(METADATA)
    return {"range": {f"ordered.{name}": {**low, **texts, **high}}}


def _bounded(field: str, value: Any) -> Any:
    """The server refuses other widths and heights than integers hold.

    It takes a time without milliseconds for all of its second.
    """
    if field in DATE_FIELDS:
        return datetime.fromisoformat(value).isoformat(timespec="milliseconds")
    if field not in ("width", "height") or abs(float(value)) <= _INTEGER:
        return value
    return min(max(float(value), -_INTEGER), _INTEGER)


def sorting(query: Query) -> list[dict[str, Any]]:
    """By what a query is sorted that does not score; what has no value comes last."""
    field, descending = order(query.sort or "")
    way = {"order": "desc" if descending else "asc", "missing": "_last"}
    kind = "date" if field in DATE_FIELDS else "keyword"
    name = f"ordered.{field.removeprefix(METADATA)}" if field.startswith(METADATA) else field
    return [{name: {**way, "unmapped_type": kind}}, {"id": "asc"}]
