"""What opens each kind of file, and 8-bit RGB of what comes out, within bounded memory.

Only Pillow's decoders that need no other program are used. HEIF, RAW (by its preview) and a video's
frame take a package of an extra. Their decoders are called as Pillow's are: by a worker process,
within its limits of memory and time, and only after ``check`` has seen how large the picture is.

Transparent pixels are laid on white; ICC profiles are not applied (nor are they where the
classifiers were trained); LAB becomes sRGB. Gray deeper than 8 bits: 0..65535 becomes 0..255, and
of floats so do 0..1 and 0..255 where all values lie in them; any other range is stretched from its
least to its greatest value.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile

from imgsearch_es.errors import needed

_PLUGINS = (
    "Avif", "Bmp", "Dds", "Gif", "Jpeg", "Jpeg2K", "Pcx", "Png", "Ppm", "Psd", "Qoi", "Sgi", "Sun",
    "Tga", "Tiff", "WebP",
)  # fmt: skip
DECODERS: dict[str, type[ImageFile]] = {
    decoder.format: decoder
    for name in _PLUGINS
    for decoder in [getattr(import_module(f"PIL.{name}ImagePlugin"), f"{name}ImageFile")]
}
"""Pillow's, by the name of the format in an index."""
Check = Callable[[tuple[int, int]], None]
"""Called with width and height; raises where that is too much."""

_FLIPS = {3: 3, 5: 8, 6: 6}
"""LibRaw's ``flip`` as EXIF's orientation."""
_CONTAINERS = "mov,matroska,avi,asf,mpeg,mpegvideo,mpegts"
"""Kinds of videos, as FFmpeg names them: by others (lists of files, descriptions of streams) a file
has it open more than itself."""
CREATED = "creation_time"
"""Where ``info`` of a video's frame says when it was taken, in UTC."""


def _open_heif(file: BinaryIO, check: Check) -> Image.Image:
    """The primary picture, upright already."""
    heif = needed("pillow_heif", "HEIF pictures need pillow-heif", "heif")
    image: Image.Image = heif.HeifImageFile(file)
    check(image.size)
    return image


def _open_raw(file: BinaryIO, check: Check) -> Image.Image:
    """The preview that the camera made."""
    rawpy = needed("rawpy", "the preview in a RAW file needs rawpy", "raw")
    with rawpy.imread(file) as raw:
        flip = _FLIPS.get(raw.sizes.flip, 1)
        try:
            preview = raw.extract_thumb()
        except rawpy.LibRawNoThumbnailError:
            raise ValueError("it has no preview") from None
    if preview.format != rawpy.ThumbFormat.JPEG:
        check(preview.data.shape[1::-1])
        image: Image.Image = Image.fromarray(preview.data)
    else:
        image = DECODERS["JPEG"](io.BytesIO(preview.data))
        check(image.size)
    if "exif" not in image.info:
        turned = struct.pack("<HHHIHH", 1, 274, 3, 1, flip, 0)
        image.info["exif"] = b"Exif\0\0II*\0\x08\0\0\0" + turned
    return image


def _open_video(file: BinaryIO, check: Check) -> Image.Image:
    """The first whole frame after a tenth of a video: the very first is often black."""
    av = needed("av", "a frame of a video needs PyAV", "video")
    alone = {"format_whitelist": _CONTAINERS, "protocol_whitelist": ""}
    is_old = int(av.__version__.partition(".")[0]) < 19  # since then any bytes may be in a tag
    tags = {"metadata_errors": "replace"} if is_old else {}
    with av.open(file, options=alone, **tags) as container:
        stream = next(iter(container.streams.video), None)
        if stream is None or stream.codec_context is None:
            raise ValueError("it has no pictures, or none of a known kind")
        check((stream.codec_context.width, stream.codec_context.height))
        stream.codec_context.thread_count = 1
        if container.duration:
            container.seek(container.duration // 10)
        frame: Any = next(container.decode(stream), None)
        if frame is None:
            raise ValueError("none of its frames can be decoded")
        check((frame.width, frame.height))
        image: Image.Image = frame.to_image()
        image = image.rotate(frame.rotation, expand=True) if frame.rotation else image
        image.info[CREATED] = container.metadata.get(CREATED, "")
    return image


_OPTIONAL = {"HEIF": _open_heif, "RAW": _open_raw, "VIDEO": _open_video}
PACKAGES = ("pillow-heif", "rawpy", "av")
"""That these need."""


def open_kind(data: bytes, kind: str, check: Check) -> Image.Image:
    """Open a file of this format, whose pixels are mostly not decoded yet."""
    file, decoder = io.BytesIO(data), DECODERS.get(kind)
    return decoder(file) if decoder else _OPTIONAL[kind](file, check)


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
        low, high = gray_range
        gray = (_finite(np.asarray(image)) - low) * 255 / ((high - low) or 1.0)
        image = Image.fromarray(np.rint(gray).astype(np.uint8))
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
    return np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    if converted is None:  # only when it works in place
        raise ValueError("no color conversion")
    return converted
