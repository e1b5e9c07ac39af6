"""The text in pictures, by RapidOCR, whose models come in its package (extra ``ocr``)."""

from __future__ import annotations

import numpy as np
from PIL import Image

from imgsearch_es.errors import needed

_LONGEST = 8_000
"""Characters of a picture's text, which a store takes in any writing."""


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
        found = self._engine(np.asarray(image)[:, :, ::-1])  # it takes the order of OpenCV
        return "\n".join(found.txts or ())[:_LONGEST]
