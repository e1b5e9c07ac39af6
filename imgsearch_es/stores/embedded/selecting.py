"""A query's conditions as SQL; nothing a person gave becomes part of the text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

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
)
from imgsearch_es.retrieval.patterns import wildcard_matches
from imgsearch_es.retrieval.places import TILES, ZOOM, to_box, widened
from imgsearch_es.retrieval.queries import Query, Selection, counted
from imgsearch_es.retrieval.spans import DATE, EARTH, NUMBER, Limits
from imgsearch_es.retrieval.texts import searched
from imgsearch_es.vocabulary.colors import is_color

_MATCHES = "regexp_full_match(x, {}, 's')"
_DISTANCE = (
    f"2 * {EARTH} * asin(least(1, sqrt(sin(radians(photo.latitude - {{0}}[1]) / 2) ** 2 + "
    "cos(radians({0}[1])) * cos(radians(photo.latitude)) * "
    "sin(radians(photo.longitude - {0}[2]) / 2) ** 2)))"
)
"""Meters, by the haversine formula, as Elasticsearch computes them."""
_SINE = "sin(radians(least(85.0511287798066, greatest(-85.0511287798066, photo.latitude))))"
_COLUMN = f"floor((photo.longitude + 180) / 360 * {TILES})"
_ROW = f"floor((0.5 - ln((1 + {_SINE}) / (1 - {_SINE})) / (4 * pi())) * {TILES})"
TILE = (
    f"CASE WHEN photo.latitude IS NOT NULL THEN '{ZOOM}/' || "
    f"least({TILES - 1}, {_COLUMN})::INTEGER || '/' || "
    f"least({TILES - 1}, greatest(0, {_ROW}))::INTEGER END"
)
"""The tile of the map that a photo was taken in, as Elasticsearch's ``geotile_grid`` names it."""
_AS_NUMBER = (
    f"CASE WHEN regexp_full_match(leaf, '{NUMBER.pattern}') AND "
    "isfinite(TRY_CAST(leaf AS DOUBLE)) THEN TRY_CAST(leaf AS DOUBLE) END"
)
_AS_TIME = (
    f"CASE WHEN regexp_full_match(leaf, '{DATE.pattern}') "
    "THEN replace(leaf, ' ', 'T') || substr('T00:00:00', length(leaf) - 9) END"
)
"""What ``spans.in_order`` says of a value of metadata."""
_LEAF = "CASE WHEN type = 'DOUBLE' THEN (atom::DOUBLE)::VARCHAR ELSE atom ->> '$' END"
"""A value of metadata; a number with a fraction or exponent as Python writes it (1e+16)."""
_PLACES = r"""'("(?:[^"\\]|\\.)*")|\[\d+\]', '\1', 'gs'"""
_QUOTES = r"""'\\(.)|"', '\1', 'gs'"""
"""How to take the places in lists, then the quotation marks, out of a path of ``json_tree``."""


def selection(query: Selection, numbers: dict[str, int]) -> tuple[str, dict[str, Any]]:
    """The query's conditions on ``document`` as a WHERE clause, and its parameters."""
    parameters: dict[str, Any] = {}
    conditions = ["WHERE true"]
    fields = []
    for item in map(Filter.normalized, query.filters):
        fields.append(_holds(item, numbers, parameters))
    if query.exclude:
        parameters["exclude"] = list(query.exclude)
        fields.append("NOT list_contains($exclude, id)")
    if fields:
        both = " AND ".join(fields)
        conditions.append(f"document IN (SELECT document FROM documents WHERE {both})")
    return " AND ".join(conditions), parameters


def matching(query: Selection, numbers: dict[str, int]) -> tuple[str, dict[str, Any]]:
    """The documents that a query matches, as a WHERE clause and its parameters."""
    query = counted(query)
    where, parameters = selection(query, numbers)
    if not isinstance(query, Query):
        return where, parameters
    has_feature = "document IN (SELECT document FROM embeddings)"
    if query.fusion is not None and query.fusion.needs_features:
        return f"{where} AND {has_feature}", parameters
    if query.sort is not None and not query.terms:
        return where, parameters
    ways = [has_feature] if query.compares_all else []
    if query.by_words:
        ways.append(_having_words(query, parameters))
    if not query.is_dense:
        ways.append(_having([term.key for term in query.terms], numbers, parameters))
    return f"{where} AND ({' OR '.join(ways)})", parameters


