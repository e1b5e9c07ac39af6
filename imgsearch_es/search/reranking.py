"""k-reciprocal re-ranking of hits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_DIGITS = 10
"""Of distances: copies of a picture are equally far, however their products were rounded."""


def reciprocal_order(
    query: NDArray[np.float32],
    vectors: NDArray[np.float32],
    k1: int = 20,
    k2: int = 6,
    mix: float = 0.3,
) -> list[int]:
    """The order of hits that have the query's neighbors as their own first; ties as they were.

    After Zhong, Zheng, Cao and Li, "Re-ranking Person Re-identification with k-reciprocal
    Encoding", CVPR 2017. A picture's neighbors are encoded as a sparse vector, and pictures are
    compared by the Jaccard distance of these, mixed with the original distance (equation 12):

        d*(q, g) = (1 - lambda) d_Jaccard(q, g) + lambda d(q, g)

    k1 neighbors must be mutual, k2 are averaged over, and mix is lambda, by default as there. But
    neighbors are looked for among the query and the hits at hand only, and d is the cosine
    distance. Time grows with the cube of the number of hits: for hundreds of them. Deep features of
    shape (dimensions,) and (hits, dimensions) give row numbers, best first.
    """
    both = np.vstack([query[np.newaxis], vectors]).astype(np.float64)
    lengths = np.linalg.norm(both, axis=1, keepdims=True)
    unit = np.divide(both, lengths, out=np.zeros_like(both), where=lengths > 0)
    distances = np.round(np.clip(1 - unit @ unit.T, 0.0, 2.0), _DIGITS)
    np.fill_diagonal(distances, -1e-12)  # each is its own first neighbor, whatever its doubles
    nearest = np.argsort(distances, axis=1, kind="stable")
    mutual, half = _mutual(nearest, k1), _mutual(nearest, max(1, round(k1 / 2)))
    encoded = np.where(_expanded(mutual, half), np.exp(-distances), 0.0)
    encoded = encoded[nearest[:, :k2]].mean(axis=1)
    common = np.minimum(encoded[0], encoded).sum(axis=1)
    either = np.maximum(encoded[0], encoded).sum(axis=1)
    final = (1 - mix) * (1 - common / either) + mix * distances[0]
    return [int(i) for i in np.argsort(np.round(final[1:], _DIGITS), kind="stable")]


def _mutual(nearest: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Row p marks R(p, k): those among p's k neighbors that have p among theirs."""
    among = np.zeros(nearest.shape, dtype=bool)
    np.put_along_axis(among, nearest[:, : k + 1], values=True, axis=1)
    return np.asarray(among & among.T)


def _expanded(mutual: NDArray[np.bool_], half: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """R*(p): R(p, k1) with R(q, k1/2) of each q in it that shares two thirds with it (eq. 3)."""
    shared = mutual.astype(np.float64) @ half.T.astype(np.float64)
    joins = mutual & (shared >= 2 / 3 * half.sum(axis=1))
    return np.asarray(mutual | ((joins.astype(np.float64) @ half) > 0))
