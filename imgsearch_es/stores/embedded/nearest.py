"""The nearest deep features, exactly: one product in float32, and a proof of what it leaves out.

A float32 product of vectors q and d of n numbers is wrong by at most gamma |q| |d|, in whatever
order it is added up, with gamma = n u / (1 - n u) and u = 2^-24 (Higham, Accuracy and Stability of
Numerical Algorithms, 2002, section 3.1), and by what is too small for float32. That bounds every
score from below and above; only those that may be among the best are computed again in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

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
_PRODUCTS = 1 << 24
"""Float32 products in memory."""
_IN_CACHE = 256 * 1024
"""Numbers compared at a time: their float64 copies stay in the processor's cache, which halves the
time."""

Numbers = NDArray[np.float64]
Rows = NDArray[np.intp]


class Scores(NamedTuple):
    """What documents score by a query; some may be no hits, see ``ranking.least_score``.

    Attributes:
        places: of documents; None where each place, from 0 on, has a score.
        scores: of these.
        total: how many match; None where all that do are here.
    """

    places: NDArray[np.integer[Any]] | None
    scores: NDArray[np.float32]
    total: int | None = None


def nearest(
    snapshot: Snapshot,
    queries: Sequence[Query],
    meets: NDArray[np.bool_] | None,
    left_out: Sequence[Sequence[int]],
) -> list[Scores]:
    """The best offset + k of each query and what ties with the last, among other documents.

    Args:
        snapshot: with deep features.
        queries: of strategies in BOUNDED.
        meets: by place, the documents to compare; None for all.
        left_out: of each query the places that are no hits: they are found and counted, too.
    """
    size = max(1, _PRODUCTS // (len(snapshot) + 1))
    found = []
    for first in range(0, len(queries), size):
        some = slice(first, first + size)
        found += _nearest(snapshot, queries[some], meets, left_out[some])
    return found


def _nearest(
    snapshot: Snapshot,
    queries: Sequence[Query],
    meets: NDArray[np.bool_] | None,
    left_out: Sequence[Sequence[int]],
) -> list[Scores]:
    places, lengths = snapshot.column("feature.places"), snapshot.column("feature.lengths")
    features = snapshot.features()
    with np.errstate(over="ignore", invalid="ignore"):
        products = np.stack([_vector(query) for query in queries]) @ features.T
    rows = np.arange(len(places)) if meets is None else np.flatnonzero(meets[places])
    found = []
    for query, row, out in zip(queries, products, left_out, strict=True):
        low, high = _bounds(query, row[rows].astype(np.float64), lengths[rows])
        chosen = high >= _below(_last_of_the_best(low, query.offset + query.k + len(out)))
        if out:
            chosen |= np.isin(places[rows], out)
        sure, unsure = np.ones(len(rows), dtype=bool), np.zeros(len(rows), dtype=bool)
        if query.min_score is not None:
            sure = low >= query.min_score
            unsure = ~sure & (high >= _below(query.min_score))
            chosen |= unsure
        scores = _scores(query, features, rows[chosen])
        is_hit = unsure[chosen] & (scores >= np.float32(query.min_score or 0))
        found.append(Scores(places[rows[chosen]], scores, int(sure.sum() + is_hit.sum())))
    return found


def compared(query: Query, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """A query's scores of deep features, shape (documents, dimensions)."""
    rows = max(1, _IN_CACHE // matrix.shape[1])
    parts = [query.compare(matrix[first : first + rows]) for first in range(0, len(matrix), rows)]
    return np.concatenate(parts).astype(np.float32)


def among_neighbors(snapshot: Snapshot, neighbors: Neighbors, query: Query) -> Scores:
    """The nearest by the graph, so many as the query has candidates, compared exactly."""
    rows = neighbors.rows(_vector(query), candidates(query))
    scores = query.compare(snapshot.features_of(rows)).astype(np.float32)
    least = -np.inf if query.min_score is None else np.float32(query.min_score)
    places = snapshot.column("feature.places")[rows]
    return Scores(places, scores, int(np.count_nonzero(scores >= least)))


def candidates(query: Query) -> int:
    """How many of the nearest are compared for the best of an approximate answer."""
    return max(query.candidates, query.offset + query.k) + len(query.exclude)


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


def _last_of_the_best(low: Numbers, count: int) -> float:
    """So many documents score this much at least."""
    return float(np.partition(low, -count)[-count]) if len(low) > count else -np.inf


def _below(score: float) -> float:
    """What scores no less may be the same when it is rounded."""
    return score - abs(score) * _SAME - _SMALLEST if np.isfinite(score) else score


def _scores(query: Query, features: NDArray[np.float32], rows: Rows) -> NDArray[np.float32]:
    blocks = [rows[first : first + _BLOCK] for first in range(0, len(rows), _BLOCK)]
    exact = [query.compare(features[block]).astype(np.float32) for block in blocks]
    return np.concatenate([np.empty(0, np.float32), *exact])
