"""Comparing deep features in the file: every vector, in blocks, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import DamagedIndexError
from imgsearch_es.retrieval.dense import COMPARISONS
from imgsearch_es.retrieval.queries import Query, Selection
from imgsearch_es.stores.embedded.ranking import Scores, alike, excluded_numbers, without
from imgsearch_es.stores.embedded.selecting import selection

_BLOCK = 8192
"""Vectors in memory at a time."""
_IN_CACHE = 256 * 1024
"""Numbers compared at a time: their float64 copies stay in the processor's cache, which halves the
time."""


def all_scores(
    connection: duckdb.DuckDBPyConnection, query: Query, term_numbers: dict[str, int]
) -> Scores:
    """Number and score of every document compared."""
    return many_scores(connection, [query], term_numbers)[0]


def many_scores(
    connection: duckdb.DuckDBPyConnection, queries: Sequence[Query], term_numbers: dict[str, int]
) -> list[Scores]:
    """``all_scores`` of each query, by one scan for all that have the same conditions."""
    found: list[list[Scores]] = [
        [(np.empty(0, np.int64), np.empty(0, np.float32))] for _ in queries
    ]
    for conditions, numbers in alike(queries):
        for documents, matrix in _blocks(connection, conditions, term_numbers):
            for i in numbers:
                found[i].append((documents, _scores(queries[i], matrix)))
    excluded = excluded_numbers(connection, queries)
    every = []
    for query, blocks in zip(queries, found, strict=True):
        documents, scores = (np.concatenate(column) for column in zip(*blocks, strict=True))
        every.append(without((documents, scores), query, excluded))
    return every


def _blocks(
    connection: duckdb.DuckDBPyConnection, conditions: Selection, term_numbers: dict[str, int]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Numbers and deep features, one a row, of documents that meet the conditions."""
    parameters: dict[str, Any] = {}
    where = selection(conditions, term_numbers, parameters) or "WHERE true"
    end = connection.execute("SELECT coalesce(max(document), -1) + 1 FROM embeddings").fetchone()
    for first in range(0, end[0] if end else 0, _BLOCK):
        block = connection.execute(
            f"SELECT document, embedding FROM embeddings {where} "
            "AND document >= $first AND document < $end",
            {**parameters, "first": first, "end": first + _BLOCK},
        ).fetchnumpy()
        documents, vectors = np.asarray(block["document"], dtype=np.int64), block["embedding"]
        if np.ma.is_masked(vectors) or len({len(vector) for vector in vectors}) > 1:
            raise DamagedIndexError("deep features differ in length")
        if len(documents):
            yield documents, np.concatenate(vectors).reshape(len(documents), -1)


def _scores(query: Query, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores of a block of vectors."""
    assert query.embedding is not None  # noqa: S101  (checked when the query was made)
    compare_all = COMPARISONS[query.strategy].scores
    rows = max(1, _IN_CACHE // matrix.shape[1])
    parts = [
        compare_all(query.embedding, matrix[first : first + rows])
        for first in range(0, len(matrix), rows)
    ]
    return np.concatenate(parts).astype(np.float32)
