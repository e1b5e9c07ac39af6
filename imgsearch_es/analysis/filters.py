"""The built-in parts of an analyzer before and after the model, and the views that it looks at.

All are frozen dataclasses: their fields are their options, and make up their configuration.
Plug-ins register theirs under the same entry-point groups as the built-ins in setup.cfg.

An analyzer may look at the whole of a picture and at overlapping tiles of it. A view is a number,
an index of `PARTS`; `VIEWS` says by name which an analyzer takes. (The search option ``views`` is
another thing: mirror images, rotations and crops of a query picture, see
`imgsearch_es.retrieval.feedback`.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgsearch_es.analysis.plugins import create_part
from imgsearch_es.errors import AnalyzerError, ConfigurationError
from imgsearch_es.vocabulary.synsets import Vocabulary

IMAGE_FILTERS = "imgsearch_es.image_filters"
TERM_FILTERS = "imgsearch_es.term_filters"

Scores = NDArray[np.float32]
"""Of a batch, shape (pictures, terms); a score of zero is no term."""

_THIN = 64
"""How many times as long as wide a picture may be that is scaled whole: 256 x 16,384 pixels are
what scaling may cost, and the crop that follows keeps its middle."""
_LONG = 1 << 16
"""The longest side that is scaled at once, for Pillow holds coefficients for each pixel of it."""


class ImageFilter(Protocol):
    """A step before the model."""

    def __call__(self, image: Image.Image) -> Image.Image:
        """Give the changed RGB picture."""


class TermFilter(Protocol):
    """A step after the model."""

    def vocabulary(self, vocabulary: Vocabulary) -> Vocabulary:
        """The terms after this filter, given those before it."""

    def __call__(self, scores: Scores, vocabulary: Vocabulary) -> Scores:
        """Give new scores, and leave these; the vocabulary has the terms of their columns."""


_LARGEST_SIDE = 1 << 13
"""Pixels: no classifier takes nearly as many, and more take all memory."""


def _check_size(name: str, size: object) -> None:
    if type(size) is not int or not 1 <= size <= _LARGEST_SIDE:
        raise AnalyzerError(
            f"{name}: a size must be a whole number above 0, at most {_LARGEST_SIDE}, not {size!r}"
        )


@dataclass(frozen=True)
class Resize:
    """Scale a picture, to ``height`` x ``width`` or until its shorter side is ``shorter_side``.

    Or shrink it until its longer side is ``longer_side``. With height, width and "nearest" this is
    ``keras.utils.load_img(target_size=...)``, which the paper uses.

    Of a picture that is more than 64 times as long as wide, ``shorter_side`` scales the middle; one
    that is longer than 65,536 pixels is averaged before it is scaled otherwise. As the first
    filter, with ``decode`` "fast", it lets JPEG files be decoded at 1/2, 1/4 or 1/8 of their size
    where that is no smaller than what it scales to.
    """

    height: int | None = None
    width: int | None = None
    shorter_side: int | None = None
    interpolation: str = "nearest"
    decode: str | None = None
    longer_side: int | None = None

    def __post_init__(self) -> None:
        sizes = (self.height, self.width, self.shorter_side, self.longer_side)
        given = tuple(size is not None for size in sizes)
        if sum(given) != 1 + given[0] or given[0] != given[1]:
            raise AnalyzerError(
                "resize needs either height and width, or shorter_side, or longer_side"
            )
        for size in sizes:
            if size is not None:
                _check_size("resize", size)
        if self.decode not in (None, "fast"):
            raise AnalyzerError(f'resize: decode is "fast" or left out, not {self.decode!r}')
        if self.interpolation.upper() not in Image.Resampling.__members__:
            known = ", ".join(name.lower() for name in Image.Resampling.__members__)
            raise AnalyzerError(
                f"resize: no interpolation {self.interpolation!r}; known are {known}"
            )

    @property
    def decode_size(self) -> tuple[int, int] | None:
        """(width, height) that a decoder must not go below; None for the file's own size."""
        if self.decode is None:
            return None
        side = self.shorter_side or self.longer_side
        return (side, side) if side else (cast(int, self.width), cast(int, self.height))

    def __call__(self, image: Image.Image) -> Image.Image:
        resampling = Image.Resampling[self.interpolation.upper()]
        if self.shorter_side is not None:
            image = _middle(image)
        elif max(image.size) > _LONG and resampling is not Image.Resampling.NEAREST:
            image = image.reduce((-(-image.width // _LONG), -(-image.height // _LONG)))
        if self.width and self.height:
            width, height = self.width, self.height
        else:
            scale = (self.shorter_side or 0) / min(image.size)
            if self.longer_side:
                scale = min(1.0, self.longer_side / max(image.size))
            width, height = (max(1, round(side * scale)) for side in image.size)
        return image if image.size == (width, height) else image.resize((width, height), resampling)


def _middle(image: Image.Image) -> Image.Image:
    """Without the ends of a picture that is too thin, which no crop of its middle would keep."""
    longest = _THIN * min(image.size)
    left, top = (max(0, (side - longest) // 2) for side in image.size)
    if not left and not top:
        return image
    return image.crop((left, top, image.width - left, image.height - top))


@dataclass(frozen=True)
class CenterCrop:
    """Cut ``height`` x ``width`` pixels from the middle; a smaller picture is padded with black."""

    height: int
    width: int

    def __post_init__(self) -> None:
        for size in (self.height, self.width):
            _check_size("center_crop", size)

    def __call__(self, image: Image.Image) -> Image.Image:
        left = (image.width - self.width) // 2
        top = (image.height - self.height) // 2
        return image.crop((left, top, left + self.width, top + self.height))


class _SameVocabulary:
    def vocabulary(self, vocabulary: Vocabulary) -> Vocabulary:
        return vocabulary


@dataclass(frozen=True)
class TopK(_SameVocabulary):
    """Keep the ``k`` best terms of each picture; of equal ones the first in the vocabulary."""

    k: int = 10

    def __post_init__(self) -> None:
        if type(self.k) is not int or self.k < 1:
            raise AnalyzerError(f"top_k: k must be a whole number above 0, not {self.k!r}")

    def __call__(self, scores: Scores, vocabulary: Vocabulary) -> Scores:
        if self.k >= scores.shape[1]:
            return scores
        least = np.partition(scores, -self.k, axis=1)[:, -self.k, np.newaxis]
        is_kept = scores >= least
        for row in np.flatnonzero(is_kept.sum(axis=1) != self.k):  # several are the least
            is_kept[row] = False
            is_kept[row, np.argsort(-scores[row], kind="stable")[: self.k]] = True
        return np.where(is_kept, scores, np.float32(0))


@dataclass(frozen=True)
class MinScore(_SameVocabulary):
    """Drop terms that score less than ``min_score``."""

    min_score: float

    def __post_init__(self) -> None:
        if not isinstance(self.min_score, int | float) or not math.isfinite(self.min_score):
            raise AnalyzerError(f"min_score takes a finite number, not {self.min_score!r}")

    def __call__(self, scores: Scores, vocabulary: Vocabulary) -> Scores:
        return np.where(scores >= np.float32(self.min_score), scores, np.float32(0))


@dataclass(frozen=True)
class Sqrt(_SameVocabulary):
    """Take the square root of each score: formula (1) becomes Bhattacharyya's coefficient."""

    def __call__(self, scores: Scores, vocabulary: Vocabulary) -> Scores:
        roots: Scores = np.sqrt(scores)
        return roots


@dataclass(frozen=True)
class L2Normalize(_SameVocabulary):
    """Scale each picture's scores to length 1: formula (1) becomes the cosine."""

    def __call__(self, scores: Scores, vocabulary: Vocabulary) -> Scores:
        length = np.linalg.norm(scores, axis=1, keepdims=True)
        scaled: Scores = np.divide(scores, length, out=np.zeros_like(scores), where=length > 0)
        return scaled


@dataclass(frozen=True)
class Hypernyms:
    """Add every hypernym as a term; a parent scores the sum of the classes below it.

    Put before ``top_k``, the sum runs over the whole posterior; after it, over the kept classes.
    """

    def vocabulary(self, vocabulary: Vocabulary) -> Vocabulary:
        """The classes, then all their hypernyms."""
        return vocabulary.with_hypernyms()

    def __call__(self, scores: Scores, vocabulary: Vocabulary) -> Scores:
        # In float64, so that a picture's sums do not depend on those it is analyzed with.
        sums: Scores = (scores.astype(np.float64) @ _sums(vocabulary)).astype(np.float32)
        return sums


@lru_cache(maxsize=2)
def _sums(vocabulary: Vocabulary) -> Any:
    """Which class, in rows, is at or below which synset, in columns: a sparse matrix of ones."""
    from scipy.sparse import csr_array

    wider = vocabulary.with_hypernyms()
    column = {key: i for i, key in enumerate(wider.keys)}
    places = [
        (row, column[at])
        for row, key in enumerate(vocabulary.keys)
        for at in (key, *(above.key for above in vocabulary.hypernyms(key)))
    ]
    rows, columns = zip(*places, strict=True)
    return csr_array((np.ones(len(places)), (rows, columns)), (len(vocabulary), len(wider)))


def create_image_filter(config: Mapping[str, Any]) -> ImageFilter:
    """Build an image filter; see `create_part`."""
    return cast(ImageFilter, create_part(IMAGE_FILTERS, "image filter", config))


def create_term_filter(config: Mapping[str, Any]) -> TermFilter:
    """Build a term filter; see `create_part`."""
    return cast(TermFilter, create_part(TERM_FILTERS, "term filter", config))


def with_fast_decode(configs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The configurations of image filters, the first of them, ``resize``, with fast decoding."""
    if not configs or configs[0].get("name") != "resize":
        raise AnalyzerError("fast decoding needs resize as the first image filter")
    return [{**configs[0], "decode": "fast"}, *map(dict, configs[1:])]


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