def _having(keys: Sequence[str], numbers: dict[str, int], parameters: dict[str, Any]) -> str:
    """Whether the document has one of these terms."""
    name = f"terms{len(parameters)}"
    parameters[name] = [numbers[key] for key in keys if key in numbers]
    listed = f"(SELECT unnest(${name}::INTEGER[]) AS term)"
    return f"document IN (SELECT document FROM postings JOIN {listed} USING (term))"


def _having_words(query: Query, parameters: dict[str, Any]) -> str:
    """Whether the document has one of the query's visual words."""
    name = f"words{len(parameters)}"
    parameters[name] = [word for word, _ in query.words]
    listed = f"(SELECT unnest(${name}::INTEGER[]) AS term)"
    return f"document IN (SELECT document FROM visual_postings JOIN {listed} USING (term))"


def _holds(item: Filter, numbers: dict[str, int], parameters: dict[str, Any]) -> str:
    condition = _condition(item, numbers, parameters)
    return f"({condition}) IS {'NOT ' * item.negated}TRUE"


def _condition(item: Filter, numbers: dict[str, int], parameters: dict[str, Any]) -> str:
    """One filter as SQL, whether negated or not; its values become parameters."""
    if item.either:
        return _either_of([_holds(one, numbers, parameters) for one in item.either])
    name = f"value{len(parameters)}"
    values = f"${name}"
    if item.field in ("synsets", "top_synset"):
        parameters[name] = _matching_terms(item, numbers)
        column = "terms" if item.field == "synsets" else "terms[1:1]"
        return f"list_has_any({column}, {values}::INTEGER[])"
    if item.operator == NEAR:
        parameters[name] = list(map(float, item.values))
        return f"{_DISTANCE.format(values)} <= {values}[3]"
    if item.field == OCR:
        if item.operator == "wildcard":
            parameters[name] = f".* {_regex(str(item.values[0]), '[^ ]')} .*"
            return f"regexp_full_match(ocr, {values}, 's')"
        parameters[name] = [searched(str(value)) for value in item.values]
        return f"EXISTS (SELECT 1 FROM unnest({values}) AS u(x) WHERE contains(ocr, x))"
    if item.operator == WITHIN:
        box = parameters[name] = list(widened(to_box(item.values)))
        beside = "OR" if box[1] > box[3] else "AND"  # across the date line
        return (
            f"photo.latitude BETWEEN {values}[1] AND {values}[3] AND "
            f"(photo.longitude >= {values}[2] {beside} photo.longitude <= {values}[4])"
        )
    column = column_of(item.field)
    if item.operator == "wildcard" or item.field in CASELESS:
        is_pattern = item.operator == "wildcard"
        patterns = [_regex(str(v)) if is_pattern else re.escape(str(v)) for v in item.values]
        parameters[name] = "|".join(patterns)
        if item.field in CASELESS:
            parameters[name] = re.sub("[A-Za-z]", _either, parameters[name])
        items = column if item.field in ("label", "keywords") else f"[{column}]"
        return f"EXISTS (SELECT 1 FROM unnest({items}) AS u(x) WHERE {_MATCHES.format(values)})"
    if item.operator in SIGNS:
        sign = SIGNS[item.operator]
        if item.synsets:  # added in their order, as the score of a search for them is
            parameters[name] = item.values[0]
            parameters[f"{name}_terms"] = [numbers.get(key, -1) for key in item.synsets]
            listed = f"unnest(${name}_terms::INTEGER[]) AS term"
            place = f"generate_subscripts(${name}_terms::INTEGER[], 1) AS place"
            return (
                "document IN (SELECT document FROM postings "
                f"JOIN (SELECT {listed}, {place}) USING (term) GROUP BY document "
                f"HAVING sum(score::DOUBLE ORDER BY place)::FLOAT {sign} {values})"
            )
        return _within(item.field, {item.operator: item.values[0]}, parameters)
    ways, exact = [], []
    for value in item.values:
        wanted_limits = limits(item, value)
        if wanted_limits is None:
            exact.append(value)
        else:
            ways.append(_limited(item.field, wanted_limits, parameters))
    ways = [_of_field(item.field, _either_of(ways), parameters)] if ways else []
    if exact or not ways:
        ways.append(_is_one(item.field, exact, parameters))
    return _either_of(ways)


def _either_of(ways: Sequence[str]) -> str:
    return " OR ".join(f"({way})" for way in ways)


