"""Documents of the file: by id, all of them in blocks, and whether any of them changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb

from imgsearch_es.retrieval.conditions import Filter
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.queries import Selection
from imgsearch_es.stores.embedded.rows import COLUMNS, to_document
from imgsearch_es.stores.embedded.schema import checksums
from imgsearch_es.stores.embedded.selecting import selection

_BLOCK = 1024
"""Documents in memory at a time."""


def next_numbers(
    connection: duckdb.DuckDBPyConnection,
    after: int,
    filters: Sequence[Filter],
    term_numbers: dict[str, int],
) -> list[int]:
    """The numbers of the next documents after one's that meet conditions, in order."""
    parameters: dict[str, Any] = {"after": after, "block": _BLOCK}
    where = selection(Selection(filters=tuple(filters)), term_numbers, parameters) or "WHERE true"
    found = connection.execute(
        f"SELECT document FROM documents {where} AND document > $after "
        "ORDER BY document LIMIT $block",
        parameters,
    ).fetchall()
    return [number for (number,) in found]


def documents(
    connection: duckdb.DuckDBPyConnection, numbers: Sequence[int], keys: Sequence[str]
) -> list[Document]:
    """Documents by number, in order of number.

    The range of the numbers is given as well: it lets DuckDB pass over the rest of the tables.
    """
    if not numbers:
        return []
    rows = connection.execute(
        f"SELECT {', '.join(COLUMNS)}, embedding, {checksums(connection)} FROM "
        "(FROM documents WHERE document BETWEEN $1 AND $2 AND list_contains($3, document)) "
        "LEFT JOIN (FROM embeddings WHERE document BETWEEN $1 AND $2) USING (document) "
        "ORDER BY document",
        [numbers[0], numbers[-1], list(numbers)],
    ).fetchall()
    return [to_document(row[:-2], keys, *row[-2:]) for row in rows]


def stored(
    connection: duckdb.DuckDBPyConnection,
    ids: Sequence[str],
    keys: Sequence[str],
    *,
    embeddings: bool,
) -> dict[str, Document]:
    """Documents by id, with or without embeddings."""
    wanted = "(FROM documents JOIN (SELECT unnest($1) AS id) USING (id))"
    vectors = "LEFT JOIN embeddings USING (document)" if embeddings else ""
    more = f"embedding, {checksums(connection)}" if embeddings else "NULL, NULL"
    rows = connection.execute(
        f"SELECT {', '.join(COLUMNS)}, {more} FROM {wanted} {vectors}", [list(ids)]
    ).fetchall()
    return {row[0]: to_document(row[:-2], keys, *row[-2:]) for row in rows}


def mark(connection: duckdb.DuckDBPyConnection) -> str:
    """Number and sum of hashes of all documents; a document analyzed again has another time."""
    return str(
        connection.execute(
            "SELECT count(*), sum(hash(id, sha256, indexed_at, label, metadata)) FROM documents"
        ).fetchone()
    )
