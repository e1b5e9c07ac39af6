"""Colors: the share of a picture's pixels that has each of the basic color terms.

    share(c) = sum of w over the pixels that are called c / sum of w over all
    w(x, y)  = (1 - x²) (1 - y²)           x and y from -1 to 1, so the middle counts most

A table of 32 x 32 x 32 colors names each pixel (tools/build_colors.py made it of a survey). All
numbers but the last division are whole, so shares are the same on every processor.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.terms import Term
from imgsearch_es.vocabulary.colors import COLOR, COLORS

STEPS = 32
LETTERS = "kwrgybnoPpe"
"""Of the colors in the table, in their order."""
TABLE = Path(__file__).with_name("colors.txt")
LEAST = 0.03
"""The least share that is kept: less is noise in the names."""
_SIDE = 64
"""Pixels of a row, and rows, that are looked at."""


def colors_of(pixels: NDArray[np.uint8]) -> tuple[Term, ...]:
    """The colors of a picture of shape (height, width, 3), largest share first.

    Shares are float32 numbers from LEAST to 1; equal ones are in the order of COLORS. Of a picture
    of more than 64 x 64 pixels as many are looked at, evenly spaced.
    """
    height, width, _ = pixels.shape
    rows, columns = _places(height), _places(width)
    seen = pixels[rows[:, np.newaxis], columns] >> 3
    places = (seen[..., 0].astype(np.intp) * STEPS + seen[..., 1]) * STEPS + seen[..., 2]
    weights = _weights(len(rows))[:, np.newaxis] * _weights(len(columns))
    counts = np.bincount(_table()[places].ravel(), weights.ravel(), len(COLORS))
    shares = (counts / counts.sum()).astype(np.float32)
    best_first = np.argsort(-shares, kind="stable")
    return tuple(
        Term(COLOR + COLORS[i], float(shares[i])) for i in best_first if shares[i] >= LEAST
    )


def _places(length: int) -> NDArray[np.intp]:
    count = min(length, _SIDE)
    return (np.arange(count) * length + length // 2) // count


def _weights(count: int) -> NDArray[np.int64]:
    """1 - x² at the middle of each pixel, times count²."""
    offsets = 2 * np.arange(count, dtype=np.int64) - count + 1
    return count**2 - offsets**2


@lru_cache(maxsize=1)
def _table() -> NDArray[np.uint8]:
    """The number of the term of each color."""
    numbers = {ord(letter): number for number, letter in enumerate(LETTERS)}
    letters = TABLE.read_bytes().replace(b"\n", b"")
    return np.array([numbers[letter] for letter in letters], np.uint8)
