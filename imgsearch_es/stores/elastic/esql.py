"""A query in ES|QL, for Kibana's Discover: the scores of ``synset.*``, weighted and added.

Conditions are those of a search request, written as Lucene's query strings, which a server answers
by its indices; so ES|QL selects what a search does. It computes scores in double precision and does
not round them, so pictures whose scores are one float32 number may change places.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from imgsearch_es.errors import QueryError
from imgsearch_es.retrieval.conditions import METADATA, order
from imgsearch_es.retrieval.queries import Query, needs_statistics, with_weights
from imgsearch_es.retrieval.scoring import NO_STATISTICS, Formula, Statistics
from imgsearch_es.stores.elastic.clauses import bool_query, least_of, sharing

_KEPT = ("id", "score", "top_synset", "top_score", "label", "filename", "uri")
"""Columns of the answer."""
_RESERVED = re.compile(r'([-+=&|><!(){}\[\]^"~*?:\\/ ])')
_Shown = Callable[[Mapping[str, Any]], str]
_OPEN, _CLOSED = {"gt": "{", "gte": "["}, {"lt": "}", "lte": "]"}


def esql(query: Query, index: str, statistics: Statistics | None = None) -> str:
    """See ``Query.to_esql``."""
    if query.fusion is not None or query.has_features:
        raise QueryError(
            "ES|QL adds the scores of synsets: a fusion and the strategies dense-* and "
            "visual-words cannot be written in it; to_elasticsearch() can"
        )
    if not query.synset_fields:
        raise QueryError("ES|QL reads the fields of synsets, which an index this large has not")
    if needs_statistics(query) and statistics is None:
        raise QueryError(f"{query.strategy} weights by the collection: give its statistics")
    statistics = statistics or NO_STATISTICS
    query = with_weights(query, statistics)
    keys = [term.key for term in query.terms]
    wanted = [_asked(sharing(keys))] if keys else []
    wanted += _every(bool_query(query).get("bool", {}), _condition)
    lines = [f"FROM {index}", *(f"| WHERE {part}" for part in wanted)]
    if query.sort is None:
        sign = ">=" if query.min_score is not None else ">"
        least = least_of(query) if query.min_score is not None else 0.0
        lines += [f"| EVAL score = {_score(query, statistics)}", f"| WHERE score {sign} {least!r}"]
        by = "score DESC"
    else:
        field, descending = order(query.sort)
        if field.startswith(METADATA):
            raise QueryError("ES|QL does not read metadata in order: sort by another field")
        by = f"{field} {'DESC' if descending else 'ASC'} NULLS LAST"
    kept = [name for name in _KEPT if name != "score" or query.sort is None]
    size = query.offset + query.k  # ES|QL has no offset
    lines += [f"| SORT {by}, id ASC", f"| LIMIT {size}", f"| KEEP {', '.join(kept)}"]
    return "\n".join(lines)


def _score(query: Query, statistics: Statistics) -> str:
    formula = query.formula
    values: dict[str, float] = {}
    if formula.parameters:
        values = {**formula.with_defaults(query.parameters), "average": statistics.average_length}
    return " + ".join(_summand(formula, term.key, term.score, values) for term in query.terms)


def _summand(formula: Formula, key: str, weight: float, values: Mapping[str, float]) -> str:
    """What a synset adds, by the formula's own text for Elasticsearch's scripts."""
    names = {"w": repr(weight), "d": _name(f"synset.{key}.score"), "Math.sqrt": "SQRT"}
    names |= {f"params.{name}": repr(float(value)) for name, value in values.items()}
    text = re.sub(r"[A-Za-z][\w.]*", lambda found: names.get(found[0], found[0]), formula.painless)
    return f"COALESCE({text}, 0.0)"


def _condition(clause: Mapping[str, Any]) -> str:
    """A clause of a search request as a condition of ES|QL, in parentheses where it needs them."""
    ((kind, body),) = clause.items()
    if kind == "function_score":
        factors = (each["field_value_factor"]["field"] for each in body["functions"])
        total = " + ".join(f"COALESCE({_name(field)}, 0.0)" for field in factors)
        return f"({total} >= {body['min_score']!r})"
    if kind == "geo_distance":
        at, distance = body["place"], float(body["distance"].removesuffix("m"))
        point = f'TO_GEOPOINT("POINT({at["lon"]} {at["lat"]})")'
        return f"COALESCE(ST_DISTANCE(place, {point}) <= {distance!r}, false)"
    if kind == "geo_bounding_box":
        box = body["place"]
        beside = "OR" if box["left"] > box["right"] else "AND"  # across the date line
        across = f"ST_X(place) >= {box['left']!r} {beside} ST_X(place) <= {box['right']!r}"
        along = f"ST_Y(place) >= {box['bottom']!r} AND ST_Y(place) <= {box['top']!r}"
        return f"COALESCE({along} AND ({across}), false)"
    if kind == "bool" and not _is_lucene(clause):
        return _together(_every(body, _condition), body, _condition)
    return _asked(clause)


def _is_lucene(clause: Mapping[str, Any]) -> bool:
    ((kind, body),) = clause.items()
    if kind != "bool":
        return kind not in ("function_score", "geo_distance", "geo_bounding_box")
    parts = (body.get(name, ()) for name in ("filter", "should", "must_not"))
    return all(_is_lucene(each) for part in parts for each in part)


def _every(body: Mapping[str, Any], shown: _Shown) -> list[str]:
    unwanted = (f"NOT {shown(each)}" for each in body.get("must_not", ()))
    return [*map(shown, body.get("filter", ())), *unwanted]


def _together(every: Sequence[str], body: Mapping[str, Any], shown: _Shown) -> str:
    some = " OR ".join(map(shown, body.get("should", ())))
    return f"({' AND '.join([*every, *([f'({some})'] if some else [])])})"


def _asked(clause: Mapping[str, Any]) -> str:
    text = _quoted(_lucene(clause))
    for character, escaped in (("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        text = text.replace(character, escaped)
    return f"QSTR({text})"


def _lucene(clause: Mapping[str, Any]) -> str:
    ((kind, body),) = clause.items()
    if kind == "match_none":
        return "NOT *:*"
    if kind == "bool":
        return _together(_every(body, _lucene) or ["*:*"], body, _lucene)
    if kind == "ids":
        return f"_id:({' OR '.join(map(_quoted, body['values']))})"
    ((field, value),) = body.items()
    name = _RESERVED.sub(r"\\\1", field)
    if kind == "terms":
        return f"{name}:({' OR '.join(_quoted(str(each)) for each in value)})"
    if kind == "regexp":
        return f"{name}:/{value['value']}/"
    if kind == "match_phrase":
        words = value["query"]
        return f"{name}:{_quoted(words)}" if " " in words else f"{name}:/{words}/"
    if kind == "wildcard":
        return f"{name}:/{_pattern(value['value'], caseless='case_insensitive' in value)}/"
    return f"{name}:{_range(value)}"


def _range(limits: Mapping[str, Any]) -> str:
    low = next((sign for sign in _OPEN if sign in limits), None)
    high = next((sign for sign in _CLOSED if sign in limits), None)
    first = f"{_OPEN[low]}{_quoted(str(limits[low]))}" if low else "[*"
    last = f"{_quoted(str(limits[high]))}{_CLOSED[high]}" if high else "*]"
    return f"{first} TO {last}"


def _pattern(pattern: str, *, caseless: bool) -> str:
    """A pattern of ``*`` and ``?`` as a regular expression of Lucene."""

    def one(found: re.Match[str]) -> str:
        character = found[0][-1]
        if found[0] in ("*", "?"):
            return ".*" if character == "*" else "."
        if not character.isascii() or character.isalnum():
            is_letter = caseless and character.isascii() and character.isalpha()
            return f"[{character.lower()}{character.upper()}]" if is_letter else character
        return f"\\{character}"

    return re.sub(r"\\?.", one, pattern, flags=re.DOTALL)


def _name(field: str) -> str:
    return f"`{field.replace('`', '``')}`"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
