"""Make imgsearch_es/analysis/colors.txt: which of the basic color terms each color has.

    PYTHONPATH=. python tools/build_colors.py

Names are those that people gave in xkcd's color survey of 2010: of its 949 most frequent ones, each
with its place in sRGB (https://xkcd.com/color/rgb/, CC0; matplotlib brings them), 569 end with a
basic term ("dark olive green"). A color has the term that the five nearest of these have in CIELAB,
weighted by nearness. Black, gray and white are as in the ISCC-NBS system (Kelly and Judd, "The
ISCC-NBS Method of Designating Colors", 1955): neutral colors up to the Munsell value 2.5, between,
and from 8.5 on.

The file has a row for each of 32 reds, with a letter for each of 32 greens and 32 blues.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.colors import XKCD_COLORS, to_rgb
from numpy.typing import NDArray

from imgsearch_es.analysis.terms import LETTERS, STEPS, TABLE
from imgsearch_es.vocabulary.colors import COLORS

_NEAREST = 5
_BLACK, _WHITE = 25.0, 85.0
"""Lightness: 10 times the Munsell value, nearly."""
_NEUTRAL, _NEARLY_NEUTRAL = 9.0, 18.0
"""Chroma; nearly neutral is what is so dark, or so light, that no hue is seen."""
_DARK, _LIGHT, _DARKEST = 18.0, 92.0, 8.0
_TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
_D65 = (0.95047, 1.0, 1.08883)

Colors = NDArray[np.float64]


def to_lab(rgb: Colors) -> Colors:
    """CIELAB (D65) of sRGB from 0 to 1, shape (colors, 3)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    ratio = linear @ np.array(_TO_XYZ).T / np.array(_D65)
    bent = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    x, y, z = bent.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def named() -> tuple[Colors, NDArray[np.intp]]:
    """The survey's colors that end with a basic term, in CIELAB, and the number of that term."""
    points, terms = [], []
    for name, rgb in XKCD_COLORS.items():
        last = name.replace("grey", "gray").replace("/", " ").split()[-1].removeprefix("xkcd:")
        if last in COLORS:
            points.append(to_rgb(rgb))
            terms.append(COLORS.index(last))
    return to_lab(np.array(points)), np.array(terms)


def table() -> NDArray[np.intp]:
    """The term of each of STEPS³ colors, blue changing first."""
    steps = (np.arange(STEPS) + 0.5) / STEPS
    lab = to_lab(np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3))
    points, terms = named()
    votes = np.zeros((len(lab), len(COLORS)))
    for row, color in zip(votes, lab, strict=True):
        distances = np.linalg.norm(points - color, axis=1)
        for near in np.argsort(distances, kind="stable")[:_NEAREST]:
            row[terms[near]] += 1 / (1 + distances[near])
    found = np.asarray(votes.argmax(axis=1), np.intp)
    black, white, gray = map(COLORS.index, ("black", "white", "gray"))
    lightness, chroma = lab[:, 0], np.hypot(lab[:, 1], lab[:, 2])
    faint = (chroma < _NEARLY_NEUTRAL) & ((lightness < _DARK) | (lightness > _LIGHT))
    neutral = faint | (chroma < _NEUTRAL) | (lightness < _DARKEST)
    neutral |= np.isin(found, (black, white, gray))
    found[neutral] = gray
    found[neutral & (lightness < _BLACK)] = black
    found[neutral & (lightness > _WHITE)] = white
    return np.asarray(found)


if __name__ == "__main__":
    letters = "".join(LETTERS[term] for term in table())
    rows = [letters[at : at + STEPS**2] for at in range(0, len(letters), STEPS**2)]
    Path(TABLE).write_text("\n".join(rows) + "\n", encoding="ascii")
