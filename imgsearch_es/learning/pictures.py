"""Pictures as a shallow network takes them: a quarter as wide and as high, and kept in memory.

To make them so small is the network's first step and has no weights. So for training it is done
once, when a picture is read. In float32 a picture of 224 x 224 pixels then takes 38 kB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.models.runtime import cores
from imgsearch_es.errors import ConfigurationError, ImageError
from imgsearch_es.pictures.files import in_memory
from imgsearch_es.retrieval.documents import Document

STEP = 4
"""Each pixel of a small picture is the mean of so many by so many."""
_SMALLEST = 2 * STEP
"""Pixels: the network makes pictures smaller by two once more."""

ReadingProgress = Callable[[int, int], None]
"""Called after each picture with those read so far and all of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Small pictures.

    Attributes:
        small: float32 of shape (pictures, height // 4, width // 4, 3), RGB, 0 to 255.
        size: (height, width) of the whole pictures in pixels.
    """

    small: NDArray[np.float32]
    size: tuple[int, int]

    @classmethod
    def of(cls, pixels: NDArray[np.uint8]) -> Pictures:
        """Make pictures small.

        Args:
            pixels: uint8 of shape (pictures, height, width, 3), as an analyzer prepares them.

        Raises:
            ConfigurationError: they have another shape or type, or are too small already.
        """
        pixels = np.asarray(pixels)
        if pixels.ndim != 4 or pixels.shape[3] != 3 or pixels.dtype != np.uint8:
            raise ConfigurationError(
                f"pixels are {pixels.dtype} of shape {pixels.shape}; a shallow network takes uint8 "
                "of shape (pictures, height, width, 3)"
            )
        if min(pixels.shape[1:3]) < _SMALLEST:
            raise ConfigurationError(
                f"pictures of {pixels.shape[2]} x {pixels.shape[1]} pixels are too small for a "
                f"shallow network; it takes {_SMALLEST} x {_SMALLEST} or more"
            )
        return cls(subsample(pixels), pixels.shape[1:3])


@dataclass(frozen=True, slots=True, eq=False)
class ReadAgain:
    """What became of documents whose pictures were read again.

    Attributes:
        pictures: of the documents in ``kept``.
        kept: places of the documents whose pictures could be read.
        unread: (uri, reason) of the others.
    """

    pictures: Pictures
    kept: list[int]
    unread: list[tuple[str, str]]


def subsample(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The mean of each 4 x 4 pixels; what is left at the right and below is dropped.

    A sum of 16 whole numbers is exact in float32, so this is what the network computes, bit by bit.

    Args:
        pixels: shape (..., height, width, 3).
    """
    *before, height, width, colors = pixels.shape
    rows, columns = height // STEP, width // STEP
    whole = pixels[..., : rows * STEP, : columns * STEP, :]
    blocks = whole.reshape(*before, rows, STEP, columns, STEP, colors)
    return np.asarray(blocks.mean(axis=(-4, -2), dtype=np.float32))


def read_again(
    analyzer: Analyzer, documents: Sequence[Document], reading: ReadingProgress | None = None
) -> ReadAgain:
    """Read the pictures of documents as they were read for the index, in threads.

    Args:
        analyzer: of the index; its image filters give pictures of one size.
        documents: whose pictures to read.
        reading: told how far it is.

    Raises:
        ConfigurationError: none can be read, or they are too small.
    """
    kept: list[int] = []
    unread: list[tuple[str, str]] = []
    pictures: Pictures | None = None
    for place, found in enumerate(_read_all(analyzer, documents)):
        if isinstance(found, str):
            unread.append((documents[place].uri, found))
        else:
            if pictures is None:
                empty = np.empty((len(documents), *found.small.shape[1:]), np.float32)
                pictures = Pictures(empty, found.size)
            pictures.small[len(kept)] = found.small[0]
            kept.append(place)
        if reading is not None:
            reading(place + 1, len(documents))
    if pictures is None:
        uri, reason = unread[0]
        raise ConfigurationError(
            f"a shallow network learns from pictures, and none of the {len(documents)} judged ones "
            f"can be read again, such as {uri}: {reason}"
        )
    return ReadAgain(Pictures(pictures.small[: len(kept)], pictures.size), kept, unread)


def _read_all(analyzer: Analyzer, documents: Sequence[Document]) -> Iterator[Pictures | str]:
    """The picture of each document, in order, or why there is none."""
    threads = ThreadPoolExecutor(cores() + 1, "imgsearch-train")
    try:
        yield from threads.map(lambda document: _read(analyzer, document), documents)
    finally:
        threads.shutdown(cancel_futures=True)  # so that Ctrl-C does not read to the end


def _read(analyzer: Analyzer, document: Document) -> Pictures | str:
    if in_memory(document.uri):
        return "came from memory and cannot be read again"
    try:
        picture = analyzer.open(document.uri)
    except ImageError as error:
        return error.reason
    if picture.sha256 != document.sha256:
        return "has changed since it was indexed"
    return Pictures.of(analyzer.prepare(picture.image)[np.newaxis])
