"""Pictures of any kind become 8-bit RGB, within bounded memory.

Transparent pixels are laid on white; ICC profiles are not applied (nor are they where the
classifiers were trained); LAB becomes sRGB. Gray deeper than 8 bits: 0..65535 becomes 0..255, and
so do 0..1 (floats only) and 0..255 where all values lie in them; any other range is stretched from
its least to its greatest value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_TILE = 2048
"""Pixels are converted in squares of this side; a picture of no more pixels in one go."""
_LARGE, _REDUCED = 1 << 26, 1 << 24
"""Pixels: a picture of more than the first is converted or turned with at most the second."""


def to_rgb(image: Image.Image, *, is_turned: bool = False) -> Image.Image:
    """A picture in 8-bit RGB, of the same size, on white where it is transparent.

    Tile by tile where it is not small: beside it there is never more than the result. One that is
    right already comes back itself. Only too large a one, see `open_image`, gets smaller.
    """
    pixels, range_ = image.width * image.height, _gray_range(image)
    if pixels <= _TILE**2:
        return _tile_to_rgb(image, range_)
    is_right = image.mode == "RGB" and not image.has_transparency_data
    if is_right and (pixels <= _LARGE or not is_turned):
        return image
    factor = 1 if pixels <= _LARGE else math.ceil(math.sqrt(pixels / _REDUCED))
    rgb = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    for left, top, tile in _tiles(image, _TILE // factor * factor):
        rgb.paste(_tile_to_rgb(tile, range_).reduce(factor), (left // factor, top // factor))
    return rgb


def _tiles(image: Image.Image, side: int) -> Iterator[tuple[int, int, Image.Image]]:
    """The squares of a picture, each with its place in pixels; the last ones are smaller."""
    for top in range(0, image.height, side):
        for left in range(0, image.width, side):
            right, bottom = min(left + side, image.width), min(top + side, image.height)
            yield left, top, image.crop((left, top, right, bottom))


def _tile_to_rgb(image: Image.Image, gray_range: tuple[float, float] | None) -> Image.Image:
    if gray_range is not None:
        image = _to_gray(np.asarray(image), *gray_range)
    elif image.mode == "LAB":
        image = _lab_to_rgb(image)
    elif image.mode == "La":
        image = image.convert("LA")
    if not image.has_transparency_data:
        return image.convert("RGB")
    picture = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")


def _gray_range(image: Image.Image) -> tuple[float, float] | None:
    """Which values of deep gray become 0 and 255; None of a picture that is no deep gray.

    0 and the first of the usual tops that holds all, else the picture's own least and greatest.
    """
    if image.mode not in ("I", "F") and not image.mode.startswith("I;"):
        return None
    tops = (1.0, 255.0, 65535.0) if image.mode == "F" else (65535.0,)
    finite = (_finite(np.asarray(tile)) for _, _, tile in _tiles(image, _TILE))
    lows, highs = zip(*((float(tile.min()), float(tile.max())) for tile in finite), strict=True)
    low, high = min(lows), max(highs)
    top = next((top for top in tops if low >= 0 and high <= top), None)
    return (low, high) if top is None else (0.0, top)


def _finite(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _to_gray(values: NDArray[Any], low: float, high: float) -> Image.Image:
    """Deep gray to 8 bits, from low..high to 0..255."""
    gray = (_finite(values) - low) * 255 / ((high - low) or 1.0)
    return Image.fromarray(np.rint(gray).astype(np.uint8))


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    if converted is None:  # only when it works in place
        raise ValueError("no color conversion")
    return converted
