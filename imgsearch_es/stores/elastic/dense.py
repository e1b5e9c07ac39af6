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
from imgsearch_es.retrieval.scoring import Statistics
from imgsearch_es.retrieval.strategies import MAX_RESULTS
from imgsearch_es.stores.base import Scored, SearchResult, best_first
from imgsearch_es.stores.elastic.clauses import (
    at_least,
    at_most,
    bool_query,
    least_of,
    matching,
    rescoring,
    words_clause,
)
from imgsearch_es.stores.elastic.fetching import WHOLE, document_of, embedding_of, result

_ROUNDING = 4 * 2.0**-24
"""Error of the server's float32 sums, per dimension, relative to the score."""
_SPARE = 10
"""Documents that an approximate search fetches beyond those asked for: their order may be another
in float64."""


def dense_body(query: Query, statistics: Statistics, window: int) -> dict[str, Any]:
    """The body of the search request; ``window`` is how many an exact search fetches."""
    if query.candidates:
        search, window = _of_candidates(query), query.offset + query.k + _SPARE
        window = min(window, search["rescore"]["window_size"])
    else:
        search = {"query": _of_all(query)}
    return {**search, "size": window, "track_total_hits": True, **WHOLE}


def words_body(query: Query, statistics: Statistics, window: int) -> dict[str, Any]:
    """The best by the inverted index of visual words, by their scores before the exact ones."""
    body = {"query": bool_query(query, must=[words_clause(query)]), "size": window, **WHOLE}
    if query.min_score is not None:
        body["min_score"] = max(0.0, at_least(query.word_terms, query.min_score))
    return {**body, "track_total_hits": True}


def _of_all(query: Query) -> dict[str, Any]:
    scored: dict[str, Any] = {"query": matching(query), "script": _script(query)}
    if query.min_score is not None:
        least = COMPARISONS[query.strategy].to_painless(query.min_score)
        scored["min_score"] = max(0.0, least * (1 - tolerance(query)))
    return {"script_score": scored}


def _of_candidates(query: Query) -> dict[str, Any]:
    """The nearest of those that meet the conditions, then all of these scored by the script."""
    by_cosine = query.strategy == "dense-cosine"
    vector = feature(query)
    count = max(query.candidates, query.offset + query.k)
    scored = {"query": {"match_all": {}}, "script": _script(query)}
    again = rescoring(count, {"script_score": scored})
    if query.visual_words:
        return {"query": bool_query(query, must=[words_clause(query)]), "rescore": again}
    nearest: dict[str, Any] = {
        "field": "direction" if by_cosine else "embedding",
        "query_vector": (direction(vector) if by_cosine else vector).tolist(),
        "k": count,
        "num_candidates": count,
    }
    if query.filters or query.exclude:
        nearest["filter"] = matching(query)  # few are all compared: with vector or without
    return {"query": {"knn": nearest}, "rescore": again}


def _script(query: Query) -> dict[str, Any]:
    vector = feature(query)
    by_cosine = query.strategy == "dense-cosine"
    given = {"direction": direction(vector)} if by_cosine else {"q": vector}
    parameters = {name: value.tolist() for name, value in given.items()}
    return {"source": COMPARISONS[query.strategy].painless, "params": parameters}


def read_dense(
    query: Query, statistics: Statistics, answer: Mapping[str, Any], window: int
) -> SearchResult | None:
    """The result in an answer to ``dense_body``; None where a wider window is needed."""
    hits, total = answer["hits"]["hits"], answer["hits"]["total"]["value"]
    ranked, last = compared(query, hits), query.offset + query.k
    fetched_all = len(hits) == total
    # Where a threshold cut them, what was not fetched may lie above it.
    proven = fetched_all or (
        len(ranked) >= last and is_above(query, ranked[last - 1].score, hits[-1]["_score"])
    )
    by_words = query.by_words
    if not proven and not query.candidates and (window < MAX_RESULTS or by_words):
        return None
    if by_words:
        means = f"the best {window} were compared again exactly, and no other picture can enter"
    elif query.candidates:
        total = min(total, max(query.candidates, last)) if query.visual_words else total
        means = f"of {total} near pictures the best were found exactly; nearer ones may be missing"
    else:
        means = "all vectors were compared, the best again in float64"
        means += "" if proven else "; more than the window are equally near"
    cut = query.candidates and query.min_score is not None  # the server cuts exact answers only
    return result(
        query, statistics, answer, ranked[query.offset : last],
        total=len(ranked) if fetched_all or cut else total,
        total_is_exact=not query.candidates and (fetched_all or query.min_score is None),
        exact=proven and not query.candidates, means=means, windows=0 if query.candidates else 1,
    )  # fmt: skip


def compared(query: Query, hits: Sequence[Mapping[str, Any]]) -> list[Scored]:
    """Hits by their float64 scores; those below the threshold are left out."""
    vectors = [vector for hit in hits if (vector := embedding_of(hit)) is not None]
    least = -np.inf if query.min_score is None else query.min_score
    least = least_of(query) if query.by_words else least
    scored = map(Scored, map(document_of, hits), exact_scores(query, vectors))
    return best_first(item for item in scored if item.score >= least)


def is_above(query: Query, score: float, server: float) -> bool:
    """Whether an exact score is certainly above those of all that the server scores no higher."""
    if query.by_words:
        return score > at_most(query.word_terms, server)
    wanted = COMPARISONS[query.strategy].to_painless(score)
    return wanted > server * (1 + 2 * tolerance(query))


def exact_scores(query: Query, vectors: Sequence[NDArray[np.float32]]) -> list[float]:
    """Scores as the embedded store computes them."""
    if not vectors:
        return []
    scores = query.compare(np.stack(vectors))
    return [float(score) for score in scores.astype(np.float32)]


def tolerance(query: Query) -> float:
    """How far the server's score, as a number above 0, may be from the exact one, relative."""
    return _ROUNDING * len(feature(query))


def feature(query: Query) -> NDArray[np.float32]:
    """The deep feature of a query that compares deep features, which has one."""
    assert query.embedding is not None  # noqa: S101  (checked when the query was made)
    return query.embedding
