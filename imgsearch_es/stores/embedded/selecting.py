"""A query's conditions as SQL; nothing a person gave becomes part of the text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import duckdb

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
from imgsearch_es.retrieval.queries import Query, Selection, counted
from imgsearch_es.retrieval.spans import (
    DATE,
    EARTH,
    NUMBER,
    TILES,
    ZOOM,
    Limits,
    searched,
    to_box,
    widened,
    wildcard_matches,
)
from imgsearch_es.vocabulary.colors import is_color

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
IS_OLD = int(duckdb.__version__.partition(".")[0]) < 2
"""Whether it is the last DuckDB for Python 3.10."""
_PLACES = r"""'("(?:[^"\\]|\\.)*")|\[\d+\]', '\1', 'gs'"""
_QUOTES = r"""'\\(.)|"', '\1', 'gs'"""
"""How to take the places in lists, then the quotation marks, out of a path of ``json_tree``."""
_NAME = f"regexp_replace(regexp_replace(fullkey, {_PLACES}), {_QUOTES})"
if IS_OLD:  # it quotes no names
    _NAME = r"regexp_replace(fullkey, '\[\d+\]', '', 'g')"


class Parameters(dict[str, Any]):
    """The values of a statement, by name."""

    def put(self, value: object) -> str:
        """How the statement names one more."""
        name = f"value{len(self)}"
        self[name] = value
        return f"${name}"


def selection(query: Selection, numbers: dict[str, int]) -> tuple[str, Parameters]:
    """The query's conditions on ``document`` as a WHERE clause, and its parameters."""
    parameters = Parameters()
    fields = [_holds(item.normalized(), numbers, parameters) for item in query.filters]
    if query.exclude:
        fields.append(f"NOT list_contains({parameters.put(list(query.exclude))}, id)")
    if not fields:
        return "WHERE true", parameters
    both = " AND ".join(fields)
    return f"WHERE document IN (SELECT document FROM documents WHERE {both})", parameters


def matching(query: Selection, numbers: dict[str, int]) -> tuple[str, Parameters]:
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
        ways.append(_having("visual_postings", [word for word, _ in query.words], parameters))
    if not query.is_dense:
        terms = [numbers[term.key] for term in query.terms if term.key in numbers]
        ways.append(_having("postings", terms, parameters))
    return f"{where} AND ({' OR '.join(ways)})", parameters


def _having(table: str, terms: list[int], parameters: Parameters) -> str:
    """Whether the document has one of these terms."""
    listed = f"(SELECT unnest({parameters.put(terms)}::INTEGER[]) AS term)"
    return f"document IN (SELECT document FROM {table} JOIN {listed} USING (term))"


def _holds(item: Filter, numbers: dict[str, int], parameters: Parameters) -> str:
    condition = _condition(item, numbers, parameters)
    return f"({condition}) IS {'NOT ' * item.negated}TRUE"


def _condition(item: Filter, numbers: dict[str, int], parameters: Parameters) -> str:
    """One filter as SQL, whether negated or not; its values become parameters."""
    if item.either:
        return _either_of([_holds(one, numbers, parameters) for one in item.either])
    if item.field in ("synsets", "top_synset"):
        column = "terms" if item.field == "synsets" else "terms[1:1]"
        terms = parameters.put(_matching_terms(item, numbers))
        return f"list_has_any({column}, {terms}::INTEGER[])"
    if item.operator == NEAR:
        circle = parameters.put(list(map(float, item.values)))
        return f"{_DISTANCE.format(circle)} <= {circle}[3]"
    if item.operator == WITHIN:
        box = widened(to_box(item.values))
        beside = "OR" if box[1] > box[3] else "AND"  # across the date line
        sides = parameters.put(list(box))
        return (
            f"photo.latitude BETWEEN {sides}[1] AND {sides}[3] AND "
            f"(photo.longitude >= {sides}[2] {beside} photo.longitude <= {sides}[4])"
        )
    is_pattern = item.operator == "wildcard"
    if item.field == OCR:
        if is_pattern:
            words = "|".join(_regex(str(value), "[^ ]") for value in item.values)
            pattern = parameters.put(f".* ({words}) .*")
            return f"regexp_full_match(ocr, {pattern}, 's')"
        texts = parameters.put([searched(str(value)) for value in item.values])
        return f"EXISTS (SELECT 1 FROM unnest({texts}) AS u(x) WHERE contains(ocr, x))"
    column = column_of(item.field)
    if is_pattern or item.field in CASELESS:
        patterns = [_regex(str(v)) if is_pattern else re.escape(str(v)) for v in item.values]
        pattern = "|".join(patterns)
        if item.field in CASELESS:
            pattern = re.sub(
                "[A-Za-z]", lambda letter: f"[{letter[0].lower()}{letter[0].upper()}]", pattern
            )
        items = column if item.field in ("label", "keywords") else f"[{column}]"
        matches = f"regexp_full_match(x, {parameters.put(pattern)}, 's')"
        return f"EXISTS (SELECT 1 FROM unnest({items}) AS u(x) WHERE {matches})"
    if item.synsets and item.operator in SIGNS:
        return _sum_within(item, numbers, parameters)
    if item.operator in SIGNS:
        limited = _limited(item.field, {item.operator: item.values[0]}, parameters)
        return _of_field(item.field, limited, parameters)
    ways, exact = [], []
    for value in item.values:
        wanted_limits = limits(item, value)
        if wanted_limits is None or item.field.startswith(METADATA):
            exact.append(value)  # a text of metadata may look like a range
        if wanted_limits is not None:
            ways.append(_limited(item.field, wanted_limits, parameters))
    ways = [_of_field(item.field, _either_of(ways), parameters)] if ways else []
    if exact or not ways:
        ways.append(_is_one(item.field, exact, parameters))
    return _either_of(ways)


