"""A query's conditions as SQL; nothing a person gave becomes part of the text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from imgsearch_es.retrieval.conditions import METADATA, SIGNS, Filter, wildcard_matches
from imgsearch_es.retrieval.queries import Query, Selection

_MATCHES = "regexp_full_match(x, {}, 's')"
_DAY = len("2026-01-31")
_PLACES = r"""'("(?:[^"\\]|\\.)*")|\[\d+\]', '\1', 'gs'"""
_QUOTES = r"""'\\(.)|"', '\1', 'gs'"""
"""How to take the places in lists, then the quotation marks, out of a path of ``json_tree``."""


def selection(query: Selection, numbers: dict[str, int]) -> tuple[str, dict[str, Any]]:
    """The query's conditions on ``document`` as a WHERE clause, and its parameters."""
    parameters: dict[str, Any] = {}
    conditions = ["WHERE true"]
    fields = []
    for item in map(Filter.normalized, query.filters):
        condition = _condition(item, numbers, parameters)
        fields.append(f"({condition}) IS {'NOT ' * item.negated}TRUE")
    if query.exclude:
        parameters["exclude"] = list(query.exclude)
        fields.append("NOT list_contains($exclude, id)")
    if fields:
        both = " AND ".join(fields)
        conditions.append(f"document IN (SELECT document FROM documents WHERE {both})")
    return " AND ".join(conditions), parameters


def having(keys: Sequence[str], numbers: dict[str, int], parameters: dict[str, Any]) -> str:
    """Whether the document has one of these terms."""
    name = f"terms{len(parameters)}"
    parameters[name] = [numbers[key] for key in keys if key in numbers]
    listed = f"(SELECT unnest(${name}::INTEGER[]) AS term)"
    return f"document IN (SELECT document FROM postings JOIN {listed} USING (term))"


def having_words(query: Query, parameters: dict[str, Any]) -> str:
    """Whether the document has one of the query's visual words."""
    name = f"words{len(parameters)}"
    parameters[name] = [word for word, _ in query.words]
    listed = f"(SELECT unnest(${name}::INTEGER[]) AS term)"
    return f"document IN (SELECT document FROM visual_postings JOIN {listed} USING (term))"


def _condition(item: Filter, numbers: dict[str, int], parameters: dict[str, Any]) -> str:
    """One filter as SQL, whether negated or not; its values become parameters."""
    name = f"value{len(parameters)}"
    values = f"${name}"
    if item.field in ("synsets", "top_synset"):
        parameters[name] = _matching_terms(item, numbers)
        column = "terms" if item.field == "synsets" else "terms[1:1]"
        return f"list_has_any({column}, {values}::INTEGER[])"
    if item.operator == "wildcard":
        parameters[name] = _regex(str(item.values[0]))
        items = "label" if item.field == "label" else f"[{item.field}]"
        return f"EXISTS (SELECT 1 FROM unnest({items}) AS u(x) WHERE {_MATCHES.format(values)})"
    column = "scores[1]" if item.field == "top_score" else item.field
    if item.operator in SIGNS:
        parameters[name] = item.values[0]
        sign = SIGNS[item.operator]
        if item.synsets:  # added in their order, as the score of a search for them is
            parameters[f"{name}_terms"] = [numbers.get(key, -1) for key in item.synsets]
            listed = f"unnest(${name}_terms::INTEGER[]) AS term"
            place = f"generate_subscripts(${name}_terms::INTEGER[], 1) AS place"
            return (
                "document IN (SELECT document FROM postings "
                f"JOIN (SELECT {listed}, {place}) USING (term) GROUP BY document "
                f"HAVING sum(score::DOUBLE ORDER BY place)::FLOAT {sign} {values})"
            )
        cast = "::TIMESTAMP" if item.field == "indexed_at" else ""
        return f"{column} {sign} {values}{cast}"
    parameters[name] = list(item.values)
    if item.field == "label":
        return f"list_has_any(label, {values})"
    if item.field.startswith(METADATA):  # as Elasticsearch's flattened field: of keywords
        keywords = [str(v).lower() if isinstance(v, bool) else str(v) for v in item.values]
        parameters |= {name: keywords, f"{name}_field": item.field.removeprefix(METADATA)}
        return f"EXISTS (FROM ({leaves(f'{name}_field')}) WHERE list_contains({values}, leaf))"
    if item.field == "indexed_at":
        days = [value for value in map(str, item.values) if len(value) == _DAY]
        parameters[f"{name}_days"] = days
        parameters[name] = [value for value in map(str, item.values) if value not in days]
        return (
            f"list_contains({values}::TIMESTAMP[], indexed_at) "
            f"OR list_contains({values}_days::DATE[], indexed_at::DATE)"
        )
    return f"list_contains({values}, {column})"


def leaves(name: str) -> str:
    """SQL for the values of a metadata field, whose dotted name is the parameter ``name``.

    Lists do not count as levels. A dot may belong to a name or join two: the path in the JSON text,
    without its quotation marks and places in lists, is what a person writes.
    """
    return (
        "SELECT atom ->> '$' AS leaf FROM json_tree(metadata) WHERE atom IS NOT NULL AND "
        f"regexp_replace(regexp_replace(fullkey, {_PLACES}), {_QUOTES}) = '$.' || ${name}"
    )


def _matching_terms(item: Filter, numbers: dict[str, int]) -> list[int]:
    if item.operator == "in":
        return [numbers[key] for key in map(str, item.values) if key in numbers]
    pattern = str(item.values[0])
    return [number for key, number in numbers.items() if wildcard_matches(pattern, key)]


def _regex(pattern: str) -> str:
    """A wildcard pattern (``*``, ``?``) for RE2, which takes linear time; LIKE may take ages."""
    parts = re.split(r"([*?])", pattern)
    return "".join({"*": ".*", "?": "."}.get(part, re.escape(part)) for part in parts)
