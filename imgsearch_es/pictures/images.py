"""Open, check and decode pictures; what a picture is and how it is named.

Every source ends as one `Picture`: 8-bit RGB, upright, the first frame, with its URI and hash.
A file's name is not trusted: the first bytes say which decoder is used, and only Pillow's
decoders that need no other program are. The decoder is called directly, not through
``PIL.Image.open``, whose check against decompression bombs hangs on a process-wide setting and
warns; the limit here is each call's own.
"""

from __future__ import annotations

import hashlib
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from imgsearch_es.errors import (
    ConfigurationError,
    ImageError,
    MissingDependencyError,
    ShortageError,
)
from imgsearch_es.pictures.archives import PACKED
from imgsearch_es.pictures.decoders import DECODERS, open_kind, to_rgb
from imgsearch_es.pictures.files import (
    Limits,
    blocks,
    check_size,
    filename,
    picture_id,
    read_bytes,
    reason,
    to_uri,
)
from imgsearch_es.pictures.photo import NO_PHOTO, Photo, orientation, read_photo
from imgsearch_es.pictures.sources import kind_of

ImageSource = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | NDArray[Any]
"""A path or URL, a picture file's bytes, a binary file object, a Pillow image or an array."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNED = range(5, 9)
"""Orientations that exchange width and height; what lies beyond means nothing."""
_DEFAULT_LIMITS = Limits()
_HEAVY = 1 << 25
"""Pixels of a progressive JPEG file, whose decoder holds up to six bytes for each until the end."""
_warnings_lock = threading.Lock()

T = TypeVar("T")


class _Strictly:
    """While a thread is within, Pillow refuses files that are cut off, whatever a program sets."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._is_lenient = False

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            self._is_lenient |= ImageFile.LOAD_TRUNCATED_IMAGES
            ImageFile.LOAD_TRUNCATED_IMAGES = False

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._is_lenient and not self._inside:
                self._is_lenient, ImageFile.LOAD_TRUNCATED_IMAGES = False, True


_strictly = _Strictly()


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """What is known of a picture beside its pixels.

    Attributes:
        uri: where it comes from; see `imgsearch_es.pictures.files`.
        sha256, bytes: hash and size of the file; without one, of the RGB pixels.
        width, height: in pixels, upright.
        format: "JPEG", "PNG", ..., "array" for an array or a Pillow image without a format.
        photo: what the file says of how it was taken.
    """

    uri: str
    sha256: str
    width: int
    height: int
    bytes: int
    format: str
    photo: Photo

    @property
    def id(self) -> str:
        """The document id, `picture_id` of the URI."""
        return picture_id(self.uri)

    @property
    def filename(self) -> str:
        """The last part of the URI, for people to read."""
        return filename(self.uri)


@dataclass(frozen=True, slots=True, eq=False)
class Picture(Facts):
    """One picture, opened: ``image`` has the pixels, 8-bit RGB, upright, of the first frame.

    >>> picture = open_image("photos/chelsea.jpg")
    >>> picture.format, picture.image.size
    ('JPEG', (451, 300))
    """

    image: Image.Image


def open_image(
    source: ImageSource,
    *,
    uri: str | None = None,
    limits: Limits = _DEFAULT_LIMITS,
    at_least: tuple[int, int] | None = None,
    admit: Callable[[int], None] = lambda pixels: None,
) -> Picture:
    """Read, check and decode one picture completely.

    Large pictures that take much memory beyond their pixels get smaller: those of more than 67
    million pixels that have to be converted or turned are averaged to at most 17 million, and
    progressive JPEG files of more than 34 million are decoded at half their size.

    >>> open_image("photos/chelsea.jpg").width
    451

    Args:
        source: a path or URL; a picture file's bytes; a binary file object, read from where it
            stands to its end; a Pillow image; or an array (height, width) or (height, width,
            1, 3 or 4) of uint8, uint16, bool, or floats in 0..1.
        uri: the picture's name in an index, instead of the path, or of ``sha256:<hex>`` for a
            picture from memory.
        limits: the largest picture to accept.
        at_least: (width, height) in pixels, upright. A JPEG file that is more than twice as large
            is decoded at 1/2, 1/4 or 1/8 of its size, never smaller than this: faster, with other
            pixels. ``width`` and ``height`` of the result stay those of the file.
        admit: called with the number of pixels of a file before they are decoded; may wait, or
            raise an ImageError.

    Raises:
        ImageError: the picture cannot be read, and why.
        ConfigurationError: ``source`` is none of these.
        MissingDependencyError: a URL needs a package that is not installed.
    """
    if isinstance(source, Image.Image):
        name = uri or "<image>"
        image = _guarded(lambda: _upright(source, name, limits), name, source.format or "Pillow")
        image = image.copy() if image is source else image
        return _from_pixels(image, source.format or "array", uri)
    if isinstance(source, np.ndarray):
        return _from_pixels(_from_array(source, uri or "<array>", limits), "array", uri)
    if isinstance(source, str | os.PathLike):
        place = to_uri(source)
        uri = uri or place
        data = read_bytes(place, limits)
    else:
        data = file_bytes(source, limits, uri)
    sha256 = hashlib.sha256(data).hexdigest()
    uri = uri or f"sha256:{sha256}"
    return _decode(data, uri, sha256, limits, at_least, admit)


def file_bytes(source: object, limits: Limits, uri: str | None = None) -> bytes:
    """What is in a picture's file that is in memory, or open; see ``open_image``."""
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        check_size(len(data), uri or "<bytes>", limits)
        return data
    if hasattr(source, "read"):
        return b"".join(blocks(cast(BinaryIO, source), uri or "<file>", limits))
    raise ConfigurationError(f"a picture cannot be read from a {type(source).__name__}")