def _within(field: str, wanted: Limits, parameters: dict[str, Any]) -> str:
    """Whether a number or a time lies within limits; of metadata, one of its values."""
    return _of_field(field, _limited(field, wanted, parameters), parameters)


def _limited(field: str, wanted: Limits, parameters: dict[str, Any]) -> str:
    """Whether the field, or a ``leaf`` of metadata, lies within limits."""
    conditions = []
    for operator, value in wanted.items():
        name = f"value{len(parameters)}"
        parameters[name] = value
        if not field.startswith(METADATA):
            cast = "::TIMESTAMP" if field in DATE_FIELDS else ""
            conditions.append(f"{column_of(field)} {SIGNS[operator]} ${name}{cast}")
        else:
            shown = _AS_TIME if isinstance(value, str) else _AS_NUMBER
            conditions.append(f"{shown} {SIGNS[operator]} ${name}")
    return " AND ".join(conditions)


def _of_field(field: str, condition: str, parameters: dict[str, Any]) -> str:
    """Whether a field meets a condition; of metadata one of its leaves, which are read once."""
    if not field.startswith(METADATA):
        return condition
    name = f"field{len(parameters)}"
    parameters[name] = field.removeprefix(METADATA)
    return f"EXISTS (FROM ({leaves(name)}) WHERE {condition})"


def _is_one(field: str, wanted: Sequence[Any], parameters: dict[str, Any]) -> str:
    """Whether a field has one of some values."""
    name = f"value{len(parameters)}"
    values = f"${name}"
    parameters[name] = list(wanted)
    if field == "label":
        return f"list_has_any(label, {values})"
    if field.startswith(METADATA):  # as Elasticsearch's flattened field: of keywords
        keywords = [keyword(v) for v in wanted]
        parameters |= {name: keywords, f"{name}_field": field.removeprefix(METADATA)}
        return f"EXISTS (FROM ({leaves(f'{name}_field')}) WHERE list_contains({values}, leaf))"
    return f"list_contains({values}, {column_of(field)})"


def column_of(field: str) -> str:
    """SQL for a field that is a column, or a part of one; nothing instead of an empty text."""
    if field in ("taken_at", "camera", "lens", "caption", "keywords"):
        return f"photo.{field}"
    if field == "album":
        return "nullif(regexp_replace(uri, '/?[^/]*$', ''), '')"
    return "scores[1]" if field == "top_score" else field


def order_of(field: str, *, descending: bool, parameters: dict[str, Any]) -> str:
    """SQL by which documents are sorted: by a field, those without it last, then by id."""
    way = f"{'DESC' if descending else 'ASC'} NULLS LAST"
    if not field.startswith(METADATA):
        return f"{column_of(field)} {way}, id"
    parameters["sorted"] = field.removeprefix(METADATA)
    best = "max" if descending else "min"
    number, time = (
        f"(SELECT {best}({shown}) FROM ({leaves('sorted')}))" for shown in (_AS_NUMBER, _AS_TIME)
    )
    first, second = (number, time) if descending else (time, number)
    return f"{first} {way}, CASE WHEN {first} IS NULL THEN {second} END {way}, id"


def _either(letter: re.Match[str]) -> str:
    return f"[{letter[0].lower()}{letter[0].upper()}]"


def leaves(name: str) -> str:
    """SQL for the values of a metadata field, whose dotted name is the parameter ``name``.

    Lists do not count as levels. A dot may belong to a name or join two: the path in the JSON text,
    without its quotation marks and places in lists, is what a person writes.
    """
    return (
        f"SELECT {_LEAF} AS leaf FROM json_tree(metadata) WHERE atom IS NOT NULL AND "
        f"regexp_replace(regexp_replace(fullkey, {_PLACES}), {_QUOTES}) = '$.' || ${name}"
    )


def _matching_terms(item: Filter, numbers: dict[str, int]) -> list[int]:
    if item.operator == "in":
        keys = [key for key in map(str, item.values) if key in numbers]
    else:
        keys = [key for key in numbers if wildcard_matches(str(item.values[0]), key)]
    return [numbers[key] for key in keys if not is_color(key)]


def _regex(pattern: str, one: str = ".") -> str:
    """A wildcard pattern (``*``, ``?``) for RE2, which takes linear time; LIKE may take ages."""
    parts = re.split(r"([*?])", pattern)
    return "".join({"*": f"{one}*", "?": one}.get(part, re.escape(part)) for part in parts)
