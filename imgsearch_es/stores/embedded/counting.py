"""Going over many documents of the file: statistics, facets, and what tells duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb
import numpy as np

from imgsearch_es.retrieval.conditions import METADATA
from imgsearch_es.retrieval.documents import to_score
from imgsearch_es.retrieval.duplicates import Fingerprint
from imgsearch_es.retrieval.facets import (
    BOUNDS,
    FacetCount,
    Facets,
    most_frequent,
    not_empty,
    ranges,
)
from imgsearch_es.retrieval.queries import Query, Selection
from imgsearch_es.retrieval.scoring import Statistics
from imgsearch_es.stores.embedded.rows import one
from imgsearch_es.stores.embedded.selecting import leaves, selection

_BLOCK = 4096
"""Documents in memory at a time."""
_VALUES = {
    "label": "unnest(list_distinct(label))",
    "format": "format",
    "synsets": "unnest(terms)",
    "top_synset": "terms[1]",
}


def statistics(
    connection: duckdb.DuckDBPyConnection, keys: Sequence[str], term_numbers: dict[str, int]
) -> Statistics:
    """Counts of documents and postings."""
    known = {term_numbers[key]: key for key in keys if key in term_numbers}
    row = connection.execute(
        "SELECT count(*), coalesce(avg(length), 0) FROM documents"
    ).fetchone() or (0, 0.0)
    frequencies = connection.execute(
        "SELECT term, count(*) FROM postings "
        "JOIN (SELECT unnest($1)::SMALLINT AS term) USING (term) GROUP BY term",
        [list(known)],
    ).fetchall()
    return Statistics(row[0], to_score(row[1]), {known[term]: n for term, n in frequencies})


def figures(connection: duckdb.DuckDBPyConnection, size: int) -> dict[str, Any]:
    """How many documents and postings there are in so many bytes, and the most frequent synsets."""
    top = connection.execute(
        "SELECT synset, count(*) AS documents, avg(score) FROM postings "
        "JOIN terms USING (term) GROUP BY synset ORDER BY documents DESC, synset LIMIT 10"
    ).fetchall()
    return {
        "documents": one(connection, "SELECT count(*) FROM documents"),
        "postings": one(connection, "SELECT count(*) FROM postings"),
        "bytes": size,
        "synsets": [{"synset": key, "documents": n, "mean_score": mean} for key, n, mean in top],
    }


def facets(
    connection: duckdb.DuckDBPyConnection,
    query: Selection,
    fields: Sequence[str],
    size: int,
    term_numbers: dict[str, int],
) -> Facets:
    """Count values and ranges of the documents that a query matches, or of all."""
    parameters: dict[str, Any] = {}
    where = _matching(query, term_numbers, parameters)
    keys = list(term_numbers)
    counted: Facets = {}
    for field in fields:
        if field not in BOUNDS:
            values = _VALUES.get(field)
            given = dict(parameters)
            if values is None:
                values = f"unnest(list_distinct(ARRAY({leaves('counted')})))"
                given["counted"] = field.removeprefix(METADATA)
            sql = (
                f"SELECT value, count(*) FROM (SELECT {values} AS value FROM documents "
                f"{where}) WHERE value IS NOT NULL GROUP BY value"
            )
            rows = connection.execute(sql, given).fetchall()
            if field in ("synsets", "top_synset"):
                rows = [(keys[number], count) for number, count in rows]
            counted[field] = most_frequent(rows, size)
        else:
            counted[field] = _ranges(connection, field, where, parameters)
    return counted


def matching(
    connection: duckdb.DuckDBPyConnection, query: Query, term_numbers: dict[str, int]
) -> list[str]:
    """The ids of all documents that a query matches."""
    parameters: dict[str, Any] = {}
    where = _matching(query, term_numbers, parameters)
    rows = connection.execute(f"SELECT id FROM documents {where} ORDER BY id", parameters)
    return [row[0] for row in rows.fetchall()]


def _ranges(
    connection: duckdb.DuckDBPyConnection, field: str, where: str, parameters: dict[str, Any]
) -> list[FacetCount]:
    wanted = ranges(field)
    conditions = [
        f"count(*) FILTER (WHERE {field} >= {item.low or 0}"
        + (f" AND {field} < {item.high})" if item.high is not None else ")")
        for item in wanted
    ]
    sql = f"SELECT {', '.join(conditions)} FROM documents {where}"
    row = connection.execute(sql, parameters).fetchone() or (0,) * len(wanted)
    return not_empty((item.value, count) for item, count in zip(wanted, row, strict=True))


def _matching(query: Selection, term_numbers: dict[str, int], parameters: dict[str, Any]) -> str:
    """The documents that a query matches, as a WHERE clause."""
    where = selection(query, term_numbers, parameters) or "WHERE true"
    if not isinstance(query, Query):
        return where
    has_feature = "document IN (SELECT document FROM embeddings)"
    if query.is_dense or (query.fusion is not None and query.fusion.needs_features):
        return f"{where} AND {has_feature}"
    parameters["shared"] = [term_numbers[t.key] for t in query.terms if t.key in term_numbers]
    shares = (
        "document IN (SELECT document FROM postings "
        "JOIN (SELECT unnest($shared::SMALLINT[]) AS term) USING (term))"
    )
    if query.has_features:
        return f"{where} AND ({has_feature} OR {shares})"
    return f"{where} AND {shares}"


def fingerprints(
    connection: duckdb.DuckDBPyConnection, after: int, *, embeddings: bool
) -> tuple[list[Fingerprint], int | None]:
    """The next documents after one's number.

    Returns:
        The documents, and the last one's number; None where there are no more.
    """
    joined = "LEFT JOIN embeddings USING (document)" if embeddings else ""
    rows = connection.execute(
        f"SELECT document, id, sha256, {'embedding' if embeddings else 'NULL'} FROM "
        "(FROM documents WHERE document > $1 ORDER BY document LIMIT $2) "
        f"{joined} ORDER BY document",
        [after, _BLOCK],
    ).fetchall()
    block = [
        Fingerprint(key, sha256, None if vector is None else np.asarray(vector, np.float32))
        for _, key, sha256, vector in rows
    ]
    return block, rows[-1][0] if rows else None
