"""Comparing deep features in the file: every vector, in blocks, so that memory stays bounded."""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from imgsearch_es.dense import COMPARISONS
from imgsearch_es.queries import Query
from imgsearch_es.stores.embedded.ranking import selection

_BLOCK = 8192
"""Vectors in memory at a time."""
_IN_CACHE = 256 * 1024
"""Numbers compared at a time: their float64 copies stay in the processor's cache, which halves the
time."""


def compare(
    connection: duckdb.DuckDBPyConnection, query: Query, term_numbers: dict[str, int]
) -> tuple[dict[int, float], int]:
    """Compare the query's embedding with those of all documents that meet its conditions.

    Returns:
        Scores of the best offset + k documents and of all that tie with the last of them, by
        document number; and how many documents were above the threshold.
    """
    documents, scores = all_scores(connection, query, term_numbers)
    if query.threshold is not None:
        above = scores >= np.float32(query.threshold)
        documents, scores = documents[above], scores[above]
    last = min(query.offset + query.k, len(scores))
    if last == 0:
        return {}, 0
    least = np.partition(scores, len(scores) - last)[len(scores) - last]
    best = np.flatnonzero(scores >= least)
    return dict(zip(documents[best].tolist(), scores[best].tolist(), strict=True)), len(scores)


def all_scores(
    connection: duckdb.DuckDBPyConnection, query: Query, term_numbers: dict[str, int]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Number and score of every document compared."""
    parameters: dict[str, Any] = {}
    where = selection(query, term_numbers, parameters) or "WHERE true"
    end = connection.execute("SELECT coalesce(max(document), -1) + 1 FROM embeddings").fetchone()
    documents, scores = [np.empty(0, np.int32)], [np.empty(0, np.float32)]
    for first in range(0, end[0] if end else 0, _BLOCK):
        block = connection.execute(
            f"SELECT document, embedding FROM embeddings {where} "
            "AND document >= $first AND document < $end",
            {**parameters, "first": first, "end": first + _BLOCK},
        ).fetchnumpy()
        if len(block["document"]):
            documents.append(np.asarray(block["document"]))
            scores.append(_scores(query, block["embedding"]))
    return np.concatenate(documents), np.concatenate(scores)


def _scores(query: Query, vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Scores of a block of vectors."""
    assert query.embedding is not None  # noqa: S101  (checked when the query was made)
    compare_all = COMPARISONS[query.strategy].scores
    matrix = np.concatenate(vectors).reshape(len(vectors), -1)
    rows = max(1, _IN_CACHE // matrix.shape[1])
    parts = [
        compare_all(query.embedding, matrix[first : first + rows])
        for first in range(0, len(matrix), rows)
    ]
    return np.concatenate(parts).astype(np.float32)
