"""All pairs of vectors whose cosine is at least a threshold, exactly; a bound rules out most.

Turn unit vectors x and y so that their first numbers say most (principal directions), and keep 64
of them: p and q. What is cut off adds to the cosine at most the product of its lengths (Cauchy and
Schwarz), so the vectors (p, |x - p|) and (q, |y - q|), of 65 numbers, have a product that is no
less than the cosine:

    x . y <= p . q + sqrt(1 - |p|^2) sqrt(1 - |q|^2)

Only pairs for which that reaches the threshold are compared in all numbers: by float32 products,
and again in float64, as the strategy ``dense-cosine`` computes it, where rounding could decide.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.retrieval.dense import COMPARISONS, Vectors

_KEPT = 64
"""Numbers of each vector that the bound is computed from."""
_SAMPLE = 4096
"""Vectors that the directions are learnt from, and as many are turned at a time."""
_ROWS, _COLUMNS = 2048, 8192
"""Pairs whose bounds are in memory together, 64 MB."""
_ROUNDING = 4 * 2.0**-24
"""Error of a float32 product of unit vectors, per dimension."""

Places = NDArray[np.intp]


def near_pairs(
    vectors: Vectors, threshold: float, *, rows: int = _ROWS, columns: int = _COLUMNS
) -> Iterator[tuple[Places, Places]]:
    """Pairs whose cosine, rounded to float32, is at or above the threshold; some are given twice.

    Args:
        vectors: float32, shape (pictures, dimensions), none zero; they may be mapped from a file.
            Of each 260 bytes are in memory.
        threshold: the least cosine.
        rows: compared at a time with ...
        columns: ... so many others.

    Yields:
        Places of the one and of the other vector of each pair, which is never the same.
    """
    bounding = _bounding(vectors)
    least = np.float32(threshold) - np.float32(_ROUNDING * bounding.shape[1])
    for first in range(0, len(vectors), rows):
        some = bounding[first : first + rows]
        for other in range(first, len(vectors), columns):
            bounds = some @ bounding[other : other + columns].T
            if other == first:
                np.fill_diagonal(bounds, 0)  # itself
            i = np.flatnonzero(bounds.max(axis=1) >= least)
            if not len(i):
                continue
            j = np.flatnonzero((bounds[i] >= least).any(axis=0))
            found = are_near(vectors[first + i], vectors[other + j], threshold)
            one, two = np.nonzero(found)
            one, two = first + i[one], other + j[two]
            yield one[one != two], two[one != two]


def are_near(rows: Vectors, columns: Vectors, threshold: float) -> NDArray[np.bool_]:
    """Which pairs have a cosine, rounded to float32, at or above the threshold.

    Rows of shape (n, dimensions) and columns of shape (m, dimensions), none zero, give (n, m).
    """
    least = np.float32(threshold)
    products = _unit(rows).astype(np.float32) @ _unit(columns).astype(np.float32).T
    tolerance = np.float32(_ROUNDING * rows.shape[1])
    near = products > least + tolerance
    unsure = ~near & (products >= least - tolerance)
    for i in np.flatnonzero(unsure.any(axis=1)):
        at = np.flatnonzero(unsure[i])
        scores = COMPARISONS["dense-cosine"].scores(rows[i], columns[at])
        near[i, at] = scores.astype(np.float32) >= least
    return np.asarray(near)


def _bounding(vectors: Vectors) -> Vectors:
    """Vectors of unit length and 65 numbers, or fewer, whose products are no less than cosines."""
    count, dimensions = vectors.shape
    sample = _unit(vectors[:: -(-count // _SAMPLE)])
    random = np.random.default_rng(0)
    turned = random.normal(size=(dimensions, min(_KEPT, dimensions)))
    for _ in range(2):  # Halko, Martinsson and Tropp 2011, algorithm 4.4
        turned, _ = np.linalg.qr(sample.T @ (sample @ turned))
    made = np.empty((count, turned.shape[1] + 1), dtype=np.float32)
    for first in range(0, count, _SAMPLE):
        kept = _unit(vectors[first : first + _SAMPLE]) @ turned
        made[first : first + _SAMPLE, :-1] = kept
        rest = 1 - np.square(kept).sum(axis=1)
        made[first : first + _SAMPLE, -1] = np.sqrt(np.maximum(rest, 0))
    return made


def _unit(vectors: Vectors) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True))
