"""Comparing deep features on Elasticsearch: a script over all vectors, float64 for the best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from imgsearch_es.dense import COMPARISONS
from imgsearch_es.queries import Query
from imgsearch_es.stores.elastic.strategies import bool_query, exclusions, filter_clauses

_ROUNDING = 4 * 2.0**-24
"""Error of the server's float32 sums, per dimension, relative to the score."""


def dense_body(query: Query, window: int | None = None) -> dict[str, Any]:
    """The body of the search request.

    Args:
        query: a query with an embedding.
        window: how many documents to fetch; at least offset + k.
    """
    comparison = COMPARISONS[query.strategy]
    embedding = query.embedding
    assert embedding is not None  # noqa: S101  (checked when the query was made)
    compared = bool_query(
        filter=[{"exists": {"field": "embedding"}}, *filter_clauses(query)],
        must_not=exclusions(query),
    )
    script = {"source": comparison.painless, "params": {"q": embedding.tolist()}}
    scored: dict[str, Any] = {"query": compared, "script": script}
    if query.threshold is not None:
        least = comparison.to_painless(query.threshold)
        scored["min_score"] = max(0.0, least * (1 - _tolerance(query)))
    return {
        "query": {"script_score": scored},
        "size": window or query.offset + query.k,
        "track_total_hits": True,
        "_source": {"excludes": ["posterior", "words"], "exclude_vectors": False},
    }


def is_proven(query: Query, scores: Sequence[float], last: float, fetched_all: bool) -> bool:
    """Whether the best offset + k are certain, though the server ranked in float32.

    Args:
        query: the query.
        scores: float64 scores of the window, best first.
        last: the server's own score of the window's last document.
        fetched_all: whether the window holds every document.
    """
    if fetched_all:
        return True
    if len(scores) < query.offset + query.k:
        return False  # the threshold cut them, and what was not fetched may lie above it
    return is_above(query, scores[query.offset + query.k - 1], last)


def is_above(query: Query, score: float, server: float) -> bool:
    """Whether a float64 score is certainly above those of all that the server scores no higher."""
    wanted = COMPARISONS[query.strategy].to_painless(score)
    return wanted > server * (1 + 2 * _tolerance(query))


def exact_scores(query: Query, vectors: Sequence[np.ndarray[Any, Any]]) -> list[float]:
    """Scores as the embedded store computes them."""
    embedding = query.embedding
    if embedding is None or not vectors:
        return []
    scores = COMPARISONS[query.strategy].scores(embedding, np.stack(vectors))
    return [float(score) for score in scores.astype(np.float32)]


def _tolerance(query: Query) -> float:
    return _ROUNDING * (0 if query.embedding is None else len(query.embedding))
