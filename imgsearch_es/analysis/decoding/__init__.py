"""Decoding pictures for the model, here or in worker processes.

A decoder that crashes or hangs on a hostile file takes its process along, so a run over many files
decodes in processes of its own. They know Pillow and the image filters, and never import
TensorFlow: ``process.py`` is the parent's side, ``worker.py`` the child's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray

from imgsearch_es.analysis.filters import create_image_filter, decode_size, run_image_filters
from imgsearch_es.pictures.files import Limits
from imgsearch_es.pictures.images import Facts, Picture, open_image

AREA = 4 << 20
"""Bytes that parent and worker share: pixels come there, and through a pipe what has no room."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoded(Facts):
    """One picture, ready for the model; its full-size pixels are let go.

    Attributes:
        pixels: what the image filters made of it: uint8 of shape (height, width, 3), RGB.
    """

    pixels: NDArray[np.uint8]

    @classmethod
    def of(cls, picture: Picture, pixels: NDArray[np.uint8]) -> Decoded:
        """An opened picture with what the image filters made of it."""
        facts = {field.name: getattr(picture, field.name) for field in fields(Facts)}
        return cls(**facts, pixels=pixels)


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that cannot be decoded.

    Attributes:
        reason: why.
        sha256: of its bytes, hexadecimal; empty when it cannot be read.
        is_shortage: for want of memory or time, so that another time it may be decoded.
    """

    reason: str
    sha256: str
    is_shortage: bool = False


@dataclass(frozen=True, slots=True)
class Large:
    """A file that is decoded in its turn.

    Attributes:
        pixels: how many it has.
    """

    pixels: int


class Decoder:
    """Decodes a file's bytes and runs the image filters; safe in many threads.

    Args:
        image_filters: their configurations, as the analyzer keeps them.
        limits: the largest picture to accept.

    Raises:
        AnalyzerError: there is no such image filter here.
    """

    def __init__(self, image_filters: Sequence[Mapping[str, Any]], limits: Limits) -> None:
        self._filters = [create_image_filter(config) for config in image_filters]
        self._limits = limits

    def decode(
        self, data: bytes, uri: str, admit: Callable[[int], None] = lambda pixels: None
    ) -> Decoded:
        """Decode one picture.

        Args:
            data: the file.
            uri: its name in errors.
            admit: as `open_image` takes it.

        Raises:
            ImageError: it cannot be decoded, and why.
        """
        picture = open_image(
            data, uri=uri, limits=self._limits, at_least=decode_size(self._filters), admit=admit
        )
        return Decoded.of(picture, run_image_filters(self._filters, picture.image))


def described(limits: Limits) -> str:
    """What pictures are tried with; a rejected one deserves another try when this changes."""
    return (
        f"Pillow {PIL.__version__}, {limits.max_pixels} pixels, {limits.max_bytes} bytes, "
        f"{limits.max_seconds:g} seconds"
    )
