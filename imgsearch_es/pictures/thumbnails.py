"""Small pictures for people to look at: upright, on white, and as data URIs within a byte limit."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image

from imgsearch_es.errors import ConfigurationError, ImageError, ImgsearchError
from imgsearch_es.pictures.images import open_image
from imgsearch_es.pictures.turns import Turn

# Side of a thumbnail relative to the side shown, and JPEG quality: the first that fits is used.
_LADDER = ((1.5, 80), (1.0, 75), (0.7, 65), (0.45, 50))


@dataclass(frozen=True, slots=True)
class Thumb:
    """A thumbnail as a data URI with its size in pixels, or the reason why there is none."""

    data: str = ""
    size: tuple[int, int] = (0, 0)
    problem: str = ""


def thumbnail(source: str | Image.Image, size: int = 192, *, quality: int = 80) -> bytes:
    """A small JPEG of a picture: upright, on white, its longer side at most ``size`` pixels.

    A smaller one is not enlarged. ImageError where the picture is gone or cannot be read.
    """
    return _jpeg(shrink(source, size), size, quality)


LARGEST = 256
"""Pixels of the longer side of a thumbnail that an index keeps."""


def to_side(value: object) -> int:
    """What a person asks an index to keep: 0 for no thumbnails, or their longer side."""
    if type(value) is not int or not (value == 0 or 16 <= value <= LARGEST):
        raise ConfigurationError(
            f"thumbnails is the longer side in pixels, 16 to {LARGEST}, or 0 for none, not "
            f"{value!r:.60}"
        )
    return value


def kept_thumbnail(uri: str, side: int) -> str:
    """A JPEG of 2 to 3 KB, of 96 pixels, in base64; nothing where the picture cannot be read."""
    with Turn() as turn:
        try:
            image = open_image(uri, at_least=(2 * side, 2 * side), admit=turn.admit).image
        except (ImgsearchError, OSError, ValueError):
            return ""
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return base64.b64encode(_jpeg(image, side, quality=70)).decode("ascii")


def shrink(source: str | Image.Image, size: int) -> Image.Image:
    """``thumbnail``, but as a picture in RGB."""
    with Turn() as turn:
        image = open_image(source, admit=turn.admit).image
        image.thumbnail((size, size), Image.Resampling.LANCZOS)
    return image


def shrink_all(
    sources: Iterable[str | Image.Image], size: int
) -> Iterator[Image.Image | ImgsearchError]:
    """``shrink`` each picture, a few at a time, in order; a picture's error takes its place."""

    def shrunk(source: str | Image.Image) -> Image.Image | ImgsearchError:
        try:
            return shrink(source, size)
        except ImgsearchError as error:
            return error
        except (OSError, ValueError) as error:
            return ImageError(str(source), str(error))

    with ThreadPoolExecutor(4, thread_name_prefix="imgsearch-thumbnail") as pool:
        yield from pool.map(shrunk, sources)


def reason(error: ImgsearchError) -> str:
    """Why a picture cannot be shown, without its URI."""
    return error.reason if isinstance(error, ImageError) else str(error)


def embed(sources: Sequence[str | Image.Image], side: int, max_bytes: int) -> list[Thumb]:
    """Thumbnails in order. Each may use an equal share of the bytes left, at the coarsest all."""
    thumbs: list[Thumb] = []
    left = max_bytes
    for image in shrink_all(sources, round(side * _LADDER[0][0])):
        if isinstance(image, ImgsearchError):
            thumbs.append(Thumb(problem=reason(image)))
            continue
        data = _fit(image, side, left // (len(sources) - len(thumbs)), left)
        left -= len(data)
        limit = f"{max_bytes / 1e6:.3g} MB" if max_bytes >= 1e6 else f"{max_bytes / 1e3:.3g} kB"
        problem = "" if data else f"thumbnails are limited to {limit}"
        thumbs.append(Thumb(data, image.size, problem))
    return thumbs


def _fit(image: Image.Image, side: int, share: int, left: int) -> str:
    """The best data URI of at most ``share`` bytes, else the smallest within ``left``, else ""."""
    data = ""
    for scale, quality in _LADDER:
        jpeg = _jpeg(image, max(1, round(side * scale)), quality)
        data = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
        if len(data) <= share:
            return data
    return data if len(data) <= left else ""


def _jpeg(image: Image.Image, size: int, quality: int) -> bytes:
    small = image.copy()
    small.thumbnail((size, size), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=quality, optimize=True, progressive=True)
    return buffer.getvalue()
