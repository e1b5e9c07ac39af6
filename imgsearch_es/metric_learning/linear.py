"""Where a head's shortcut begins: whitening by how pictures of one object differ.

With W the covariance of features about the mean of their object, shrunk towards a multiple of the
identity, features are multiplied by W^(-1/2): what differs within objects counts less. Of the
result the directions of largest variance are kept. This is within-class covariance normalization
(Hatch, Kajarekar and Stolcke, Interspeech 2006) followed by principal components; it can be had
from few objects, and a network that begins there need not learn it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.metric_learning.examples import Examples

_SHRINKAGE = 1.0
"""How much of the identity is added to W, in mean eigenvalues of W."""
_SMALLEST = 1e-12

Matrix = NDArray[np.float64]


def within_class_whitening(
    features: NDArray[np.float64], examples: Examples, units: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights of a dense layer.

    Args:
        features: as the layer gets them, shape (pictures, dimensions).
        examples: say which object each shows.
        units: of the layer; more than dimensions stay zero.

    Returns:
        Kernel, shape (dimensions, units), and bias, shape (units,). The layer's outputs have the
        mean 0 and length 1 on average.
    """
    mean = features.mean(axis=0)
    centered = features - mean
    sums = np.zeros((len(examples.names), features.shape[1]))
    np.add.at(sums, examples.groups, centered)
    means = sums / np.bincount(examples.groups)[:, None]
    whitening = _inverse_root(_covariance(centered - means[examples.groups]))
    white = centered @ whitening
    _, directions = np.linalg.eigh(_covariance(white))
    kept = whitening @ directions[:, ::-1][:, :units]
    lengths = np.square(centered @ kept).sum(axis=1)
    kept /= np.sqrt(max(float(lengths.mean()), _SMALLEST))
    kernel = np.zeros((features.shape[1], units))
    kernel[:, : kept.shape[1]] = kept
    return kernel.astype(np.float32), (-mean @ kernel).astype(np.float32)


def _covariance(rows: Matrix) -> Matrix:
    return np.asarray(rows.T @ rows / len(rows))


def _inverse_root(covariance: Matrix) -> Matrix:
    """The inverse square root of a covariance with the identity added."""
    values, vectors = np.linalg.eigh(covariance)
    added = _SHRINKAGE * max(float(np.trace(covariance)) / len(covariance), _SMALLEST)
    return np.asarray((vectors / np.sqrt(np.maximum(values, 0) + added)) @ vectors.T)
