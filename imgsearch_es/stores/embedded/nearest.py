"""The nearest deep features, exactly: one product in float32, and a proof of what it leaves out.

A float32 product of vectors q and d of n numbers is wrong by at most gamma |q| |d|, in whatever
order it is added up, with gamma = n u / (1 - n u) and u = 2^-24 (Higham, Accuracy and Stability of
Numerical Algorithms, 2002, section 3.1), and by what is too small for float32. That bounds every
score from below and above; only those that may be among the best are computed again in float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.retrieval.queries import Query
from imgsearch_es.stores.embedded.neighbors import Neighbors
from imgsearch_es.stores.embedded.snapshot import Snapshot

BOUNDED = ("dense-cosine", "dense-dot", "dense-euclidean")
"""Strategies that follow from products and lengths."""
_UNIT = 2.0**-24
_SMALLEST = 2.0**-126
_SAME = 2.0**-22
"""Scores that differ by less, in proportion, may be the same float32 number."""
_BLOCK = 1 << 14
"""Deep features compared in float64 at a time."""

_DOUBLE = 2.0**-44
"""More than all errors of float64 here, in proportion."""

Numbers = NDArray[np.float64]
Rows = NDArray[np.intp]
Nearest = tuple[NDArray[np.int64], NDArray[np.float32], int]
"""Places of documents, their scores, and how many score as much as the threshold at least."""


def nearest(
    snapshot: Snapshot, queries: Sequence[Query], meets: NDArray[np.bool_] | None
) -> list[Nearest]:
    """The best offset + k of each query and what ties with the last, among other documents.

    Args:
        snapshot: with deep features.
        queries: of strategies in BOUNDED.
        meets: by place, the documents to compare; None for all.
    """
    places, lengths = snapshot.column("feature.places"), snapshot.column("feature.lengths")
    features = snapshot.features()
    with np.errstate(over="ignore", invalid="ignore"):
        products = np.stack([_vector(query) for query in queries]) @ features.T
    rows = np.arange(len(places)) if meets is None else np.flatnonzero(meets[places])
    found = []
    for query, row in zip(queries, products, strict=True):
        low, high = _bounds(query, row[rows].astype(np.float64), lengths[rows])
        chosen = high >= _below(_last_of_the_best(query, low))
        sure, unsure = np.ones(len(rows), dtype=bool), np.zeros(len(rows), dtype=bool)
        if query.threshold is not None:
            sure = low >= query.threshold
            unsure = ~sure & (high >= _below(query.threshold))
            chosen |= unsure
        scores = _scores(query, features, rows[chosen])
        is_hit = unsure[chosen] & (scores >= np.float32(query.threshold or 0))
        found.append(
            (places[rows[chosen]].astype(np.int64), scores, int(sure.sum() + is_hit.sum()))
        )
    return found


def among_neighbors(
    snapshot: Snapshot, neighbors: Neighbors, query: Query, meets: NDArray[np.bool_] | None
) -> Nearest:
    """The nearest by the graph, so many as the query has candidates, compared exactly."""
    count = max(query.candidates, query.offset + query.k) + len(query.exclude)
    rows = neighbors.rows(_vector(query), count)
    places = snapshot.column("feature.places")[rows]
    if meets is not None:
        rows, places = rows[meets[places]], places[meets[places]]
    scores = query.compare(snapshot.features_of(rows)).astype(np.float32)
    least = -np.inf if query.threshold is None else np.float32(query.threshold)
    return places.astype(np.int64), scores, int(np.count_nonzero(scores >= least))


def _vector(query: Query) -> NDArray[np.float32]:
    assert query.embedding is not None  # noqa: S101  (checked when the query was built)
    return query.embedding


def _bounds(query: Query, products: Numbers, lengths: Numbers) -> tuple[Numbers, Numbers]:
    """The least and the greatest score that each document may have."""
    own, dimensions = float(np.linalg.norm(_vector(query).astype(np.float64))), len(_vector(query))
    gamma = dimensions * _UNIT / (1 - dimensions * _UNIT)
    sizes = own * lengths
    errors = gamma * sizes + dimensions * _SMALLEST
    if query.strategy == "dense-euclidean":
        squares = own**2 + lengths**2
        errors = 2 * errors + squares * _DOUBLE
        middle = squares - 2 * products
        low, high = (-np.sqrt(np.maximum(middle + sign * errors, 0)) for sign in (1, -1))
    else:
        if query.strategy == "dense-cosine":
            divisors = np.where(sizes > 0, sizes, 1)  # a vector of zeros scores 0, as its product
            products, errors = products / divisors, errors / divisors + _DOUBLE
        low, high = products - errors, products + errors
    unknown = ~np.isfinite(products)  # too large for float32
    low[unknown], high[unknown] = -np.inf, np.inf
    return low, high


def _last_of_the_best(query: Query, low: Numbers) -> float:
    """So many documents score this much at least as are asked for."""
    count = query.offset + query.k
    return float(np.partition(low, -count)[-count]) if len(low) > count else -np.inf


def _below(score: float) -> float:
    """What scores no less may be the same when it is rounded."""
    return score - abs(score) * _SAME - _SMALLEST if np.isfinite(score) else score


def _scores(query: Query, features: NDArray[np.float32], rows: Rows) -> NDArray[np.float32]:
    blocks = [rows[first : first + _BLOCK] for first in range(0, len(rows), _BLOCK)]
    exact = [query.compare(features[block]).astype(np.float32) for block in blocks]
    return np.concatenate([np.empty(0, np.float32), *exact])
