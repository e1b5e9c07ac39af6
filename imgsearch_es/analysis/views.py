"""Parts of a picture: an analyzer may look at the whole and at overlapping tiles of it.

A view is a number, an index of `PARTS`; which views an analyzer takes, `VIEWS` says by name. (The
search option ``views`` is another thing: mirror images, rotations and crops of a query picture,
see `imgsearch_es.retrieval.feedback`.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgsearch_es.analysis.filters import (
    ImageFilter,
    create_image_filter,
    decode_size,
    run_image_filters,
)
from imgsearch_es.errors import AnalyzerError, ConfigurationError

Box = tuple[int, int, int, int]
"""left, top, right, bottom: pixels of an upright picture."""


def _tiles(side: int, places: tuple[int, ...]) -> tuple[Box, ...]:
    return tuple((x, y, x + side, y + side) for y, x in product(places, places))


PARTS: tuple[Box, ...] = (
    (0, 0, 100, 100),
    *_tiles(60, (0, 40)),
    (20, 20, 80, 80),
    *_tiles(40, (0, 30, 60)),
)
"""The parts of a picture by the number of the view, as percent of its width and height: the whole;
four corners and the middle of 60 %; nine tiles of 40 %."""
VIEWS = {"tiles": 6, "tiles14": 15}
"""How many of them an analyzer takes, from the first on."""
_LARGE = 1 << 24
"""Pixels of the largest copy of a part; a larger part is averaged to fewer, to spare the memory."""


@dataclass(frozen=True)
class Preparation:
    """What makes the pixels for the model of a picture: views of it, and image filters."""

    filters: tuple[ImageFilter, ...]
    views: str | None = None
    """One of VIEWS; None for the whole alone."""

    def __post_init__(self) -> None:
        if self.views is not None and self.views not in VIEWS:
            raise ConfigurationError(
                f"views is {' or '.join(map(repr, VIEWS))}, or left out for the whole picture "
                f"alone, not {self.views!r}"
            )

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Preparation:
        """Of an analyzer's configuration."""
        return cls(tuple(map(create_image_filter, config["image_filters"])), config.get("views"))

    @property
    def count(self) -> int:
        """How many views there are of a picture."""
        return 1 if self.views is None else VIEWS[self.views]

    @property
    def decode_size(self) -> tuple[int, int] | None:
        """(width, height) of a picture whose smallest view the filters need not enlarge.

        That is what a decoder must not go below; None for the file's own size.
        """
        size = decode_size(self.filters)
        if size is None:
            return None
        percent = min(right - left for left, _, right, _ in PARTS[: self.count])
        width, height = (math.ceil(100 * side / percent) for side in size)
        return width, height

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """Pixels of an RGB picture, 0 to 255: of shape (height, width, 3), with views one more.

        Those have the shape (views, height, width, 3), the whole first.

        Raises:
            AnalyzerError: the filters give views of different sizes.
        """
        if self.views is None:
            return run_image_filters(self.filters, image)
        return stacked([run_image_filters(self.filters, view) for view in self._cut(image)])

    def _cut(self, image: Image.Image) -> Iterator[Image.Image]:
        yield image
        for view in range(1, self.count):
            box = box_of(view, *image.size)
            left, top, right, bottom = box
            factor = math.ceil(math.sqrt((right - left) * (bottom - top) / _LARGE))
            yield image.crop(box) if factor == 1 else image.reduce(factor, box)


def box_of(view: int, width: int, height: int) -> Box:
    """Where a view is in an upright picture of this size; never empty."""
    left, top, right, bottom = PARTS[view]
    left, right = _span(left, right, width)
    top, bottom = _span(top, bottom, height)
    return left, top, right, bottom


def _span(start: int, end: int, side: int) -> tuple[int, int]:
    first = min(round(start * side / 100), side - 1)
    return first, max(first + 1, round(end * side / 100))


def stacked(pixels: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pixels of one size as a batch; AnalyzerError where they are not."""
    if len({each.shape for each in pixels}) > 1:
        raise AnalyzerError(
            "the image filters give pictures of different sizes; end them with center_crop, or "
            "with resize with height and width"
        )
    return np.stack(pixels)


def count_of(pixels: NDArray[np.uint8]) -> int:
    """How many views are in what `Preparation` gave."""
    return len(pixels) if pixels.ndim == 4 else 1


def whole_of(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The whole picture, of shape (height, width, 3), in what `Preparation` gave."""
    return pixels[0] if pixels.ndim == 4 else pixels
