"""Examples to learn from: features of an index, each of an object, and their division by objects.

For a shallow network there are pictures, too: a quarter as wide and as high, and kept in memory. To
make them so small is the network's first step and has no weights, so for training it is done once,
when a picture is read. In float32 a picture of 224 x 224 pixels then takes 38 kB.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.filters import whole_of
from imgsearch_es.analysis.models.runtime import cores
from imgsearch_es.errors import ConfigurationError, ImageError
from imgsearch_es.evaluation import Collection, Judgements, make_task
from imgsearch_es.index import ImageIndex
from imgsearch_es.learning.head import STEP
from imgsearch_es.pictures.files import in_memory
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.stores.base import known_settings

_SMALLEST = 2 * STEP
"""Pixels: the network makes pictures smaller by two once more."""
_MISSING = {"None", "nan", "NaT", "<NA>"}
"""What a table has where a picture has no label: all those pictures would be one object."""
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
        """Make pictures small: the mean of each 4 x 4 pixels, without what is left over.

        A sum of 16 whole numbers is exact in float32, so this is what the network computes, bit by
        bit. ConfigurationError where they are not as an analyzer prepares them, or too small.
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
        for number, group in enumerate(groups):
            if not isinstance(group, str) and str(group) in _MISSING:
                raise ConfigurationError(f"picture {number} has no group ({group}): leave it out")
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
        """Divide the objects at random in three, two or more in each part.

        ``share`` of them go to the second part, and as many to the third.
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


def features_and_groups(
    index: ImageIndex, judgements: str | os.PathLike[str] | Judgements = "labels"
) -> tuple[NDArray[np.float32], list[str]]:
    """The stored features of judged pictures, in the order of their names, and their objects.

    Pictures that are relevant to each other, be it by way of others, show one object.

    Returns:
        Features of shape (pictures, dimensions), and the object of each: an id of its pictures.
    """
    return _judged(index, judgements)[1:]


def examples_of(
    index: ImageIndex,
    judgements: str | os.PathLike[str] | Judgements = "labels",
    *,
    shallow: bool = False,
    reading: ReadingProgress | None = None,
) -> tuple[Examples, list[tuple[str, str]]]:
    """The judged pictures, and (uri, reason) of those that a shallow network cannot see."""
    documents, features, groups = _judged(index, judgements)
    if not shallow:
        return Examples.of(features, groups), []
    pictures, kept, unread = read_again(_analyzer_beside(index, documents), documents, reading)
    return Examples.of(features[kept], [groups[place] for place in kept], pictures), unread


def objects(judgements: Judgements) -> dict[str, str]:
    """The object of each judged picture: the smallest id of those that belong together."""
    from scipy.cluster.hierarchy import DisjointSet  # takes a moment to import

    together, done = DisjointSet(judgements.queries), set[int]()
    for query in judgements.queries:
        shared = id(judgements.grades[query])
        if shared not in done:  # queries of one object share their judgements
            done.add(shared)
            for other in judgements.relevant(query):
                together.add(other)
                together.merge(query, other)
    return {key: min(group) for group in together.subsets() for key in group}


def _judged(
    index: ImageIndex, judgements: str | os.PathLike[str] | Judgements
) -> tuple[list[Document], NDArray[np.float32], list[str]]:
    """The judged pictures, their deep features, and the object of each."""
    index.count()  # raises when there is no index
    documents = {document.id: document for document in index.store.documents()}
    collection = Collection(documents.values())
    groups = objects(make_task(judgements, collection).judgements)
    kept = [item.id for item in collection.items if item.id in groups]
    found = [documents[key] for key in kept]
    vectors = [document.embedding for document in found if document.embedding is not None]
    without = len(found) - len(vectors)
    if without or not found:
        raise ConfigurationError(
            f"{index.location}: {without} of {len(found)} judged pictures have "
            "no deep feature to learn from; index them with an analyzer that gives one"
        )
    return found, np.stack(vectors), [groups[key] for key in kept]


def _analyzer_beside(index: ImageIndex, documents: Sequence[Document]) -> Analyzer:
    """The analyzer of an index, when a network can be put beside its model."""
    settings = known_settings(index.store)
    imported = sum(not document.is_read for document in documents)
    if imported or not settings.has_model:
        raise ConfigurationError(
            f"{index.location}: {imported} of {len(documents)} judged pictures have imported "
            "features, and were never read; a shallow network learns beside the model that made "
            "the features: index the pictures"
        )
    feature = settings.analyzer.get("embedding")
    behind = settings.analyzer.get("embedding_filters")
    if behind or (isinstance(feature, Mapping) and "parallel" in feature):
        by = "embedding_filters" if behind else "a network in parallel"
        raise ConfigurationError(
            f"{index.location}: its deep features have passed through {by}; a shallow network "
            "learns beside what the model gives: use an index made without"
        )
    analyzer = index.analyzer
    if not hasattr(analyzer.model, "use_deep_feature"):
        raise ConfigurationError(
            f"the model {analyzer.model.name} takes no network in parallel: train without a "
            "shallow one"
        )
    return analyzer


def read_again(
    analyzer: Analyzer, documents: Sequence[Document], reading: ReadingProgress | None = None
) -> tuple[Pictures, list[int], list[tuple[str, str]]]:
    """Read the pictures of documents again, in threads, as they were read for the index.

    Gives those that can be read, the places of their documents, and (uri, reason) of the others.
    """
    kept: list[int] = []
    unread: list[tuple[str, str]] = []
    pictures: Pictures | None = None
    threads = ThreadPoolExecutor(cores() + 1, "imgsearch-train")
    try:
        for place, found in enumerate(threads.map(partial(_read, analyzer), documents)):
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
    finally:
        threads.shutdown(cancel_futures=True)  # so that Ctrl-C does not read to the end
    if pictures is None:
        uri, reason = unread[0]
        raise ConfigurationError(
            f"a shallow network learns from pictures, and none of the {len(documents)} judged ones "
            f"can be read again, such as {uri}: {reason}"
        )
    return Pictures(pictures.small[: len(kept)], pictures.size), kept, unread


def _read(analyzer: Analyzer, document: Document) -> Pictures | str:
    """The picture of a document, or why there is none."""
    if in_memory(document.uri):
        return "came from memory and cannot be read again"
    try:
        picture = analyzer.open(document.uri)
    except ImageError as error:
        return error.reason
    if picture.sha256 != document.sha256:
        return "has changed since it was indexed"
    return Pictures.of(whole_of(analyzer.prepare(picture.image))[np.newaxis])
