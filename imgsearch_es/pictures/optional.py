"""Kinds of pictures that take a package of an extra: HEIF, RAW by its preview, a video's frame.

Their decoders are called as Pillow's are: by a worker process, within its limits of memory and
time, and only after ``check`` has seen how large the picture is.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any, BinaryIO

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from imgsearch_es.errors import needed

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
        image = JpegImageFile(io.BytesIO(preview.data))
        check(image.size)
    if "exif" not in image.info:
        turned = struct.pack("<HHHIHH", 1, 274, 3, 1, flip, 0)
        image.info["exif"] = b"Exif\0\0II*\0\x08\0\0\0" + turned
    return image


def _open_video(file: BinaryIO, check: Check) -> Image.Image:
    """The first whole frame after a tenth of a video: the very first is often black."""
    av = needed("av", "a frame of a video needs PyAV", "video")
    alone = {"format_whitelist": _CONTAINERS, "protocol_whitelist": ""}
    with av.open(file, options=alone, metadata_errors="replace") as container:
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


OPTIONAL = {"HEIF": _open_heif, "RAW": _open_raw, "VIDEO": _open_video}
"""What opens each, by the name of the format in an index."""
_PACKAGES = ("pillow-heif", "rawpy", "av")
"""That they need."""


def installed() -> list[str]:
    """The packages that are here, with their versions."""
    found = []
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return found
