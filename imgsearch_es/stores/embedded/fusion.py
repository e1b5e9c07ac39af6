"""Weighted sums of scores in the file: every part's scores, added by document number."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import numpy as np
from numpy.typing import NDArray

from imgsearch_es.retrieval.fusion import PartScore, summed
from imgsearch_es.retrieval.queries import Query, part_queries
from imgsearch_es.retrieval.scoring import Statistics
from imgsearch_es.stores.embedded import ranking
from imgsearch_es.stores.embedded.dense import all_scores


@dataclass(frozen=True)
class Fused:
    """Documents fused, by number.

    Attributes:
        scores: of the best offset + k documents and of all that tie with the last of them.
        parts: what each part adds to the scores of these.
        total: how many documents have one of the parts.
    """

    scores: dict[int, float]
    parts: dict[int, tuple[PartScore, ...]]
    total: int


def fuse(
    connection: duckdb.DuckDBPyConnection,
    query: Query,
    term_numbers: dict[str, int],
    statistics: Statistics,
) -> Fused:
    """Score by every part, and add.

    Args:
        connection: to the file.
        query: fused by "sum", its parts weighted.
        term_numbers: number of each term of the vocabulary.
        statistics: of the collection, where a formula uses them.
    """
    assert query.fusion is not None  # noqa: S101  (the store asks for nothing else)
    found = [
        all_scores(connection, part, term_numbers)
        if part.is_dense
        else _every(connection, part, term_numbers, statistics)
        for part in part_queries(query)
    ]
    count = max((int(documents.max()) + 1 for documents, _ in found if len(documents)), default=0)
    scores = np.full((len(found), count), np.nan, np.float32)  # NaN: the document lacks the part
    for row, (documents, values) in zip(scores, found, strict=True):
        row[documents] = values
    is_hit = ~np.isnan(scores).all(axis=0)
    if query.fusion.needs_features:
        dense = [part.is_dense for part in query.parts].index(True)
        is_hit = ~np.isnan(scores[dense])
    sums = np.zeros(count)
    for part, row in zip(query.parts, scores, strict=True):
        sums += part.weight * np.nan_to_num(row.astype(np.float64))
    hits = np.flatnonzero(is_hit)
    scores_of_hits = sums.astype(np.float32)[hits]
    best = ranking.best_of((hits, scores_of_hits), query.offset + query.k)
    parts = {}
    for number in best:
        column = [None if np.isnan(score) else float(score) for score in scores[:, number]]
        parts[number] = summed(query.parts, column)
    return Fused(best, parts, len(hits))


def _every(
    connection: duckdb.DuckDBPyConnection,
    query: Query,
    term_numbers: dict[str, int],
    statistics: Statistics,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Number and score of every document that scores above 0."""
    documents, scores = ranking.all_scores(connection, query, term_numbers, statistics)
    return documents[scores > 0], scores[scores > 0]
