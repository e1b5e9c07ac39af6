"""Examples to learn from: stored features, each of an object, and their division by objects.

For a shallow network there are pictures, too: a quarter as wide and as high, and kept in memory. To
make them so small is the network's first step and has no weights, so for training it is done once,
when a picture is read. In float32 a picture of 224 x 224 pixels then takes 38 kB.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import ConfigurationError

STEP = 4
"""Each pixel of a small picture is the mean of so many by so many."""
_SMALLEST = 2 * STEP
"""Pixels: the network makes pictures smaller by two once more."""


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
        """Make pictures small: the mean of each 4 x 4 pixels, without what is left over.

        A sum of 16 whole numbers is exact in float32, so this is what the network computes, bit by
        bit.

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
        count, height, width, _ = pixels.shape
        if min(height, width) < _SMALLEST:
            raise ConfigurationError(
                f"pictures of {width} x {height} pixels are too small for a shallow network; it "
                f"takes {_SMALLEST} x {_SMALLEST} or more"
            )
        rows, columns = height // STEP, width // STEP
        whole = pixels[:, : rows * STEP, : columns * STEP]
        blocks = whole.reshape(count, rows, STEP, columns, STEP, 3)
        return cls(np.asarray(blocks.mean(axis=(2, 4), dtype=np.float32)), (height, width))


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Features of pictures and the object that each shows.

    Attributes:
        features: float32 of shape (pictures, dimensions).
        groups: numbers of the objects from 0 on, shape (pictures,).
        names: of the objects, in the order of their numbers.
        pictures: of the whole collection, for a shallow network: its parts share them.
        places: where those of these examples are among them, shape (pictures,).
    """

    features: NDArray[np.float32]
    groups: NDArray[np.intp]
    names: tuple[str, ...]
    pictures: Pictures | None
    places: NDArray[np.intp]

    @classmethod
    def of(
        cls,
        features: NDArray[np.float32],
        groups: Sequence[Hashable],
        pictures: Pictures | None = None,
    ) -> Examples:
        """Examples of objects with any names; pictures that are alone in theirs are left out.

        Objects are numbered as they come, so that a seed divides them alike whatever their names.

        Raises:
            ConfigurationError: the shapes do not fit, a feature is not finite, or there are fewer
                than two objects with two pictures.
        """
        vectors = np.asarray(features, dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) != len(groups):
            raise ConfigurationError(
                f"features of shape {vectors.shape} do not go with {len(groups)} groups; they have "
                "the shape (pictures, dimensions), and each picture is of one object"
            )
        if pictures is not None and len(pictures.small) != len(vectors):
            raise ConfigurationError(
                f"there are pixels of {len(pictures.small)} pictures and features of {len(vectors)}"
            )
        wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(wrong):
            raise ConfigurationError(f"the feature of picture {wrong[0]} is not finite")
        order: dict[str, int] = {}
        numbers = np.array([order.setdefault(str(group), len(order)) for group in groups], np.intp)
        names, sizes = tuple(order), np.bincount(numbers, minlength=len(order))
        kept = sizes[numbers] > 1
        left = np.flatnonzero(sizes > 1)
        if len(left) < 2:
            raise ConfigurationError(
                f"there are {len(left)} objects with two or more pictures among {len(vectors)} "
                "pictures; a head learns from pairs of pictures of one object against others"
            )
        renumbered = np.searchsorted(left, numbers[kept])
        found = tuple(names[i] for i in left)
        return cls(vectors[kept], renumbered, found, pictures, np.flatnonzero(kept))

    def __len__(self) -> int:
        return len(self.features)

    @property
    def dimensions(self) -> int:
        """Length of a feature."""
        return int(self.features.shape[1])

    def inputs(self, rows: NDArray[np.intp] | slice = slice(None)) -> list[NDArray[np.float32]]:
        """What a head takes of some of the pictures: features, and small pictures if there are."""
        if self.pictures is None:
            return [self.features[rows]]
        return [self.features[rows], self.pictures.small[self.places[rows]]]

    def select(self, objects: Sequence[int] | NDArray[np.intp]) -> Examples:
        """The pictures of some objects, which are numbered anew in the order given."""
        place = np.full(len(self.names), -1)
        place[np.asarray(objects)] = np.arange(len(objects))
        rows = np.flatnonzero(place[self.groups] >= 0)
        groups, names = place[self.groups[rows]], tuple(self.names[i] for i in objects)
        return Examples(self.features[rows], groups, names, self.pictures, self.places[rows])

    def divide(self, share: float, seed: int) -> tuple[Examples, Examples, Examples]:
        """Divide the objects at random in three; each is in one part, and two or more are in each.

        Args:
            share: of the objects that go to the second part, and of those that go to the third.
            seed: of the choice.

        Raises:
            ConfigurationError: the share is not between 0 and 0.5, or there are too few objects.
        """
        if not 0 < share < 0.5:
            raise ConfigurationError(
                f"the share of the objects that are held out, twice, is between 0 and 0.5, not "
                f"{share}"
            )
        count = len(self.names)
        if count < 6:
            raise ConfigurationError(
                f"there are {count} objects; to learn, to choose and to measure, on two or more "
                "each, takes six"
            )
        size = min(max(2, round(share * count)), (count - 2) // 2)
        order = np.random.default_rng([seed, count]).permutation(count)
        parts = order[2 * size :], order[:size], order[size : 2 * size]
        first, second, third = (self.select(np.sort(part)) for part in parts)
        return first, second, third

    def batches(
        self, objects: int, pictures: int, rng: np.random.Generator
    ) -> Iterator[NDArray[np.intp]]:
        """Places of the pictures of one epoch, batch by batch: every object once.

        A batch has about so many objects, and at most so many pictures of one, chosen at random.
        """
        order = rng.permutation(len(self.names))
        parts = np.array_split(order, max(1, round(len(order) / objects)))
        by_object = np.argsort(self.groups, kind="stable")
        starts = np.searchsorted(self.groups[by_object], np.arange(len(self.names) + 1))
        for part in parts:
            chosen = []
            for number in part:
                own = by_object[starts[number] : starts[number + 1]]
                chosen.append(own if len(own) <= pictures else rng.permutation(own)[:pictures])
            yield np.concatenate(chosen)
