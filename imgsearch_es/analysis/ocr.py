"""The text in pictures, by RapidOCR, whose models come in its package (extra ``ocr``)."""

from __future__ import annotations

import numpy as np
from PIL import Image

from imgsearch_es.errors import needed

_LONGEST = 8_000
"""Characters of a picture's text, which a store takes in any writing."""
_THINNEST = 8
"""Times that a picture is as long as it is wide, at most: the shorter side is scaled to 736 pixels,
so one of 1 x 1,200 took all memory. Thinner ones get a white margin."""


class TextReader:
    """Reads what stands in pictures.

    Raises:
        MissingDependencyError: RapidOCR is not installed.
    """

    def __init__(self) -> None:
        rapidocr = needed("rapidocr", "reading the text in pictures needs rapidocr", "ocr")
        self._engine = rapidocr.RapidOCR(params={"Global.log_level": "critical"})

    def read(self, image: Image.Image) -> str:
        """The lines of text in an RGB picture, from top to bottom; "" where there are none."""
        least = -(-max(image.size) // _THINNEST)
        if min(image.size) < least:
            whole = Image.new("RGB", (max(image.width, least), max(image.height, least)), "white")
            whole.paste(image)
            image = whole
        found = self._engine(np.asarray(image)[:, :, ::-1])  # it takes the order of OpenCV
        return "\n".join(found.txts or ())[:_LONGEST]
