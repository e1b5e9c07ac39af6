"""Small pictures of every format and in many ways, to be damaged."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

KINDS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF")


def seeds() -> dict[str, bytes]:
    """Encoded pictures by name, the same at every call."""
    pixels = np.random.default_rng(1).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[274] = 6
    exif[270] = "a description"
    found = {kind.lower(): encoded(image, kind) for kind in KINDS}
    found |= {
        "turned.jpg": encoded(image, "JPEG", exif=exif),
        "profile.jpg": encoded(image, "JPEG", icc_profile=bytes(200)),
        "progressive.jpg": encoded(image, "JPEG", progressive=True),
        "cmyk.jpg": encoded(image.convert("CMYK"), "JPEG"),
        "palette.png": encoded(image.quantize(8), "PNG", transparency=1),
        "deep.png": encoded(Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 255), "PNG"),
        "gray-alpha.png": encoded(image.convert("LA"), "PNG"),
        "turned.png": encoded(image, "PNG", exif=exif),
        "moving.gif": encoded(image, "GIF", save_all=True, append_images=[image.rotate(9)]),
        "moving.webp": encoded(image, "WEBP", save_all=True, append_images=[image.rotate(9)]),
        "lossless.webp": encoded(image.convert("RGBA"), "WEBP", lossless=True),
        "lzw.tif": encoded(image, "TIFF", compression="tiff_lzw"),
        "jpeg.tif": encoded(image, "TIFF", compression="jpeg"),
        "float.tif": encoded(image.convert("F"), "TIFF"),
        "bits.tif": encoded(image.convert("1"), "TIFF", compression="group4"),
        "rle.bmp": encoded(image.quantize(8), "BMP"),
    }
    return found


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """The file of a picture."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