def photo_of(uri: str, sha256: str) -> Photo:
    """How the picture in a file was taken, read again; as little is decoded as that takes.

    ImageError where the file cannot be read, or has another hash.
    """
    data = read_bytes(uri)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ImageError(uri, "the file has changed since it was indexed")
    kind = _kind(data, uri)

    def read() -> Photo:
        image = open_kind(data, kind, lambda size: _check_pixels(size, uri, _DEFAULT_LIMITS))
        if kind == "PNG":
            image.load()  # what it says may come after the pixels
        return read_photo(image.info, data, uri)

    return _guarded(read, uri, kind)


def _from_pixels(image: Image.Image, kind: str, uri: str | None) -> Picture:
    """A picture without a file: its hash is that of what is indexed, the RGB pixels."""
    pixels = image.tobytes()
    digest = hashlib.sha256(f"{image.mode} {image.width} {image.height} ".encode())
    digest.update(pixels)
    sha256 = digest.hexdigest()
    return Picture(
        uri or f"sha256:{sha256}", sha256, *image.size, len(pixels), kind, NO_PHOTO, image
    )


def _decode(
    data: bytes,
    uri: str,
    sha256: str,
    limits: Limits,
    at_least: tuple[int, int] | None,
    admit: Callable[[int], None],
) -> Picture:
    kind = _kind(data, uri)

    def check(size: tuple[int, int]) -> None:
        _check_pixels(size, uri, limits)
        admit(size[0] * size[1])

    def decode() -> Picture:
        image = open_kind(data, kind, check)
        size = image.size
        check(size)
        turned = orientation(image.info.get("exif")) in _TURNED
        if at_least is not None and kind == "JPEG":
            image.draft(None, at_least[::-1] if turned else at_least)
        elif size[0] * size[1] > _HEAVY and image.info.get("progressive"):
            image.draft(None, (size[0] // 2, size[1] // 2))
        else:
            image.load()
            size = image.size  # Pillow itself turns TIFF
        width, height = size[::-1] if turned else size
        upright = _upright(image, uri, limits)
        photo = read_photo(image.info, data, uri)
        if isinstance(upright, ImageFile.ImageFile):
            upright = upright.copy() if kind in ("WEBP", "AVIF") else upright
            upright.format = None
        return Picture(uri, sha256, width, height, len(data), kind, photo, upright)

    return _guarded(decode, uri, kind)


def _kind(data: bytes, uri: str) -> str:
    """The format of a file; ImageError where it is none that is known."""
    kind = kind_of(data, uri)
    if not data:
        raise ImageError(uri, "the file is empty")
    if kind is None and data.startswith(PACKED):
        raise ImageError(uri, "a packed archive, not a picture: unpack it and index what is in it")
    if kind is None:
        raise ImageError(uri, f"not a picture of a known format ({', '.join(DECODERS)})")
    return kind


def _guarded(decode: Callable[[], T], uri: str, kind: str) -> T:
    """Run a decoder; whatever it raises becomes an ImageError.

    Pillow warns about oddities that are no reason to reject a picture. Where the application has
    turned warnings into errors, and only there, decoding is repeated with warnings off.
    """
    try:
        try:
            with _strictly:
                return decode()
        except Warning:
            with _strictly, _warnings_lock, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return decode()
    except ImageError:
        raise
    except MissingDependencyError as error:
        raise ImageError(uri, str(error)) from error
    except MemoryError as error:
        raise ShortageError(uri, "there is not enough memory to decode it") from error
    except Image.DecompressionBombError as error:
        raise ImageError(uri, f"{reason(error)} Raise PIL.Image.MAX_IMAGE_PIXELS.") from error
    except Exception as error:  # decoders raise a dozen kinds on hostile files
        raise ImageError(uri, f"damaged {kind} picture: {reason(error)}") from error


def _upright(image: Image.Image, uri: str, limits: Limits) -> Image.Image:
    _check_pixels(image.size, uri, limits)
    image.load()
    upright = _UPRIGHT.get(orientation(image.info.get("exif")))  # Pillow itself turns TIFF
    rgb = to_rgb(image, is_turned=upright is not None)
    if upright is None:
        return rgb
    turned = rgb.transpose(upright)
    turned.info.pop("exif", None)  # lest it be turned again, when it is a source itself
    return turned


def _check_pixels(size: Sequence[int], uri: str, limits: Limits) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(uri, f"a picture of {width} x {height} pixels has no content")
    if width * height > limits.max_pixels:
        raise ImageError(
            uri, f"{width} x {height} pixels are over the limit of {limits.max_pixels:,}"
        )


def _from_array(array: NDArray[Any], uri: str, limits: Limits) -> Image.Image:
    shape = array.shape
    if array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] not in (1, 3, 4)):
        raise ImageError(
            uri, f"an array of shape {shape} is not (height, width) or (height, width, 1, 3 or 4)"
        )
    _check_pixels((shape[1], shape[0]), uri, limits)
    if array.dtype == np.bool_:
        pixels = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype.kind == "u" and array.dtype.itemsize == 2:
        pixels = np.rint(array.astype(np.float32) / 257).astype(np.uint8)
    elif np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):  # so NaN is refused too
            raise ImageError(uri, "the floats of an array must lie in 0..1")
        pixels = np.rint(array.astype(np.float32) * 255).astype(np.uint8)
    elif array.dtype == np.uint8:
        pixels = array
    else:
        raise ImageError(uri, f"an array of {array.dtype} is not uint8, uint16, bool or floats")
    if array.ndim == 3 and shape[2] == 1:
        pixels = pixels[:, :, 0]
    return to_rgb(Image.fromarray(np.ascontiguousarray(pixels)))