def _sum_within(item: Filter, numbers: dict[str, int], parameters: Parameters) -> str:
    """Scores are added in the order of the synsets, as the score of a search for them is."""
    terms = parameters.put([numbers.get(key, -1) for key in item.synsets])
    listed = f"unnest({terms}::INTEGER[]) AS term"
    place = f"generate_subscripts({terms}::INTEGER[], 1) AS place"
    return (
        "document IN (SELECT document FROM postings "
        f"JOIN (SELECT {listed}, {place}) USING (term) GROUP BY document HAVING "
        f"sum(score::DOUBLE ORDER BY place)::FLOAT {SIGNS[item.operator]} "
        f"{parameters.put(item.values[0])})"
    )


def _either_of(ways: Sequence[str]) -> str:
    return " OR ".join(f"({way})" for way in ways)


def _limited(field: str, wanted: Limits, parameters: Parameters) -> str:
    """Whether the field, or a ``leaf`` of metadata, lies within limits."""
    conditions = []
    for operator, value in wanted.items():
        cast = "::TIMESTAMP" if field in DATE_FIELDS else ""
        shown = column_of(field)
        if field.startswith(METADATA):
            shown = _AS_TIME if isinstance(value, str) else _AS_NUMBER
        conditions.append(f"{shown} {SIGNS[operator]} {parameters.put(value)}{cast}")
    return " AND ".join(conditions)


def _of_field(field: str, condition: str, parameters: Parameters) -> str:
    """Whether a field meets a condition; of metadata one of its leaves, which are read once."""
    if not field.startswith(METADATA):
        return condition
    return f"EXISTS (FROM ({leaves(field, parameters)}) WHERE {condition})"


def _is_one(field: str, wanted: Sequence[Any], parameters: Parameters) -> str:
    """Whether a field has one of some values."""
    if field.startswith(METADATA):  # as Elasticsearch's flattened field: of keywords
        keywords = parameters.put([keyword(value) for value in wanted])
        return f"EXISTS (FROM ({leaves(field, parameters)}) WHERE list_contains({keywords}, leaf))"
    values = parameters.put(list(wanted))
    if field == "label":
        return f"list_has_any(label, {values})"
    return f"list_contains({values}, {column_of(field)})"


def column_of(field: str) -> str:
    """SQL for a field that is a column, or a part of one; nothing instead of an empty text."""
    if field in ("taken_at", "camera", "lens", "caption", "keywords"):
        return f"photo.{field}"
    if field == "album":
        return (
            "CASE WHEN uri LIKE 'tar://%::%' THEN substr(uri, strpos(uri, '::') + 2) "
            "ELSE nullif(regexp_replace(uri, '/?[^/]*$', ''), '') END"
        )
    return "scores[1]" if field == "top_score" else field


def order_of(field: str, descending: bool, parameters: Parameters) -> str:
    """SQL by which documents are sorted: by a field, those without it last, then by id."""
    way = f"{'DESC' if descending else 'ASC'} NULLS LAST"
    if not field.startswith(METADATA):
        return f"{column_of(field)} {way}, id"
    values, best = leaves(field, parameters), "max" if descending else "min"
    number, time = (f"(SELECT {best}({shown}) FROM ({values}))" for shown in (_AS_NUMBER, _AS_TIME))
    first, second = (number, time) if descending else (time, number)
    return f"{first} {way}, CASE WHEN {first} IS NULL THEN {second} END {way}, id"


def leaves(field: str, parameters: Parameters) -> str:
    """SQL for the values of a metadata field, by its dotted name.

    Lists do not count as levels. A dot may belong to a name or join two: the path in the JSON text,
    without its quotation marks and places in lists, is what a person writes.
    """
    return (
        f"SELECT {_LEAF} AS leaf FROM json_tree(metadata) WHERE atom IS NOT NULL AND "
        f"{_NAME} = '$.' || {parameters.put(field.removeprefix(METADATA))}"
    )


def _matching_terms(item: Filter, numbers: dict[str, int]) -> list[int]:
    if item.operator == "in":
        keys = [key for key in map(str, item.values) if key in numbers]
    else:
        patterns = list(map(str, item.values))
        keys = [key for key in numbers if any(wildcard_matches(each, key) for each in patterns)]
    return [numbers[key] for key in keys if not is_color(key)]


def _regex(pattern: str, one: str = ".") -> str:
    """A wildcard pattern (``*``, ``?``) for RE2, which takes linear time; LIKE may take ages."""
    parts = re.split(r"([*?])", pattern)
    return "".join({"*": f"{one}*", "?": one}.get(part, re.escape(part)) for part in parts)
