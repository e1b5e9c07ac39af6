"""Decoding pictures for the model, here or in worker processes.

A decoder that crashes or hangs on a hostile file takes its process along, so a run over many files
decodes in processes of its own. They know Pillow and the image filters, and never import
TensorFlow: ``process.py`` is the parent's side, ``worker.py`` the child's. Large pictures wait for
one another, so that their number does not multiply their memory.

An analyzer may look at the whole of a picture and at overlapping tiles of it. A view is a number,
an index of `PARTS`; `VIEWS` says by name which an analyzer takes. (The search option ``views`` is
another thing: mirror images, rotations and crops of a query picture, see
`imgsearch_es.retrieval.feedback`.)
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgsearch_es.analysis.filters import ImageFilter, create_image_filter
from imgsearch_es.analysis.plugins import installed_version
from imgsearch_es.errors import AnalyzerError, ConfigurationError, ImageError
from imgsearch_es.pictures.decoders import PACKAGES
from imgsearch_es.pictures.files import Limits
from imgsearch_es.pictures.images import Facts, Picture

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
_LARGEST_COPY = 1 << 24
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
        sizes = [getattr(part, "decode_size", None) for part in self.filters]
        if any(sizes[1:]):
            raise AnalyzerError('resize with decode = "fast" must be the first image filter')
        if not sizes or sizes[0] is None:
            return None
        percent = min(right - left for left, _, right, _ in PARTS[: self.count])
        width, height = (math.ceil(100 * side / percent) for side in sizes[0])
        return width, height

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """Pixels of an RGB picture, 0 to 255, of shape (height, width, 3).

        With views (views, height, width, 3), the whole first; an AnalyzerError where the filters
        give these different sizes.
        """
        if self.views is None:
            return self._filtered(image)
        return stacked(list(map(self._filtered, self._cut(image))))

    def _filtered(self, image: Image.Image) -> NDArray[np.uint8]:
        for part in self.filters:
            image = part(image)
        return np.asarray(image, dtype=np.uint8)

    def _cut(self, image: Image.Image) -> Iterator[Image.Image]:
        yield image
        for view in range(1, self.count):
            box = box_of(view, *image.size)
            left, top, right, bottom = box
            factor = math.ceil(math.sqrt((right - left) * (bottom - top) / _LARGEST_COPY))
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


AREA = 4 << 20
"""Bytes that parent and worker share: pixels come there, and through a pipe what has no room."""
LARGE = 1 << 24
"""A picture of more pixels is decoded by a worker process that was told to, in its turn."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoded(Facts):
    """One picture, ready for the model; its full-size pixels are let go."""

    pixels: NDArray[np.uint8]
    """What `Preparation` made of it."""

    @classmethod
    def of(cls, picture: Picture, pixels: NDArray[np.uint8]) -> Decoded:
        """An opened picture with what the image filters made of it."""
        facts = {field.name: getattr(picture, field.name) for field in fields(Facts)}
        return cls(**facts, pixels=pixels)


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that cannot be decoded, and why."""

    reason: str
    sha256: str
    """Of its bytes, hexadecimal; empty when it cannot be read."""
    is_shortage: bool = False
    """For want of memory or time, so that another time it may be decoded."""


@dataclass(frozen=True, slots=True)
class Large:
    """A file of so many pixels that it is decoded in its turn."""

    pixels: int


class LargeError(ImageError):
    """A picture is large (``pixels`` says how), and it is not its turn."""

    def __init__(self, uri: str, pixels: int) -> None:
        super().__init__(uri, f"its {pixels:,} pixels are to be decoded in turn")
        self.pixels = pixels


class Turns:
    """Lets threads hold so many pixels at once, first come, first served; one may have more."""

    def __init__(self, pixels: int) -> None:
        self._pixels = self._free = pixels
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def take(self, pixels: int) -> Iterator[None]:
        """Wait until there is room, and hold it."""
        wanted, ticket = min(pixels, self._pixels), object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                self._changed.wait_for(lambda: self._waiting[0] is ticket and wanted <= self._free)
                self._free -= wanted
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += wanted
                self._changed.notify_all()


TURNS = Turns(50_000_000)
"""Of what this process decodes itself, one by one as people ask: query pictures, thumbnails."""


class Turn(ExitStack):
    """Holds the room of one picture for as long as its pixels are needed.

    A thread has one at a time: with two, threads would wait for one another.
    """

    def admit(self, pixels: int) -> None:
        """What `open_image` is to call; again when it decodes again."""
        self.close()
        self.enter_context(TURNS.take(pixels))


def described(limits: Limits) -> str:
    """What pictures are tried with; a rejected one deserves another try when this changes."""
    versions = ((package, installed_version(package)) for package in ("Pillow", *PACKAGES))
    decoders = ", ".join(f"{package} {version}" for package, version in versions if version)
    return (
        f"{decoders}, {limits.max_pixels} pixels, {limits.max_bytes} bytes, "
        f"{limits.max_seconds:g} seconds"
    )
