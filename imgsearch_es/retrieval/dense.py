"""Comparing deep features: similarities and distances between embeddings.

A score is larger for more alike pictures: a similarity as it is, a distance with its sign changed
(so 0 is the best). Scores are computed in float64 from the stored float32 vectors and rounded once
to float32; each store first ranks in its own, less precise way, and these have the last word.
docs/scoring.md has the formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Scores = NDArray[np.float64]

CHI2_EPSILON = 1e-10

CANDIDATES = 200
"""How many near pictures an approximate search compares exactly, unless told."""


@dataclass(frozen=True)
class Comparison:
    """One way to compare embeddings.

    Attributes:
        scores: of a query, shape (dimensions,), with vectors, shape (pictures, dimensions).
        statement: in Painless, gives ``s`` the score of ``params.q`` (or ``params.direction``, of
            length 1) with the document.
        size: in Painless, what the summands of ``s`` add up to without their signs; to this its
            float32 error is relative.
    """

    name: str
    scores: Callable[[Vectors, Vectors], Scores]
    statement: str
    size: str = "Math.abs(s)"

    @property
    def painless(self) -> str:
        """The score as a script, as the number above 0 that the server asks for."""
        return f"double s = 0;\n{self.statement}\n{TO_POSITIVE.format('s')}"

    @staticmethod
    def to_painless(score: float) -> float:
        """The number above 0 that stands for a score: it grows with it."""
        return score + 1 if score >= 0 else 1 / (1 - score)


TO_POSITIVE = "return {0} >= 0 ? {0} + 1 : 1 / (1 - {0});"
"""``Comparison.to_painless`` in Painless."""


def direction(vector: Vectors) -> Vectors:
    """A vector divided by its length; zero stays zero."""
    return (vector.astype(np.float64) / (_length(vector) or 1)).astype(np.float32)


def _cosine(query: Vectors, vectors: Vectors) -> Scores:
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1) * _length(query)
    zeros = np.zeros(len(vectors))
    return np.asarray(np.divide(_dot(query, vectors), lengths, out=zeros, where=lengths > 0))


def _dot(query: Vectors, vectors: Vectors) -> Scores:
    # Each product and each row's sum on its own, so that a score does not depend on the block.
    return np.asarray((vectors.astype(np.float64) * query).sum(axis=1))


def _euclidean(query: Vectors, vectors: Vectors) -> Scores:
    return np.asarray(0.0 - np.sqrt(np.square(_differences(query, vectors)).sum(axis=1)))


def _manhattan(query: Vectors, vectors: Vectors) -> Scores:
    return np.asarray(0.0 - np.abs(_differences(query, vectors)).sum(axis=1))


def _chi2(query: Vectors, vectors: Vectors) -> Scores:
    sums = np.abs(query).astype(np.float64) + np.abs(vectors) + CHI2_EPSILON
    return np.asarray(0.0 - 0.5 * (np.square(_differences(query, vectors)) / sums).sum(axis=1))


def _length(vector: Vectors) -> float:
    return float(np.linalg.norm(vector.astype(np.float64)))


def _differences(query: Vectors, vectors: Vectors) -> Scores:
    return np.asarray(vectors.astype(np.float64) - query)


_COSINE = """
if (doc['embedding'].magnitude > 1e-15) {
  s = cosineSimilarity(params.direction, 'embedding');
} else {
  float[] d = doc['embedding'].vectorValue;
  double product = 0;
  double square = 0;
  for (int i = 0; i < d.length; i++) {
    double x = d[i];
    product += params.direction[i] * x;
    square += x * x;
  }
  s = square == 0 ? 0 : product / Math.sqrt(square);
}
""".strip()
"""The server's own cosine squares in float32, where very small numbers are lost."""

_CHI2 = f"""
float[] d = doc['embedding'].vectorValue;
double sum = 0;
for (int i = 0; i < d.length; i++) {{
  double q = params.q[i];
  sum += (q - d[i]) * (q - d[i]) / (Math.abs(q) + Math.abs(d[i]) + {CHI2_EPSILON});
}}
s = -0.5 * sum;
""".strip()

COMPARISONS = {
    comparison.name: comparison
    for comparison in (
        Comparison("dense-cosine", _cosine, _COSINE),
        Comparison(
            "dense-dot",
            _dot,
            "s = dotProduct(params.q, 'embedding');",
            "params.length * doc['embedding'].magnitude",
        ),
        Comparison("dense-euclidean", _euclidean, "s = -l2norm(params.q, 'embedding');"),
        Comparison("dense-manhattan", _manhattan, "s = -l1norm(params.q, 'embedding');"),
        Comparison("dense-chi2", _chi2, _CHI2),
    )
}


# -- all pairs whose cosine is at least a threshold, exactly; a bound rules out most -------------
#
# Turn unit vectors x and y so that their first numbers say most (principal directions), and keep 64
# of them: p and q. What is cut off adds to the cosine at most the product of its lengths (Cauchy
# and Schwarz), so the vectors (p, |x - p|) and (q, |y - q|), of 65 numbers, have a product that is
# no less than the cosine:
#
#     x . y <= p . q + sqrt(1 - |p|^2) sqrt(1 - |q|^2)
#
# Only pairs for which that reaches the threshold are compared in all numbers: by float32 products,
# and again in float64, as the strategy dense-cosine computes it, where rounding could decide.

Places = NDArray[np.intp]
_KEPT = 64
"""Numbers of each vector that the bound is computed from."""
_SAMPLE = 4096
"""Vectors that the directions are learnt from, and as many are turned at a time."""
_ROWS, _COLUMNS = 2048, 8192
"""Pairs whose bounds are in memory together, 64 MB."""
_ROUNDING = 4 * 2.0**-24
"""Error of a float32 product of unit vectors, per dimension."""


def near_pairs(
    vectors: Vectors, threshold: float, *, rows: int = _ROWS, columns: int = _COLUMNS
) -> Iterator[tuple[Places, Places]]:
    """Pairs whose cosine, rounded to float32, is at or above the threshold; some are given twice.

    No vector is zero; they may be mapped from a file, 260 bytes of each are in memory. ``rows`` are
    compared at a time with so many ``columns``. Gives the places of the one and of the other.
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
    """Which of n rows and m columns, none zero, are pairs at or above the threshold: (n, m)."""
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
