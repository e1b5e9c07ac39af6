"""Where a head's shortcut begins: principal components, their variances brought nearer together.

The direction of the k-th largest variance v_k is scaled by v_k^(-1/4), halfway between principal
components (v_k^0) and whitening (v_k^(-1/2)), so that the few directions in which all pictures
differ do not drown the others (Jégou and Chum, ECCV 2012, on why whitening helps). It needs no
objects, so nothing is learned by heart before training begins.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_POWER = 0.25
_SMALLEST = 1e-9
"""Share of the largest variance; directions with less are noise, and not made larger."""


def half_whitening(
    features: NDArray[np.float64], units: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights of a dense layer.

    Args:
        features: as the layer gets them, shape (pictures, dimensions).
        units: of the layer; those beyond the dimensions stay zero.

    Returns:
        Kernel, shape (dimensions, units), and bias, shape (units,). The layer's outputs have the
        mean 0 and a mean square length of 1.
    """
    mean = features.mean(axis=0)
    centered = features - mean
    values, directions = np.linalg.eigh(centered.T @ centered / len(features))
    values, directions = values[::-1][:units], directions[:, ::-1][:, :units]
    largest = max(float(values[0]), np.finfo(np.float64).tiny)
    scaled = directions / np.maximum(values / largest, _SMALLEST) ** _POWER
    length = float(np.square(centered @ scaled).sum(axis=1).mean()) ** 0.5
    kernel = np.zeros((features.shape[1], units))
    kernel[:, : scaled.shape[1]] = scaled / (length or 1)
    return kernel.astype(np.float32), (-mean @ kernel).astype(np.float32)
