"""Comparing deep features on Elasticsearch: a script over all vectors, float64 for the best.

Approximately: the same script over the candidates that an index of nearest neighbors gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.retrieval.dense import COMPARISONS, direction
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.stores.elastic.fetching import WHOLE, embedding_of
from imgsearch_es.stores.elastic.strategies import bool_query, exclusions, filter_clauses

_ROUNDING = 4 * 2.0**-24
"""Error of the server's float32 sums, per dimension, relative to the score."""
_SPARE = 10
"""Documents that an approximate search fetches beyond those asked for: their order may be another
in float64."""
_HAS_EMBEDDING = {"exists": {"field": "embedding"}}


def dense_body(query: Query, window: int | None = None) -> dict[str, Any]:
    """The body of the search request.

    Args:
        query: a query with an embedding.
        window: how many documents an exact search fetches; at least offset + k.
    """
    last = query.offset + query.k
    if query.candidates:
        search, size = _of_candidates(query), last + _SPARE
    else:
        search, size = {"query": _of_all(query)}, window or last
    return {
        **search,
        "size": size,
        "track_total_hits": True,
        **WHOLE,
    }


def _of_all(query: Query) -> dict[str, Any]:
    """Every document that meets the conditions, scored by a script."""
    compared = bool_query(
        filter=[_HAS_EMBEDDING, *filter_clauses(query)], must_not=exclusions(query)
    )
    scored: dict[str, Any] = {"query": compared, "script": _script(query)}
    if query.threshold is not None:
        least = COMPARISONS[query.strategy].to_painless(query.threshold)
        scored["min_score"] = max(0.0, least * (1 - tolerance(query)))
    return {"script_score": scored}


def _of_candidates(query: Query) -> dict[str, Any]:
    """The nearest of those that meet the conditions, then all of these scored by the script.

    Conditions belong to the search for neighbors, so that enough of them are left.
    """
    embedding = query.embedding
    assert embedding is not None  # noqa: S101  (checked when the query was made)
    by_cosine = query.strategy == "dense-cosine"
    count = max(query.candidates, query.offset + query.k)
    nearest: dict[str, Any] = {
        "field": "direction" if by_cosine else "embedding",
        "query_vector": (direction(embedding) if by_cosine else embedding).tolist(),
        "k": count,
        "num_candidates": count,
    }
    wanted, unwanted = filter_clauses(query), exclusions(query)
    if wanted or unwanted:  # few that meet them are all compared: with vector or without
        nearest["filter"] = bool_query(filter=[_HAS_EMBEDDING, *wanted], must_not=unwanted)
    scored = {"query": {"match_all": {}}, "script": _script(query)}
    return {
        "query": {"knn": nearest},
        "rescore": {
            "window_size": count,
            "query": {
                "rescore_query": {"script_score": scored},
                "query_weight": 0.0,
                "rescore_query_weight": 1.0,
            },
        },
    }


def _script(query: Query) -> dict[str, Any]:
    embedding = query.embedding
    assert embedding is not None  # noqa: S101  (checked when the query was made)
    parameters = (
        {"direction": direction(embedding).tolist()}
        if query.strategy == "dense-cosine"
        else {"q": embedding.tolist()}
    )
    return {"source": COMPARISONS[query.strategy].painless, "params": parameters}


def vectors_of(hits: Sequence[Mapping[str, Any]]) -> list[NDArray[np.float32]]:
    """The deep features of hits that ``dense_body`` asked for."""
    return [vector for hit in hits if (vector := embedding_of(hit)) is not None]


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
    return wanted > server * (1 + 2 * tolerance(query))


def exact_scores(query: Query, vectors: Sequence[NDArray[np.float32]]) -> list[float]:
    """Scores as the embedded store computes them."""
    embedding = query.embedding
    if embedding is None or not vectors:
        return []
    scores = COMPARISONS[query.strategy].scores(embedding, np.stack(vectors))
    return [float(score) for score in scores.astype(np.float32)]


def tolerance(query: Query) -> float:
    """How far the server's score, as a number above 0, may be from the exact one, relative."""
    return _ROUNDING * (0 if query.embedding is None else len(query.embedding))
