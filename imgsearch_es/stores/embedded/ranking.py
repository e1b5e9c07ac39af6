"""Formulas as SQL over the postings table."""

from __future__ import annotations

import re
from typing import Any

import duckdb

from imgsearch_es.queries import METADATA, Filter, Query
from imgsearch_es.scoring import Statistics, formula_of

_LENGTHS = "JOIN (SELECT document, length, norm FROM documents) USING (document)"
_RANKING = """
WITH query AS (SELECT unnest($terms) AS term, unnest($weights) AS weight),
summands AS (
    SELECT document, {summand} AS summand
    FROM (SELECT term, document, CAST(score AS DOUBLE) AS score FROM postings)
    JOIN query USING (term) {lengths}
    {selection}
),
scored AS MATERIALIZED (
    SELECT document, CAST(fsum(summand) AS FLOAT) AS score FROM summands
    GROUP BY document HAVING CAST(fsum(summand) AS FLOAT) > 0
)
"""

CANDIDATES = (
    _RANKING
    + """,
best AS (SELECT score FROM scored ORDER BY score DESC LIMIT $last),
candidates AS (SELECT document, score FROM scored WHERE score >= (SELECT min(score) FROM best))
SELECT document, score, total
FROM (SELECT count(*) AS total FROM scored) LEFT JOIN candidates ON true
"""
)
"""The best ``last`` documents, with all that tie with the last of them: ids, which break ties, are
looked up for these few only. One row of NULLs when nothing matches."""

MATCHING = _RANKING + "SELECT id FROM scored JOIN documents USING (document) ORDER BY id"

_OPERATORS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def add_up(
    connection: duckdb.DuckDBPyConnection,
    query: Query,
    term_numbers: dict[str, int],
    statistics: Statistics,
) -> tuple[dict[int, float], int]:
    """Add up the postings of the query's terms.

    Returns:
        Scores of the best offset + k documents and of all that tie with the last of them, by
        document number; and how many documents score above 0.
    """
    sql, parameters = ranking(CANDIDATES, query, term_numbers, statistics)
    rows = connection.execute(sql, parameters).fetchall()
    return {number: score for number, score, _ in rows if number is not None}, rows[0][2]


def ranking(
    template: str, query: Query, term_numbers: dict[str, int], statistics: Statistics
) -> tuple[str, dict[str, Any]]:
    """SQL and parameters for a query; nothing a person gave becomes part of the SQL text.

    Args:
        template: CANDIDATES or MATCHING.
        query: the query, weighted.
        term_numbers: number of each term of the vocabulary.
        statistics: of the collection, where the formula uses them.
    """
    formula = formula_of(query.strategy)
    known = [term for term in query.terms if term.key in term_numbers]
    parameters: dict[str, Any] = {
        "terms": [term_numbers[term.key] for term in known],
        "weights": [term.score for term in known],
    }
    if formula.parameters:
        parameters |= formula.with_defaults(query.parameters)
        parameters["average"] = statistics.average_length
    if template is CANDIDATES:
        parameters["last"] = query.offset + query.k
    sql = template.replace("{summand}", formula.sql)
    sql = sql.replace("{selection}", selection(query, term_numbers, parameters))
    return sql.replace("{lengths}", "" if formula.is_linear else _LENGTHS), parameters


def selection(query: Query, term_numbers: dict[str, int], parameters: dict[str, Any]) -> str:
    """The query's conditions on ``document`` as a WHERE clause; their values become parameters."""
    conditions = []
    excluded = [term_numbers[key] for key in query.must_not if key in term_numbers]
    if excluded:
        parameters["must_not"] = excluded
        conditions.append(
            "document NOT IN (SELECT document FROM postings WHERE list_contains($must_not, term))"
        )
    wanted = [_condition(item, term_numbers, parameters) for item in query.filters]
    if query.exclude:
        parameters["exclude"] = list(query.exclude)
        wanted.append("NOT list_contains($exclude, id)")
    if wanted:
        both = " AND ".join(wanted)
        conditions.append(f"document IN (SELECT document FROM documents WHERE {both})")
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""


def _condition(item: Filter, numbers: dict[str, int], parameters: dict[str, Any]) -> str:
    """One filter as SQL; its values become parameters."""
    name = f"value{len(parameters)}"
    values = f"${name}"
    if item.field in ("synsets", "top_synset"):
        parameters[name] = _matching_terms(item, numbers)
        column = "terms" if item.field == "synsets" else "terms[1:1]"
        return f"list_has_any({column}, {values}::SMALLINT[])"
    if item.operator in _OPERATORS:
        parameters[name] = item.values[0]
        column = "scores[1]" if item.field == "top_score" else item.field
        cast = "::TIMESTAMP" if item.field == "indexed_at" else ""
        return f"{column} {_OPERATORS[item.operator]} {values}{cast}"
    if item.operator == "wildcard":
        parameters[name] = _like(str(item.values[0]))
        items = "label" if item.field == "label" else f"[{item.field}]"
        return f"EXISTS (SELECT 1 FROM unnest({items}) AS u(x) WHERE x LIKE {values} ESCAPE '\\')"
    parameters[name] = list(item.values)
    if item.field == "label":
        return f"list_has_any(label, {values})"
    if item.field.startswith(METADATA):
        return _metadata_condition(item, name, parameters)
    column = "scores[1]" if item.field == "top_score" else item.field
    cast = "::TIMESTAMP[]" if item.field == "indexed_at" else ""
    return f"list_contains({values}{cast}, {column})"


def _metadata_condition(item: Filter, name: str, parameters: dict[str, Any]) -> str:
    """As Elasticsearch's flattened field: every leaf is a keyword, any item of a list matches."""
    parts = item.field[len(METADATA) :].replace("~", "~0").replace("/", "~1").split(".")
    parameters[name] = [_keyword(value) for value in item.values]
    parameters[f"{name}_path"] = "/" + "/".join(parts)  # a JSON pointer
    found = f"json_extract(metadata, ${name}_path)"
    items = (
        f"CASE json_type({found}) WHEN 'ARRAY' THEN json_extract_string({found}, '$[*]') "
        f"ELSE [json_extract_string(metadata, ${name}_path)] END"
    )
    return f"list_has_any({items}, ${name})"


def _matching_terms(item: Filter, numbers: dict[str, int]) -> list[int]:
    if item.operator == "in":
        return [numbers[key] for key in map(str, item.values) if key in numbers]
    parts = re.split(r"([*?])", str(item.values[0]))
    pattern = "".join({"*": ".*", "?": "."}.get(part, re.escape(part)) for part in parts)
    return [number for key, number in numbers.items() if re.fullmatch(pattern, key, re.DOTALL)]


def _like(pattern: str) -> str:
    """A wildcard pattern (``*``, ``?``) as a LIKE pattern."""
    for special in "\\%_":
        pattern = pattern.replace(special, "\\" + special)
    return pattern.replace("*", "%").replace("?", "_")


def _keyword(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
