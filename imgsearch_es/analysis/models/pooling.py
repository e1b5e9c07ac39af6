"""An activation becomes one vector: the poolings of `DeepFeature`, as parts of a Keras network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.models.deep_feature import DeepFeature

_EPSILON = 1e-6
"""Of "gem" and "rmac", as their authors have it: what is not above it counts as it."""
_OVERLAP = 0.4
"""Of neighboring regions of "rmac", at least."""


def pool(activation: Any, feature: DeepFeature) -> Any:
    """Pool an activation.

    Args:
        activation: a Keras tensor of shape (pictures, height, width, channels).
        feature: says how.

    Returns:
        A Keras tensor of shape (pictures, channels).
    """
    from keras import ops

    if feature.pooling == "max":
        return ops.max(activation, axis=(1, 2))
    if feature.pooling == "gem":
        powers = ops.power(ops.maximum(activation, _EPSILON), feature.p)
        return ops.power(ops.mean(powers, axis=(1, 2)), 1 / feature.p)
    if feature.pooling == "rmac":
        return _regional_maxima(activation, feature.levels)
    if feature.pooling == "spoc":
        _, height, width, _ = activation.shape
        return ops.sum(activation * center_weights(height, width), axis=(1, 2))
    return ops.mean(activation, axis=(1, 2))


def center_weights(height: int, width: int) -> NDArray[np.float32]:
    """How much a position counts for "spoc": a Gaussian around the middle.

    Its sigma is a third of the way from the middle to the nearest border (Babenko and Lempitsky
    2015, section 3.2).

    Returns:
        float32 of shape (1, height, width, 1), at most 1.
    """
    sigma = min(height, width) / 2 / 3
    y, x = (np.arange(side) - (side - 1) / 2 for side in (height, width))
    squares = np.square(y)[:, np.newaxis] + np.square(x)
    weights = np.exp(-squares / (2 * sigma**2))
    return np.asarray(weights[np.newaxis, :, :, np.newaxis], dtype=np.float32)


def regions(height: int, width: int, levels: int) -> list[tuple[int, int, int]]:
    """The square regions of "rmac", (top, left, side), each once.

    On level l, regions have the side 2 min(height, width) / (l + 1), l of them along the shorter
    side and as many along the longer one that neighbors overlap by 40 percent or a little more
    (Tolias, Sicre and Jégou 2016, section 3.2).
    """
    return list(dict.fromkeys(_regions(height, width, levels)))


def _regions(height: int, width: int, levels: int) -> Iterator[tuple[int, int, int]]:
    shorter, longer = sorted((height, width))
    more = _more_along(shorter, longer)
    for level in range(1, levels + 1):
        side = max(1, math.floor(2 * shorter / (level + 1)))
        along = (level + more, level) if height > width else (level, level + more)
        for top in _starts(height, side, along[0]):
            for left in _starts(width, side, along[1]):
                yield top, left, side


def resized(pixels: Any, height: int, width: int) -> Any:
    """Scale pictures inside a network, with bilinear interpolation.

    Two products with matrices, which every runtime has and computes alike; where a picture becomes
    smaller, neighbors are averaged as Pillow does.

    Args:
        pixels: a Keras tensor of shape (pictures, height, width, channels).
        height: of the result.
        width: of the result.
    """
    from keras import ops

    _, rows, columns, channels = pixels.shape
    flat = ops.reshape(pixels, (-1, rows, columns * channels))
    flat = ops.matmul(interpolation(rows, height)[np.newaxis], flat)
    high = ops.reshape(flat, (-1, height, columns, channels))
    return ops.matmul(interpolation(columns, width)[np.newaxis, np.newaxis], high)


def interpolation(before: int, after: int) -> NDArray[np.float32]:
    """How much of each of ``before`` places is in each of ``after``: rows that sum to 1."""
    step = before / after
    reach = max(step, 1.0)
    middles = (np.arange(after) + 0.5) * step - 0.5
    apart = np.abs(np.arange(before) - middles[:, np.newaxis]) / reach
    weights = np.maximum(1 - apart, 0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def _more_along(shorter: int, longer: int) -> int:
    """How many regions more the longer side has: on level 1, with an overlap nearest to 40 %."""
    if shorter == longer:
        return 0
    step = {more: (longer - shorter) / more for more in range(1, 7)}
    return min(step, key=lambda more: abs((shorter - step[more]) / shorter - _OVERLAP))


def _starts(length: int, side: int, count: int) -> list[int]:
    """Where so many regions begin along a side, evenly."""
    step = (length - side) / max(count - 1, 1)
    return [math.floor(i * step) for i in range(count)]


def _regional_maxima(activation: Any, levels: int) -> Any:
    from keras import ops

    _, height, width, _ = activation.shape
    total = 0
    for top, left, side in regions(height, width, levels):
        region = activation[:, top : top + side, left : left + side, :]
        maxima = ops.max(region, axis=(1, 2))
        length = ops.sqrt(ops.sum(ops.square(maxima), axis=1, keepdims=True))
        total = total + maxima / ops.maximum(length, _EPSILON)
    return total
