"""Decoding pictures for the model, here or in worker processes.

A decoder that crashes or hangs on a hostile file takes its process along, so a run over many files
decodes in processes of its own. They know Pillow and the image filters, and never import
TensorFlow: ``process.py`` is the parent's side, ``worker.py`` the child's. Large pictures wait for
one another, so that their number does not multiply their memory.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields

import numpy as np
import PIL
from numpy.typing import NDArray

from imgsearch_es.errors import ImageError
from imgsearch_es.pictures.files import Limits
from imgsearch_es.pictures.images import Facts, Picture
from imgsearch_es.pictures.optional import installed

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
    decoders = ", ".join([f"Pillow {PIL.__version__}", *installed()])
    return (
        f"{decoders}, {limits.max_pixels} pixels, {limits.max_bytes} bytes, "
        f"{limits.max_seconds:g} seconds"
    )
