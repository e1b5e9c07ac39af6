"""Comparing deep features: similarities and distances between embeddings.

A score is larger for more alike pictures: a similarity as it is, a distance with its sign changed
(so 0 is the best). Scores are computed in float64 from the stored float32 vectors and rounded once
to float32; each store first ranks in its own, less precise way, and these have the last word.
docs/scoring.md has the formulas.
"""

from __future__ import annotations

from collections.abc import Callable
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
        size: in Painless, how large the summands of ``s`` are together, whatever their signs; to
            this its float32 error is relative.
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
